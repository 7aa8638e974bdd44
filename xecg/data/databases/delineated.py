"""Databases of PhysioNet whose P, QRS and T were marked by hand: LUDB and the QT Database."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from xecg.data.databases.base import AF, LEFT_OUT, NOT_AF, LabelledRecording, Rhythms, RhythmSpan
from xecg.data.databases.labels import beats
from xecg.data.databases.physionet import MITDB, PHYSIONET, SVDB, PhysioNet
from xecg.errors import RecordError
from xecg.signal.recording import Recording
from xecg.signal.waves import BEAT_SYMBOLS, NOT_ANNOTATED, wave_codes
from xecg.signal.wfdb import Annotations, read_annotations

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")

# Rhythms in which the atria beat without P waves, and what they say about AF.
RHYTHMS_WITHOUT_P = {"Atrial fibrillation": AF, "Atrial flutter, typical": LEFT_OUT}

# The header names the record that an excerpt was cut from. MIT-BIH Arrhythmia records have the
# numbers 100-124 and 200-234; 3xx are from the ST change, 8xx from the supraventricular database.
_CUT_FROM = re.compile(r"from record (1[0-2]\d|2[0-3]\d|8\d\d)\b")

# The European ST-T Database (records e....) has 90 records of 79 people. Of the people with more
# than one, three are here twice; the headers agree in their age, sex and diagnoses.
_SAME_PERSON = {"sele0122": "sele0121", "sele0126": "sele0124", "sele0133": "sele0129"}

# Two marked beats are neighbours if they are nearer than this many typical RR intervals.
_NEIGHBOURS = 1.5


class LUDB(PhysioNet):
    """Ten-second records of 200 people, waves annotated on each lead (``.i``, ``.ii``, ...).

    The annotators worked from about 1.3 s to 8.6 s; outside, the codes are ``NOT_ANNOTATED``.
    In AF and flutter no P is marked because there is none. In six other records (paced rhythms,
    third-degree AV block) P is never marked although the atria are in sinus rhythm; these get
    no codes, see ``p_waves_are_marked``. Rhythms are those of the headers.
    """

    name = "ludb"
    title = "Lobachevsky University Electrocardiography Database"
    version = "1.0.1"
    citation = (
        "Kalyakulina AI et al. LUDB: a new open-access validation tool for electrocardiogram "
        "delineation algorithms. IEEE Access 8:186181-186190, 2020. "
        f"doi:10.1109/ACCESS.2020.3029211; {PHYSIONET}"
    )
    url = "https://physionet.org/content/ludb/1.0.1/"
    leads = "all"
    markers = ("[0-9]*.avr",)
    download = ("RECORDS", "data/*")

    def read(self, record: str) -> LabelledRecording:
        """Reads one record, its rhythm and the waves of each of its leads."""
        labelled = super().read(record)
        recording, (rhythm,) = labelled.recording, labelled.rhythms
        standard = {lead.lower(): lead for lead in LEADS}
        leads = tuple(standard.get(lead.lower(), lead) for lead in recording.leads)
        codes = {}
        for lead in leads:
            waves = read_annotations(self.folder / record, lead.lower())
            if p_waves_are_marked(waves) or rhythm.label in RHYTHMS_WITHOUT_P:
                codes[lead] = wave_codes(waves, recording.n_samples, region=None)
        return replace(labelled, recording=replace(recording, leads=leads), codes=codes)

    def rhythms(self, record: str, recording: Recording, marks: Annotations) -> Rhythms:  # noqa: ARG002
        """Returns the rhythm that the header names."""
        if not (rhythm := (recording.comment("Rhythm") or "").rstrip(".")):
            expected = "a comment '#Rhythm: ...' in the header"
            raise RecordError(f"{record}: expected {expected}, found none; fetch the header again")
        af = RHYTHMS_WITHOUT_P.get(rhythm, NOT_AF)
        return (RhythmSpan(0.0, recording.duration_s, rhythm, af),)


class QTDB(PhysioNet):
    """Fifteen-minute records; manual wave boundaries (``.q1c``) hold for both leads.

    Only some thirty beats of each record are marked, and in 41 records not in one run. The
    codes are ``NOT_ANNOTATED`` before, after and between the runs, see ``unmarked_stretches``.

    On nine records P is marked on fewer than half of the beats. In sel221 because of AF: its
    codes stay. In the other eight that is no knowledge (in sel310 the P waves are plain to see):
    these get no codes, see ``p_waves_are_marked``. 24 records have no ``.atr``.
    """

    name = "qtdb"
    title = "QT Database"
    citation = (
        "Laguna P, Mark RG, Goldberger A, Moody GB. A database for evaluation of algorithms for "
        "measurement of QT and other waveform intervals in the ECG. Computers in Cardiology "
        f"24:673-676, 1997. doi:10.1109/CIC.1997.648140; {PHYSIONET}"
    )
    url = "https://physionet.org/content/qtdb/1.0.0/"
    markers = ("sel*.q1c",)
    download = ("RECORDS", "sel*.hea", "sel*.dat", "sel*.atr", "sel*.q1c")
    changed = ("sel*.hea", "sel233.atr")  # 57 headers have later signal names, sel233.atr is gone

    def read(self, record: str) -> LabelledRecording:
        """Reads one record with its waves and, where they were annotated, rhythms and beats."""
        labelled = super().read(record)
        recording, codes = labelled.recording, {}
        waves = read_annotations(self.folder / record, "q1c")
        if p_waves_are_marked(waves) or any(rhythm.af == AF for rhythm in labelled.rhythms):
            of_both = wave_codes(waves, recording.n_samples, region=None)
            for start, stop in unmarked_stretches(waves):
                of_both[start:stop] = NOT_ANNOTATED
            codes = dict.fromkeys(recording.leads, of_both)
        return replace(labelled, person=person_of(record, recording.comments), codes=codes)


def person_of(record: str, comments: tuple[str, ...]) -> str:
    """Returns the person of a record, named as in mitdb or svdb where it is cut from there."""
    for comment in comments:
        if cut := _CUT_FROM.search(comment):
            origin = SVDB if cut[1].startswith("8") else MITDB
            return origin.person_of(cut[1])
    return f"qtdb-{_SAME_PERSON.get(record, record)}"


def unmarked_stretches(annotations: Annotations) -> list[tuple[int, int]]:
    """Returns stretches between the first and the last mark of which the annotator said nothing.

    Where two successive marked beats are farther apart than 1.5 typical RR intervals, beats
    between them may be unmarked; the widest step between marks there is such a stretch, from its
    first sample to the one after its last. A typical RR interval is the first quartile, for in some
    records every second beat is marked. A pause between true neighbours is lost, which does no
    harm.
    """
    samples = annotations.samples
    peaks = [i for i, symbol in enumerate(annotations.symbols) if symbol in BEAT_SYMBOLS]
    rr = np.diff(samples[peaks])
    typical = np.percentile(rr, 25) if len(rr) else 0.0
    stretches = []
    for i in np.flatnonzero(rr > _NEIGHBOURS * typical):
        marks = samples[peaks[i] : peaks[i + 1] + 1]
        widest = np.argmax(np.diff(marks))
        stretches.append((int(marks[widest]) + 1, int(marks[widest + 1])))
    return stretches


def p_waves_are_marked(annotations: Annotations) -> bool:
    """Returns whether an annotator who marked QRS complexes marked the P waves before them too.

    In some records QRS and T are marked and P never or once, although P waves can be seen
    (paced rhythms, AV block, P taken for U): there a beat without a P mark does not say that it
    has no P wave. The line is drawn at P waves on half of the beats.
    """
    return 2 * annotations.symbols.count("p") >= len(beats(annotations)[1])
