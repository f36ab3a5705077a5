"""The routes from a batch to its per-sample gradients, and the one loop that takes them."""
