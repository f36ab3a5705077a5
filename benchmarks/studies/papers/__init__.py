"""What of the papers' claims holds on a small machine: a module a claim, each its own command."""
