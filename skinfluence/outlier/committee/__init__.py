"""Models that judge rows which they were not trained on, and how they are pooled."""
