import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xecg.errors import RecordError
from xecg.signal.recording import Recording


def make(leads=("I", "II"), n_samples=500, **changes):
    samples = np.arange(len(leads) * n_samples, dtype=np.float32).reshape(len(leads), n_samples)
    values = {
        "name": "r1",
        "samples": samples,
        "sampling_rate": 250.0,
        "leads": tuple(leads),
        "units": ("mV",) * len(leads),
    }
    return Recording(**(values | changes))


def test_length_in_samples_and_seconds():
    recording = make(n_samples=500)
    assert recording.n_samples == 500
    assert recording.duration_s == 2.0


@pytest.mark.parametrize(
    ("leads", "preferred"),
    [
        (("I", "II", "III"), "II"),
        (("V5", "MLII"), "MLII"),
        (("aVR", "I"), "I"),
        (("V5", "ECG"), "V5"),
        (("RESP", "ECG"), "ECG"),
        (("RESP,", "PLETH,", "V,", "II,"), "II,"),
        (("Resp", "ECG lead II"), "ECG lead II"),
        (("ABP", "PLETH", "ECG V"), "ECG V"),
        (("PACING", "ECG II"), "ECG II"),
        (("ECG Resp", "ecg"), "ecg"),
        (("ECG1", "ECG2"), "ECG1"),
        (("MDC_ECG_LEAD_I", "MDC_ECG_LEAD_II"), "MDC_ECG_LEAD_II"),
        (("Fetal ECG", "Channel V1"), "Channel V1"),
        (("Lead 1", "Lead 2", "Lead 3"), "Lead 2"),
        (("lead-III", "LeadII"), "LeadII"),
        (("V1", "DII"), "DII"),
        (("aVF", "ml2"), "ml2"),
        (("EKG (II)", "EKG I [mV]"), "EKG I [mV]"),
        (("P1", "MCL1", "CM5"), "MCL1"),
        (("SpO2", "V1-V2"), "V1-V2"),
        (("x", "vx"), "vx"),
        (("unnamed 1",), "unnamed 1"),
        (("ecg_ii", "Ⅱ"), "ecg_ii"),
        (("II (Resp)", "EKG1-EKG2"), "EKG1-EKG2"),
        (("EEG", "ECG raw"), "ECG raw"),
        (("Modified lead II", "V5"), "Modified lead II"),
        (("i", "ii"), "ii"),
        (("MLII", "II"), "II"),
        (("ECG_SQI", "ECG"), "ECG"),
        (("ECG LeadOff", "ECG"), "ECG"),
        (("ECG time", "ECG"), "ECG"),
        (("ecg_timestamp", "ecg"), "ecg"),
        (("EKG Frequenz", "EKG"), "EKG"),
        (("foetal ECG", "ECG maternal"), "ECG maternal"),
        (("CS1", "CS2", "ECG"), "ECG"),
        (("ECG_HR", "ECG denoised"), "ECG denoised"),
        (("PPG", "CS5"), "CS5"),
        (("ECG spare", "ECG 1"), "ECG 1"),
        (("ECG spare", "V5"), "V5"),
        (("EKG1-REF", "ECG spare"), "EKG1-REF"),
    ],
)
def test_preferred_lead(leads, preferred):
    assert leads[make(leads).choose_lead()] == preferred


@pytest.mark.parametrize(
    "leads",
    [
        ("RESP",),
        ("ART", "CVP", "PAP", "ICP", "CO2"),
        ("Pulse", "PPG", "Pleth", "SpO2"),
        ("V Pacing", "Marker", "event II", "ECG status", "ECG rate", "HR (ECG)", "lead off"),
        ("EEG", "EOG", "EMG", "Temp", "Airflow", "ST II", "IP"),
        ("channel 1",),
        ("unnamed 1", "unnamed 2"),
        ("X", "Y", "Z"),
        ("ECG_R_Peaks", "ECG_P_Peaks", "ECG_Phase_Atrial", "ECG envelope", "ECG noise", "ECG ref"),
        ("ECG gnd", "ECG battery", "ECG flag", "ECG label", "ECG error", "EKG mask"),
        ("Herzfrequenz EKG", "ECG_ST", "ECG_Time"),
    ],
)
def test_a_channel_that_is_not_known_as_an_ecg_is_not_taken(leads):
    listed = re.escape(", ".join(leads))
    with pytest.raises(RecordError, match=rf"its leads are {listed}\. .* --lead"):
        make(leads).choose_lead()


