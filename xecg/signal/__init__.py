"""From a WFDB record to windows: NumPy only."""
