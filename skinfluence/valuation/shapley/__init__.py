"""Shapley values from random orders of the rows."""