OF_OTHERS = (
    "mmHg cmH2O bpm % pm Ohm kPa Pa bar torr cmH20 Ω kΩ Ω ohms kOhm degC °C ℃ g m/s2 m/s"
    " l/min rpm breaths/min counts/min uS mA A s mV/s K N"
)
OF_ECGS = (
    "mV uV µV μV nV V MV Volts millivolt microvolts mVolt uV/LSB \ufffdV ÂµV"
    " NU n/a a.u. adu ADC counts - 1 ? II"
)


@pytest.mark.parametrize("unit", [*OF_OTHERS.split(), "mm Hg"])
@pytest.mark.parametrize("lead", ["unnamed 1", "V", "II"])
def test_a_channel_in_units_of_something_else_is_no_ecg(lead, unit):
    with pytest.raises(RecordError, match="known as an ECG"):
        Recording("r", np.ones((1, 10)), 250.0, (lead,), (unit,)).choose_lead()


@pytest.mark.parametrize(
    "unit", [*OF_ECGS.split(), "", " mV ", "0.1 uV", "unknown unit", "ADC units", "digital units"]
)
@pytest.mark.parametrize("lead", ["unnamed 1", "II"])
def test_a_channel_in_volts_or_in_an_unknown_unit_may_be_an_ecg(lead, unit):
    assert Recording("r", np.ones((1, 10)), 250.0, (lead,), (unit,)).choose_lead() == 0


@pytest.mark.parametrize(
    ("leads", "units", "asked"),
    [
        (("V", "ECG"), ("m/s", "mV"), None),
        (("I", "ECG"), ("mA", "mV"), None),
        (("I", "V1"), ("kOhm", "mV"), None),
        (("ECG SQI", "ECG"), ("%", "mV"), None),
        (("II", "V5"), ("mmHg", "mV"), None),
        (("V (velocity)", "ECG"), ("mV", "mV"), None),
        (("ii", "II"), ("kPa", "mV"), "Lead II"),
    ],
)
def test_channels_in_units_of_something_else_are_passed_over(leads, units, asked):
    assert make(leads, units=units).choose_lead(asked) == 1


def test_a_lead_goes_by_what_people_call_it():
    leads = ("RESP", "ECG lead II", "v1", "sternum")
    asked = {"II": 1, "lead 2": 1, "ecg ii": 1, "V1": 2, "sternum": 3}
    assert {name: make(leads).choose_lead(name) for name in asked} == asked
    with pytest.raises(RecordError, match="no lead 'RESP' that is an ECG"):
        make(leads).choose_lead("RESP")


@given(st.permutations(["I", "II", "III", "aVR", "V1"]))
def test_preference_does_not_depend_on_the_order_of_leads(leads):
    assert leads[make(leads).choose_lead()] == "II"


def test_lead_by_name_ignores_case_unless_both_occur():
    assert make(("i", "ii")).choose_lead("II") == 1
    assert make(("v1", "V1")).choose_lead("V1") == 1


def test_missing_lead_names_those_that_exist():
    with pytest.raises(RecordError, match=r"'r1' has no lead 'V2'.*I, II"):
        make().choose_lead("V2")


def test_samples_become_float32_and_sequences_tuples():
    recording = make(samples=np.zeros((2, 9), dtype=np.int16), leads=["I", "II"])
    assert recording.samples.dtype == np.float32
    assert recording.leads == ("I", "II")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": np.zeros(9)}, r"shape \(leads, time\)"),
        ({"samples": np.zeros((2, 0))}, r"shape \(leads, time\)"),
        ({"samples": np.zeros((2, 9), dtype=complex)}, "complex128"),
        ({"samples": np.full((2, 9), np.inf)}, "infinite"),
        ({"samples": np.zeros((3, 9))}, "3 leads"),
        ({"units": ("mV",)}, "1 units"),
        ({"leads": ("I", "I")}, "unique"),
        ({"leads": ("I", "")}, "not empty"),
        ({"sampling_rate": 0.0}, "positive sampling rate"),
        ({"sampling_rate": float("nan")}, "positive sampling rate"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(RecordError, match=message):
        make(**changes)


def test_missing_samples_are_kept():
    samples = np.array([[1.0, np.nan]])
    assert np.isnan(make(("I",), samples=samples).samples[0, 1])


def test_a_comment_is_found_by_its_key_whatever_its_case():
    recording = make(comments=("Age: 69", "69 M", " dx : 164889003,1 ", "Dx: 2"))
    assert recording.comment("Dx") == "164889003,1"
    assert recording.comment("69 M") is None
