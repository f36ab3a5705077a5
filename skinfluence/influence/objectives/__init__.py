"""What is to be lowered: a loss, a fairness gap, an adversary's success."""
