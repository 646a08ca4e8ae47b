"""Measurements with goals: each prints a table and writes JSON (see ``report``)."""
