import dataclasses
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.collections import PathCollection
from matplotlib.image import imread
from matplotlib.patches import PathPatch

from xecg.errors import DataError
from xecg.explain.pictures import (
    PIXELS_PER_MM,
    RELEVANCE,
    ExplainedWindow,
    _coloured_trace,
    amplitude,
    display_relevance,
    draw_page,
    save_page,
)
from xecg.signal.waves import OTHER, QRS, P

RATE, TIME = 250.0, 2500
PEAKS = np.arange(150, TIME, 210)


def make_window(**changes):
    times = np.arange(TIME)
    beats = np.exp(-0.5 * ((times[:, None] - PEAKS) / 4) ** 2).sum(axis=1)
    window = ExplainedWindow(
        record="r<1>",
        lead="II",
        start_s=20.0,
        signal=(1.2 * beats).astype(np.float32),
        unit="mV",
        sampling_rate=RATE,
        r_peaks=PEAKS,
        relevance={"morphology": np.roll(beats, -40), "rhythm": beats},
        p_af={"fused": 0.031, "morphology": 0.02, "rhythm": 0.04},
        predicted={"fused": "non-AF", "morphology": "non-AF", "rhythm": "AF"},
    )
    return dataclasses.replace(window, **changes)


def drawn(**changes):
    return draw_page([make_window(**changes)])


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def traces(figure):
    """The coloured lines of the two strips: what is neither grid nor colour bar."""
    lines = [c for c in figure.axes[0].collections if isinstance(c, PathCollection)]
    return [c for c in lines if np.ptp(points(c)[:, 0]) == pytest.approx(25 * (TIME - 1) / RATE)]


def points(line):
    return np.concatenate([path.vertices for path in line.get_paths()])


def grids(axes):
    """The fine and the bold lines of each strip."""
    patches = [p for p in axes.patches if isinstance(p, PathPatch) and not p.get_fill()]
    return [[*patch.get_path().to_polygons(closed_only=False)] for patch in patches]


def test_ten_seconds_are_as_wide_as_a4_and_two_windows_fit_on_it():
    figure = draw_page([make_window(), make_window(start_s=30.0)])
    width, height = figure.get_size_inches() * 25.4
    assert width == pytest.approx(297)
    assert height <= 210


def test_the_trace_is_25_mm_per_second_and_10_mm_per_mv():
    morphology, rhythm = traces(drawn())
    for trace in (morphology, rhythm):
        assert np.ptp(points(trace)[:, 1]) == pytest.approx(12, abs=0.01)


def test_the_baseline_lies_on_a_bold_line():
    figure = drawn(signal=make_window().signal + np.float32(0.37))
    bold = [lines for lines in grids(figure.axes[0]) if len(lines) == 55 + 6]
    levels = {round(float(s[0, 1]), 3) for lines in bold for s in lines if s[0, 1] == s[1, 1]}
    assert len(bold) == 2
    for trace in traces(figure):
        baseline = np.median(points(trace)[:, 1])
        assert round(float(baseline), 3) in levels


def test_each_strip_is_coloured_by_its_own_branch():
    figure = drawn()
    high = RELEVANCE(1.0)
    left = 13.5 + 15
    for trace, shift in zip(traces(figure), (-40, 0), strict=True):
        hot = [
            piece[:, 0].mean()
            for path, colour in zip(trace.get_paths(), trace.get_edgecolors(), strict=True)
            for piece in path.to_polygons(closed_only=False)
            if np.allclose(colour, high)
        ]
        seconds = (np.array(hot) - left) / 25
        expected = (PEAKS + shift) / RATE
        assert len(hot) >= len(PEAKS) - 1
        assert np.abs(seconds[:, None] - expected).min(axis=1).max() < 0.03


def said(**changes):
    return "\n".join(texts(drawn(**changes)))


def test_titles_name_record_lead_time_prediction_and_probabilities():
    found = texts(drawn(band_hz=(0.5, 40.0), threshold=0.2))
    assert "r<1>" in found
    assert "lead II   ·   20 to 30 s" in found
    assert "non-AF" in found
    assert any(text.startswith("P(AF) 0.03, called AF above 0.2") for text in found)
    assert "Morphology branch (shape of each beat)" in found
    assert "says non-AF, P(AF) 0.02   ·   coloured: its evidence for non-AF" in found
    assert "says AF, P(AF) 0.04   ·   coloured: its evidence for AF" in found
    assert any("filtered from 0.5 Hz to 40 Hz" in text for text in found)
    assert [text for text in found if text.isdigit()] == [str(second) for second in range(20, 31)]


