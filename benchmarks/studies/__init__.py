"""What scores are good for beside finding errors: scripts, each with an answer of its own."""
