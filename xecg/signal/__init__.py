"""From a WFDB record to windows, on NumPy arrays."""
