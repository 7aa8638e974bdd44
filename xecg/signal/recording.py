"""An ECG recording: samples in physical units with the names and units of its leads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from xecg.errors import RecordError

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
# Lead II, in which P waves stand out, or a lead like it (MLII, the modified lead II of
# ambulatory recorders); hand-held devices record about lead I.
_PREFERRED = ("ii", "mlii", "i")
UNNAMED = "unnamed"  # the name of a channel without one, and its number

_WORDS_OF_ECG = re.compile("ecg|ekg|mdc|lead|limb|chest|modified|mod|channel|waveform|signal")
_CODE_OF_ECG = re.compile(
    r"i{1,3}|av[rlf]|(v([1-9]r?|[xyz])?){1,2}|v[1-9]r|ml(i{1,3}|[1-6])|mcl[1-9]|mv[1-9]"
    r"|c[bcmr][1-9]|cs5|d[1-4]"  # other CS are catheters in the coronary sinus
)
# Channels that are recorded beside an ECG or derived from it, whatever else their names say.
_NO_ECG = re.compile(
    r"resp|pleth|ppg|spo|sao|o2|abp|art|bp|cvp|pap|icp|press|puls|pace|pacing|mark|event|trig|rate"
    r"|status|quality|annot|eeg|emg|eog|temp|flow|imped|acc|pcg|phono|beat|derived|interval|level"
    r"|fo?etal|fecg|veloc|sqi|lead.?off|timestamp|freq|peak|phase|envelope|(?<!de)noise|batter|flag"
    r"|label|error|mask|[ _](ref|gnd)$|(?<![^\W_])(hr|st|qt|rr|edr|off|time)(?![^\W_])"
)
# Voltages, units that say nothing, and what a table has in the unit's place, as in "ECG (II)".
_UNIT_OF_ECG = re.compile(
    r"([\d.]+ ?)?(nano|micro|milli|[num\u03bc?\ufffd]|\xe2\u03bc)?v(olts?)?(/(bit|lsb|adu|count))?"
    r"|(un|ad[cu]|raw|digi|count|lsb|bit|arb|norm|standard|scaled|filt|dimensionless|none)[^/]*"
    rf"|a\.?u\.?|n[./]?[adu]\.?|[\d?*_.-]*|{_CODE_OF_ECG.pattern}"
)


def is_unit_of_ecg(unit: str) -> bool:
    """Returns whether an ECG can be in a unit: a voltage, or one that is not known."""
    return bool(_UNIT_OF_ECG.fullmatch(normalize("NFKC", unit).casefold().strip()))


def ecg_lead(name: str, unit: str = "mV") -> str:
    """Returns a lead as it is compared, "ii" for "Lead 2"; empty if not known as one of an ECG."""
    name = normalize("NFKC", name).casefold()
    if _NO_ECG.search(name) or not is_unit_of_ecg(unit):
        return ""
    name = re.sub(r"[(\[].*?[)\]]", "", name)
    words = _WORDS_OF_ECG.findall(name)
    code = re.sub(r"[\W_]", "", _WORDS_OF_ECG.sub("", name))
    limb = re.fullmatch(r"(d|ml|)(i{1,3}|[1-3])", code)
    if limb and (limb[1] or "lead" in words):  # the leads of "ECG1" and "ECG2" are not known
        code = limb[1].removeprefix("d") + {"1": "i", "2": "ii", "3": "iii"}.get(limb[2], limb[2])
    if _CODE_OF_ECG.fullmatch(code):
        return code
    known = {"ecg", "ekg"} & {*words} or ("lead" in words and code.isdecimal())
    return f"ecg{code}" if known else ""


@dataclass(frozen=True, eq=False)
class Recording:
    """One or more leads that were recorded together.

    ``samples`` (leads, time) are float32 in ``units``, NaN where one is missing. Names of leads are
    unique, none is empty; ``comments`` are free text of the record, such as diagnoses. Raises
    RecordError if the parts do not fit each other, or samples are infinite.
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
            expected = "samples as real numbers of shape (leads, time) with at least one of each"
            found = f"{samples.dtype} of shape {samples.shape}"
            raise RecordError(f"Record {self.name!r}: expected {expected}, found {found}.")
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
        """Returns the position of a lead, by its name as people write it.

        "II" is "ECG lead II" too; None takes II, MLII, I, else the first lead that is known as one
        of an ECG, those with other words ("ECG spare") last; a single channel without a name is
        taken for one. Channels in units of something else are passed over. Raises RecordError if
        there is none, or if it is no ECG; the message names the channels.
        """
        if lead is None:
            leads = [ecg_lead(name) for name in self.leads]
            plain = [one for one in leads if re.fullmatch(r"ecg\d*|(?!ecg).+", one)]
            wanted = [(leads, one) for one in (*_PREFERRED, *plain, *leads)]
        else:
            forms = (str, str.casefold, ecg_lead)
            wanted = [([form(name) for name in self.leads], form(lead)) for form in forms]
        places = [i for names, one in wanted for i, x in enumerate(names) if one and one == x]
        if lead is None and len(self.leads) == 1 and self.leads[0].startswith(UNNAMED):
            places = [0]
        for index in places:
            named_as_ecg = not _NO_ECG.search(self.leads[index].casefold())
            if named_as_ecg and is_unit_of_ecg(self.units[index]):
                return index
        sought = "channel that is known as an ECG" if lead is None else f"lead {lead!r}"
        if places:
            sought += f" that is an ECG, but {self.leads[places[0]]} in {self.units[places[0]]}"
        sought += f"; its leads are {', '.join(self.leads)}"
        cure = "Name the one that is an ECG by --lead (of prepare --leads), or mend its unit."
        raise RecordError(f"Record {self.name!r} has no {sought}. {cure}")
