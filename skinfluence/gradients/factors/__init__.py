"""Per-sample gradients of one layer, kept as factors, and the rules that find them."""
