"""Gradient embeddings, and the detectors that judge them."""
