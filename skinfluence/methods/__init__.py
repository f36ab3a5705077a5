"""What all methods share, and methods made of methods."""
