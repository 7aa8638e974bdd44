"""From WFDB records to predictions and explanations, with weights that are already trained."""
