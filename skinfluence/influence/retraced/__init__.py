"""Influence through the steps of a training, walked backwards."""