def test_a_branch_without_relevance_has_no_evidence_for_what_it_predicts():
    relevance = make_window().relevance | {"rhythm": np.zeros(TIME)}
    found = said(relevance=relevance)
    assert "its evidence for non-AF" in found
    assert "no positive evidence for AF" in found


@pytest.mark.parametrize(
    ("p_af", "threshold", "doubtful"),
    [
        (0.99, 0.5, False),
        (0.7, 0.5, True),
        (0.3, 0.5, True),
        (0.24, 0.5, False),
        (0.4, 0.2, True),
        (0.45, 0.2, False),
        (0.1, 0.0, False),
        (1.0, 1.0, False),
    ],
)
def test_doubt_reads_and_looks_different(p_af, threshold, doubtful):
    window = make_window(p_af={"fused": p_af}, threshold=threshold)
    figure = draw_page([window])
    box = next(text for text in figure.axes[0].texts if text.get_bbox_patch())
    assert window.doubtful == doubtful
    assert ("close to the threshold" in "\n".join(texts(figure))) == doubtful
    assert ("(doubtful)" in box.get_text()) == doubtful
    assert (box.get_bbox_patch().get_facecolor() == (1, 1, 1, 1)) == doubtful


def test_branches_that_disagree_are_told():
    assert "the branches disagree: morphology says non-AF, rhythm says AF" in said()
    agreed = dict.fromkeys(("fused", "morphology", "rhythm"), "AF")
    assert "disagree" not in said(predicted=agreed)


def test_qrs_complexes_of_the_morphology_branch_in_af_are_explained():
    in_af = dict.fromkeys(("fused", "morphology", "rhythm"), "AF")
    assert said(predicted=in_af).count("by their shape here") == 1
    assert "by their shape here" not in said()
    assert said(explained="AF").count("coloured: its evidence for AF") == 2


def bands(figure):
    """Edges in s of the bands of each strip, P and QRS."""
    patches = [p for p in figure.axes[0].patches if isinstance(p, PathPatch) and p.get_fill()]
    outlines = [[*patch.get_path().to_polygons()] for patch in patches]
    return [
        [(np.ptp(o[:, 0]) / 25, (o[:, 0].min() - 28.5) / 25) for o in some] for some in outlines
    ]


def test_p_and_qrs_are_marked_around_r_peaks_or_as_annotated():
    usual = drawn()
    p, qrs, *_ = bands(usual)
    assert len(bands(usual)) == 4
    assert p[1] == pytest.approx((0.16, PEAKS[1] / RATE - 0.22))
    assert qrs[1] == pytest.approx((0.1, PEAKS[1] / RATE - 0.05), abs=0.005)
    assert any("not measured" in text for text in texts(usual))
    waves = np.full(TIME, OTHER)
    waves[500:525], waves[550:560] = P, QRS
    annotated = drawn(waves=waves.astype(np.uint8))
    assert bands(annotated)[0] == [pytest.approx((0.1, 2.0))]
    assert bands(annotated)[1] == [pytest.approx((0.04, 2.2))]
    assert any("as annotated" in text for text in texts(annotated))
    assert bands(drawn(r_peaks=np.array([], int))) == []


def test_a_signal_in_mv_has_its_calibration_and_another_is_called_scaled():
    in_mv, scaled = (texts(drawn(unit=unit)) for unit in ("mV", "NU"))
    assert in_mv.count("1 mV") == 2
    assert any("10 mm/mV" in text for text in in_mv)
    assert "1 mV" not in scaled
    assert any("scaled" in text for text in scaled)
    assert not any("mm/mV" in text for text in scaled)


def test_r_peaks_are_marked_on_each_strip():
    figure = drawn()
    marks = [line for line in figure.axes[0].lines if line.get_marker() == "v"]
    assert len(marks) == 2
    for line in marks:
        assert line.get_xdata() == pytest.approx(13.5 + 15 + 25 * PEAKS / RATE)


def test_a_branch_alone_without_relevance_peaks_or_prediction_can_be_drawn():
    window = make_window(
        relevance={"rhythm": np.zeros(TIME)}, r_peaks=np.array([]), p_af={}, predicted={}
    )
    figure = draw_page([window])
    (trace,) = traces(figure)
    assert np.allclose(trace.get_edgecolors(), RELEVANCE(0.0))
    assert "lead II   ·   20 to 30 s" in texts(figure)


