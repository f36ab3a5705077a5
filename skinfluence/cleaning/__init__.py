"""Training sets and models without their most detrimental rows."""
