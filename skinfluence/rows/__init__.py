"""What the user gave, checked and parsed once."""
