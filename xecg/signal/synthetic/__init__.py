"""Synthetic ECGs with exact truth: every wave, R peak and rhythm is known because it was put there.

person -> beats (when) -> waves (where, how wide) -> dipole (x, y, z) -> leads -> noise
"""

from xecg.signal.synthetic.ecg import LEADS as LEADS
from xecg.signal.synthetic.ecg import RHYTHMS as RHYTHMS
from xecg.signal.synthetic.ecg import SyntheticECG as SyntheticECG
from xecg.signal.synthetic.ecg import synthesize as synthesize
