import numpy as np
import pytest

from xecg.data.databases import get_database
from xecg.errors import RecordError
from xecg.signal.synthetic import write_synthetic_database
from xecg.signal.waves import NOT_ANNOTATED, QRS, P, T


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "db"
    write_synthetic_database(
        folder, persons=3, records_per_person=2, duration_s=12.0, af_share=0.5, seed=1,
        leads=("II", "V1"), progress=False,
    )  # fmt: skip
    return get_database("synthetic", folder)


def test_every_record_knows_its_person_beats_rhythm_and_waves(synthetic):
    labelled = [synthetic.read(record) for record in synthetic.records()]
    assert len(labelled) == 6
    assert len({x.person for x in labelled}) == 3
    assert sorted(x.rhythms[0].af for x in labelled) == [0, 0, 0, 1, 1, 1]
    for x in labelled:
        (span,) = x.rhythms
        assert (span.start_s, span.stop_s) == (0.0, x.recording.duration_s)
        assert set(x.codes) == {"II", "V1"}
        codes = x.codes["II"]
        assert NOT_ANNOTATED not in codes
        assert (P in codes) == (span.af == 0)
        assert T in codes
        assert (codes[x.r_peaks] == QRS).mean() > 0.9
        assert len(x.beat_symbols) == len(x.r_peaks) > 5


def test_the_signal_is_read_in_millivolts(synthetic):
    recording = synthetic.read(synthetic.records()[0]).recording
    assert recording.units == ("mV", "mV")
    assert 0.1 < np.ptp(recording.samples) < 20


def test_a_record_that_the_table_does_not_list(synthetic):
    with pytest.raises(RecordError, match="p9999_1"):
        synthetic.read("p9999_1")
