"""Sums of the sites' vectors of which nobody learns more than the sum.

Nothing is imported here: who reads transcripts needs no arrays, and is to start fast.
"""
