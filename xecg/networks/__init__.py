"""Branches, heads and the two-branch network: torch alone."""

FUSED = "fused"  # what all branches decide together, beside the names of the branches
