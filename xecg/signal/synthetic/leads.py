"""From the heart's dipole to the twelve leads.

The dipole is given in Frank's axes, mV: x to the left, y to the feet, z to the back. The eight
independent leads follow from it by the transform of Dower, Machado & Osborne 1980 (Clin. Cardiol.
3:87), the other four from leads I and II (Einthoven, Goldberger).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xecg.errors import ConfigError

_I = np.array([0.632, -0.235, 0.059])
_II = np.array([0.235, 1.066, -0.132])

_VECTORS = {
    "I": _I,
    "II": _II,
    "III": _II - _I,
    "aVR": -(_I + _II) / 2,
    "aVL": _I - _II / 2,
    "aVF": _II - _I / 2,
    "V1": np.array([-0.515, 0.157, -0.917]),
    "V2": np.array([0.044, 0.164, -1.387]),
    "V3": np.array([0.882, 0.098, -1.277]),
    "V4": np.array([1.213, 0.127, -0.601]),
    "V5": np.array([1.125, 0.127, -0.086]),
    "V6": np.array([0.831, 0.076, 0.230]),
}

LEADS = tuple(_VECTORS)


def lead_vectors(leads: Sequence[str]) -> NDArray[np.float64]:
    """Stack the vectors that project a dipole onto `leads`.

    Args:
        leads: Names among `LEADS`, each at most once.

    Returns:
        Shape (leads, 3): one row per lead.

    Raises:
        ConfigError: No lead, an unknown one, or one named twice.
    """
    unknown = [lead for lead in leads if lead not in _VECTORS]
    if isinstance(leads, str) or unknown or not leads or len(set(leads)) < len(leads):
        raise ConfigError(
            f"leads: expected a list of different names among {', '.join(LEADS)}, found {leads!r}"
        )
    return np.stack([_VECTORS[lead] for lead in leads])
