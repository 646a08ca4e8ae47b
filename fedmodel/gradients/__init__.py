"""Gradients per unit of privacy: engines that find their norms, and clippers that bound them."""
