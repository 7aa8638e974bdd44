"""Branches, heads and the two-branch network: torch alone."""
