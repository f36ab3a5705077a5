"""What gradients, traces and searches cost: scripts, each with a page of its own to print."""
