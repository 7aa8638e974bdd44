"""The ladder of frozen depths: its cells, its statistics, its report."""
