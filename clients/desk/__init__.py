"""Desk of a hospital: jobs that were offered, what each asks for, and what its people said."""

from clients.desk.approvals import Approvals, Status
from clients.desk.asked import Asked
from clients.desk.decision import Decision

__all__ = ["Approvals", "Asked", "Decision", "Status"]
