"""Interpretable ECG deep learning for the detection of atrial fibrillation."""
