"""MIT-BIH Arrhythmia Database: two-lead ambulatory ECGs, every beat and rhythm annotated."""

from xecg.data.databases.base import Download
from xecg.data.databases.physionet import PHYSIONET, PhysioNet


class MITDB(PhysioNet):
    """Half-hour records of 47 people with beat and rhythm annotations."""

    name = "mitdb"
    title = "MIT-BIH Arrhythmia Database"
    citation = (
        "Moody GB, Mark RG. The impact of the MIT-BIH Arrhythmia Database. IEEE Engineering in "
        f"Medicine and Biology Magazine 20(3):45-50, 2001. doi:10.1109/51.932724; {PHYSIONET}"
    )
    url = "https://physionet.org/content/mitdb/1.0.0/"
    # Not the folder x_mitdb beside the records: it repeats parts of them.
    markers = ("[12][0-9][0-9].atr",)
    files = ("[12][0-9][0-9].hea",)
    download = Download(("RECORDS", "[12]??.hea", "[12]??.dat", "[12]??.atr"))

    @classmethod
    def person_of(cls, name: str) -> str:
        """Returns the person of a record; 201 and 202 are from one tape of one man."""
        return f"mitdb-{'201' if name == '202' else name}"
