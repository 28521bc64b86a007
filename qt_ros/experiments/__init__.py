"""Experiments: which cells (method, variant, seed) there are, how each is run, and what is reported."""