def test_windows_follow_from_top_to_bottom():
    figure = draw_page([make_window(), make_window(start_s=30.0)])
    heights = {t.get_text(): t.get_position()[1] for t in figure.axes[0].texts if t.get_text()}
    assert heights["21"] > heights["39"]


def test_drawing_leaves_pyplot_alone():
    before = "matplotlib.pyplot" in sys.modules
    drawn()
    assert ("matplotlib.pyplot" in sys.modules) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"signal": np.ones((1, TIME))},
        {"signal": np.full(TIME, np.nan)},
        {"relevance": {}},
        {"relevance": {"rhythm": np.ones(10)}},
        {"sampling_rate": 0.0},
        {"r_peaks": np.array([3, TIME])},
        {"waves": np.zeros(3, np.uint8)},
    ],
)
def test_a_window_that_does_not_fit_is_refused(changes):
    with pytest.raises(DataError, match="at 20 s of record r<1>"):
        make_window(**changes)


def test_no_window_makes_no_page():
    with pytest.raises(DataError, match="at least one window"):
        draw_page([])


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_pages_are_written_whole_and_the_same_each_time(tmp_path, ending, start):
    first, again = (save_page([make_window()], tmp_path / f"{name}.{ending}") for name in "ab")
    assert first.read_bytes().startswith(start)
    assert first.read_bytes() == again.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {first.name, again.name}


def test_a_png_prints_in_true_size(tmp_path):
    content = save_page([make_window()], tmp_path / "a.png").read_bytes()
    pixels = int.from_bytes(content[16:20])
    place = content.index(b"pHYs") + 4
    assert pixels == 297 * PIXELS_PER_MM
    assert pixels / int.from_bytes(content[place : place + 4]) == pytest.approx(0.297, rel=1e-3)


def test_a_page_is_saved_as_it_is_drawn(tmp_path):
    windows = [make_window(), make_window(start_s=30.0, record="$b$", note="what to know")]
    draw_page(windows).savefig(slow := tmp_path / "slow.png", dpi=25.4 * PIXELS_PER_MM)
    for name in ("fast.png", "again.png"):  # the second on forms that are there
        fast = imread(save_page(windows, tmp_path / name))
        assert np.abs(fast - imread(slow)).max() <= 0.02
    assert "what to know" in save_page(windows, tmp_path / "a.svg").read_text()


def test_dollars_in_names_are_no_formula(tmp_path):
    window = make_window(record="a$_$b", lead="$x^$", predicted={"fused": "$A$"})
    assert "a$_$b" in texts(draw_page([window]))
    save_page([window], tmp_path / "a.png")


SIGNAL = np.array([0.0, 0.0, 0.0, 1.5, -0.5])


def test_millivolts_are_drawn_at_10_mm():
    heights, gain = amplitude(SIGNAL, "mV")
    assert heights == pytest.approx([0, 0, 0, 15, -5])
    assert gain == 10


@pytest.mark.parametrize(("unit", "factor"), [("uV", 1000), ("µV", 1000), ("V", 0.001), ("mv ", 1)])
def test_other_units_of_voltage_become_millivolts(unit, factor):
    assert amplitude(SIGNAL * factor, unit)[0] == pytest.approx([0, 0, 0, 15, -5])


def test_the_baseline_is_the_median():
    offset, _ = amplitude(SIGNAL + 40, "mV")
    assert offset == pytest.approx([0, 0, 0, 15, -5])


@pytest.mark.parametrize(("peak_mv", "expected"), [(6.0, 10), (6.1, 5), (20.0, 2.5)])
def test_the_gain_is_halved_until_the_trace_fits(peak_mv, expected):
    heights, gain = amplitude(np.array([0.0, 0.0, peak_mv]), "mV")
    assert gain == expected
    assert heights.max() == pytest.approx(peak_mv * gain)


@given(st.floats(1e-6, 1e9), st.sampled_from(["mV", "uV", "V", "NU"]))
def test_no_amplitude_makes_a_page_higher_than_its_traces(factor, unit):
    heights, _ = amplitude(SIGNAL * factor, unit)
    assert np.ptp(heights) <= 60 + 1e-9


@pytest.mark.parametrize("unit", ["NU", "", "mmHg"])
def test_what_has_no_millivolts_is_called_scaled(unit):
    heights, gain = amplitude(SIGNAL, unit)
    assert gain is None
    assert np.ptp(heights) == pytest.approx(20)


def test_a_flat_line_stays_flat():
    for unit in ("mV", "NU"):
        assert (amplitude(np.full(5, 0.5), unit)[0] == 0).all()


