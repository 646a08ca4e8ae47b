"""Desk of a hospital: jobs that were offered, what each asks for, and what its people said."""

from clients.desk.approvals import Approvals, Asked, Status
from clients.desk.decision import Decision

__all__ = ["Approvals", "Asked", "Decision", "Status"]
