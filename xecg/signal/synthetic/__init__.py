"""Synthetic ECGs with exact truth: every wave, R peak and rhythm is known because it was put there.

person -> beats (when) -> waves (where, how wide) -> dipole (x, y, z) -> leads -> noise -> database
"""

from xecg.signal.synthetic.database import RECORDS_FILE, write_synthetic_database
from xecg.signal.synthetic.ecg import (
    LEADS,
    RHYTHMS,
    Noise,
    Rhythm,
    SyntheticECG,
    synthesize,
)

__all__ = [
    "LEADS",
    "RECORDS_FILE",
    "RHYTHMS",
    "Noise",
    "Rhythm",
    "SyntheticECG",
    "synthesize",
    "write_synthetic_database",
]
