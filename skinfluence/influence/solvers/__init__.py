"""Inverse curvature times a gradient: exact, iterative, and by Kronecker factors."""
