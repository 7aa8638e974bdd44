"""Databases of PhysioNet whose reference annotations (``.atr``) name the rhythm."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from xecg.data.databases.base import Database, Download, LabelledRecording
from xecg.data.databases.labels import UNLABELLED, beats, rhythm_spans
from xecg.signal.recording import Recording
from xecg.signal.wfdb import read_annotations, read_recording

PHYSIONET = (  # to be cited with each of its databases
    "Goldberger AL et al. PhysioBank, PhysioToolkit, and PhysioNet. "
    "Circulation 101(23):e215-e220, 2000. doi:10.1161/01.CIR.101.23.e215"
)


class PhysioNet(Database):
    """Records with reference annotations (``.atr``) of rhythms, of beats, or of both.

    AFIB is AF; AFL (atrial flutter) is left out of AF classification, and so is what precedes a
    record's first rhythm annotation; every other rhythm is not AF. A subclass says which files are
    the records, and what else is known.
    """

    licence = "ODC-BY 1.0"
    version = "1.0.0"
    files: ClassVar[tuple[str, ...]]  # one of each record, as patterns below the folder
    annotated: ClassVar[bool] = True  # has .atr
    ends_annotated: ClassVar[bool] = False  # nothing is known after the last annotation

    def records(self) -> list[str]:
        """Returns the records' names, sorted: paths below the folder, without ending."""
        found = {path for like in self.files for path in self.folder.glob(like)}
        return sorted(path.relative_to(self.folder).with_suffix("").as_posix() for path in found)

    def read(self, record: str) -> LabelledRecording:
        """Reads one record, its person, and the rhythms and beats that were annotated."""
        path = self.folder / record
        labelled = LabelledRecording(read_recording(path), self.person_of(path.name))
        if not self.annotated:
            return labelled
        recording, reference = labelled.recording, read_annotations(path, "atr")
        last = reference.samples.max(initial=0) if self.ends_annotated else recording.n_samples
        before = self.rhythm_before(recording)
        rhythms = rhythm_spans(reference, int(last), recording.sampling_rate, before)
        r_peaks, symbols = beats(reference)
        if not symbols:  # nobody annotated them
            return replace(labelled, rhythms=rhythms)
        return replace(labelled, rhythms=rhythms, r_peaks=r_peaks, beat_symbols=symbols)

    def rhythm_before(self, recording: Recording) -> str:  # noqa: ARG002
        """Returns the rhythm before the first one that is annotated."""
        return UNLABELLED

    @classmethod
    def person_of(cls, name: str) -> str:
        """Returns the person of a record, by the name of its files."""
        return f"{cls.name}-{name}"


class AFDB(PhysioNet):
    """Ten-hour Holter records of 25 people, most with paroxysmal AF; rhythms by hand.

    The records 00735 and 03665 have no signals and are passed over. ``.atr`` holds no beats, and
    those of ``.qrs`` are a detector's.
    """

    name = "afdb"
    title = "MIT-BIH Atrial Fibrillation Database"
    citation = (
        "Moody GB, Mark RG. A new method for detecting atrial fibrillation using R-R intervals. "
        f"Computers in Cardiology 10:227-230, 1983; {PHYSIONET}"
    )
    url = "https://physionet.org/content/afdb/1.0.0/"
    markers = ("0[0-9][0-9][0-9][0-9].dat",)
    files = markers
    download = Download(("RECORDS", "0????.hea", "0????.dat", "0????.atr"))


class LTAFDB(PhysioNet):
    """Day-long Holter records of 84 people with paroxysmal or sustained AF, every beat annotated.

    What follows the last annotation is unlabelled. It is not published whether the records of
    ``aftdb`` were cut from these: do not train on one and test on the other.
    """

    name = "ltafdb"
    title = "Long-Term AF Database"
    citation = (
        "Petrutiu S, Sahakian AV, Swiryn S. Abrupt changes in fibrillatory wave characteristics at "
        "the termination of paroxysmal atrial fibrillation in humans. Europace 9:466-470, 2007. "
        f"doi:10.1093/europace/eum096; {PHYSIONET}"
    )
    url = "https://physionet.org/content/ltafdb/1.0.0/"
    markers = ("[0-9][0-9].atr", "[0-9][0-9][0-9].atr")
    ends_annotated = True
    files = ("[0-9][0-9].hea", "[0-9][0-9][0-9].hea")
    download = Download(("RECORDS", "[0-9]*.hea", "[0-9]*.dat", "[0-9]*.atr"))


class CPSC2021(PhysioNet):
    """Pieces of Holter and wearable records of 105 people, at 200 Hz; beats and episodes of AF.

    All episodes are marked from ``(AFIB`` or ``(AFL`` to ``(N``: what precedes the first is not AF,
    nor is a record without any, if its header gives a diagnosis other than persistent AF.
    ``data_61_3`` is of person 61.
    """

    name = "cpsc2021"
    title = "Paroxysmal Atrial Fibrillation Events Detection (China Physiological Signal Challenge)"
    licence = "open access, see its page"
    citation = (
        "Wang X et al. Paroxysmal atrial fibrillation events detection from dynamic ECG "
        "recordings: the 4th China Physiological Signal Challenge 2021. PhysioNet, 2021. "
        f"doi:10.13026/ksya-qw89; {PHYSIONET}"
    )
    url = "https://physionet.org/content/cpsc2021/1.0.0/"
    markers = ("*/data_[0-9]*_[0-9]*.atr", "data_[0-9]*_[0-9]*.atr")
    files = ("*/data_[0-9]*_[0-9]*.hea", "data_[0-9]*_[0-9]*.hea")
    download = Download(("*data_*.hea", "*data_*.dat", "*data_*.atr"))

    def rhythm_before(self, recording: Recording) -> str:
        """Returns ``N`` by the diagnosis in the header."""
        diagnoses = {comment.strip().lower() for comment in recording.comments}
        known = diagnoses & {"non atrial fibrillation", "paroxysmal atrial fibrillation"}
        return "N" if known else UNLABELLED

    @classmethod
    def person_of(cls, name: str) -> str:
        """Returns the person of a record."""
        return f"{cls.name}-{name.split('_')[1]}"
