"""Sums of the sites' vectors of which nobody learns more than the sum."""

from fedmodel.secagg.fixedpoint import FixedPoint
from fedmodel.secagg.graph import Graph, make_graph, neighbours_needed
from fedmodel.secagg.masking import Sum, mask
from fedmodel.secagg.ring import packed_size

__all__ = [
    "FixedPoint",
    "Graph",
    "Sum",
    "make_graph",
    "mask",
    "neighbours_needed",
    "packed_size",
]