def test_the_signal_is_left_as_it_was():
    signal = SIGNAL.copy()
    amplitude(signal, "mV")
    assert (signal == SIGNAL).all()


def test_the_grid_has_a_line_each_millimetre_and_a_bold_one_each_five():
    axes = drawn().axes[0]
    fine, bold, *_ = grids(axes)
    width, height = np.ptp(np.concatenate(fine), axis=0)
    assert len(fine) == width // 1 + 1 + height + 1
    assert len(bold) == width // 5 + 1 + height / 5 + 1
    widths = [p.get_linewidth() for p in axes.patches if isinstance(p, PathPatch)]
    assert widths[1] > widths[0]
    vertical = [segment[0, 0] for segment in bold[:17]]
    assert vertical == pytest.approx(13.5 + np.arange(0, 81, 5))


def test_the_page_is_measured_in_millimetres():
    figure = drawn()
    figure.draw_without_rendering()
    pixels_per_mm = figure.dpi / 25.4
    across = figure.axes[0].transData.transform([[0, 0], [250, 10]])
    assert np.diff(across, axis=0)[0] == pytest.approx([250 * pixels_per_mm, 10 * pixels_per_mm])


def test_the_calibration_pulse_is_1_mv_high_and_200_ms_long():
    pulses = [line for line in drawn().axes[0].lines if len(line.get_xdata()) == 6]
    assert len(pulses) == 2
    for xs, ys in (line.get_data() for line in pulses):
        assert np.ptp(ys) == 10
        assert np.ptp(xs[ys == ys.max()]) == 5


VALUES = arrays(np.float64, 60, elements=st.floats(0, 1))


def luminance(colours):
    """Relative luminance of sRGB colours (WCAG 2)."""
    rgb = np.asarray(colours)[:, :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_colours_darken_steadily_so_that_they_tell_without_hue():
    assert (np.diff(luminance(RELEVANCE(np.linspace(0, 1, 64)))) < 0).all()


def test_even_the_lowest_relevance_stands_out_from_paper():
    contrast = 1.05 / (luminance(RELEVANCE(np.linspace(0, 1, 64))) + 0.05)
    assert contrast.min() >= 3  # what WCAG asks of graphics


def pieces_of(values):
    """Pieces with their levels, from left to right."""
    trace = _coloured_trace(np.stack([np.arange(60.0), values], axis=1), values)
    outlines = trace.get_paths()
    levels = (np.asarray(trace.get_linewidths()) * 25.4 / 72 - 0.3) / 0.6
    assert (np.diff(levels) > 0).all()
    pieces = [
        (piece, level)
        for outline, level in zip(outlines, levels, strict=True)
        for piece in outline.to_polygons(closed_only=False)
    ]
    return sorted(pieces, key=lambda piece: piece[0][0, 0])


@given(VALUES)
def test_lines_draw_the_whole_trace_in_pieces_that_touch(values):
    pieces = [piece for piece, _ in pieces_of(values)]
    assert pieces[0][0, 0] == 0
    assert pieces[-1][-1, 0] == 59
    for piece, following in pairwise(pieces):
        assert (piece[-1] == following[0]).all()


@given(VALUES)
def test_lines_keep_the_value_within_half_a_level(values):
    for piece, level in pieces_of(values):
        assert np.abs(values[piece[:-1, 0].astype(int)] - level).max() <= 0.5 / 31 + 1e-9


def test_display_smooths_over_20_ms_and_ends_at_1():
    relevance = np.zeros(5000)
    relevance[2500] = 7.0
    shown = display_relevance(relevance, 500.0)
    assert np.count_nonzero(shown) == 10
    assert shown.max() == 1


def test_one_outlying_beat_does_not_pale_the_others():
    relevance = np.zeros(2500, dtype=np.float32)
    relevance[100:110] = 3.0
    for beat in range(300, 2500, 200):
        relevance[beat : beat + 10] = 1.0
    shown = display_relevance(relevance, 250.0)
    assert shown[105] == 1
    assert shown[505] == pytest.approx(2 / 3)  # 1 is half of the largest


def test_no_relevance_stays_none():
    assert (display_relevance(np.zeros(100, dtype=np.float32), 250.0) == 0).all()


@given(VALUES, st.floats(1e-6, 1e6))
def test_display_does_not_depend_on_the_scale(values, scale):
    assert display_relevance(values * scale, 250.0) == pytest.approx(
        display_relevance(values, 250.0), abs=1e-6
    )
