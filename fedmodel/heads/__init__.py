"""Heads made of released means: numbers only, of what may be public anyway.

A text's vector x has length 1. On notes that are written by template all vectors are nearly the
same, and what tells classes apart is small beside what they share. So a head is trained on vectors
around their released mean m, rescaled to length 1 in the mean square: s·(x − m). What is kept and
sent is at any time a plain linear head on x (:class:`Frame`), with m folded into its bias.
"""
