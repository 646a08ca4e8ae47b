"""Bundles: a run's evidence in one file, signed by whoever packs it."""
