"""Databases, prepared stores, splits, datasets, data modules."""
