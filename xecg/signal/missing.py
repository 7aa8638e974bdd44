"""Missing samples: bridged for the filters, and remembered."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def bridge_missing(
    signal: NDArray[np.floating],
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Replace NaN by straight lines between the neighbouring samples.

    Filters need every sample, and a line adds the least of its own. At the ends the nearest
    sample is held; a signal of nothing but NaN becomes zeros. What was missing must not be used
    as ECG: it is given back as a mask.

    Args:
        signal: (time,), NaN where samples are missing.

    Returns:
        The signal without NaN, (time,), the same array if none was missing; and the mask of the
        missing samples, (time,).
    """
    missing = np.isnan(signal)
    if not missing.any():
        return signal, missing
    if missing.all():
        return np.zeros_like(signal), missing
    bridged = signal.copy()
    present = ~missing
    bridged[missing] = np.interp(np.flatnonzero(missing), np.flatnonzero(present), signal[present])
    return bridged, missing
