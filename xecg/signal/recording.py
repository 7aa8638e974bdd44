"""An ECG recording: samples in physical units with the names and units of its leads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xecg.errors import RecordError

# Lead II, in which P waves stand out, or a lead like it (MLII, the modified lead II of
# ambulatory recorders); hand-held devices record about lead I.
LEAD_PREFERENCE = ("II", "MLII", "I")


@dataclass(frozen=True, eq=False)
class Recording:
    """One or more leads that were recorded together.

    Args:
        name: Name of the record.
        samples: float32 (leads, time) in ``units``; NaN where a sample is missing. Other real
            types are converted.
        sampling_rate: Samples per second (Hz).
        leads: One name per lead; unique, none empty.
        units: One physical unit per lead, such as "mV".
        comments: Free text of the record, such as diagnoses.

    Raises:
        RecordError: The parts do not fit each other, or samples are infinite.
    """

    name: str
    samples: NDArray[np.float32]
    sampling_rate: float
    leads: tuple[str, ...]
    units: tuple[str, ...]
    comments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        samples = np.asarray(self.samples)
        if samples.ndim != 2 or samples.size == 0 or samples.dtype.kind not in "fiu":
            raise RecordError(
                f"Record {self.name!r}: expected samples as real numbers of shape (leads, time) "
                f"with at least one of each, found {samples.dtype} of shape {samples.shape}."
            )
        object.__setattr__(self, "samples", samples.astype(np.float32, copy=False))
        for field in ("leads", "units", "comments"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        n_leads, n_names, n_units = len(self.samples), len(self.leads), len(self.units)
        if not n_leads == n_names == n_units:
            problem = f"{n_leads} leads of samples need as many names and units, found {n_names} "
            problem += f"names and {n_units} units"
        elif len(set(self.leads)) < n_leads or not all(self.leads):
            problem = f"lead names must be unique and not empty, found {list(self.leads)}"
        elif not 0 < self.sampling_rate < np.inf:
            problem = f"expected a positive sampling rate in Hz, found {self.sampling_rate}"
        elif np.isinf(self.samples).any():
            problem = "infinite samples; mark missing ones by NaN, and check the header's gain"
        else:
            return
        raise RecordError(f"Record {self.name!r}: {problem}.")

    @property
    def n_samples(self) -> int:
        """Samples per lead."""
        return int(self.samples.shape[1])

    @property
    def duration_s(self) -> float:
        """Duration in seconds."""
        return self.n_samples / self.sampling_rate

    def comment(self, key: str) -> str | None:
        """Returns the value of the first comment ``key: value``; case of the key does not count."""
        for comment in self.comments:
            name, colon, value = comment.partition(":")
            if colon and name.strip().lower() == key.lower():
                return value.strip()
        return None

    def choose_lead(self, lead: str | None = None) -> int:
        """Returns the index of a lead by name.

        Args:
            lead: Name of the lead; upper and lower case are the same unless both occur. None
                takes the first of ``LEAD_PREFERENCE`` that exists, else the first lead.

        Raises:
            RecordError: The named lead does not exist; the message names those that do.
        """
        folded = tuple(name.casefold() for name in self.leads)
        for wanted in LEAD_PREFERENCE if lead is None else (lead,):
            for names, name in ((self.leads, wanted), (folded, wanted.casefold())):
                if name in names:
                    return names.index(name)
        if lead is None:
            return 0
        raise RecordError(
            f"Record {self.name!r} has no lead {lead!r}; its leads are {', '.join(self.leads)}. "
            "Name one of them, or none to take the preferred one."
        )

    def lead(self, name: str | None = None) -> NDArray[np.float32]:
        """Returns the samples of one lead, float32 (time,), chosen as in ``choose_lead``."""
        return np.asarray(self.samples[self.choose_lead(name)])
