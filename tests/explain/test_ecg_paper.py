import numpy as np
import pytest

from xecg.explain.pictures import amplitude, draw_calibration, draw_paper, new_canvas

SIGNAL = np.array([0.0, 0.0, 0.0, 1.5, -0.5])


def test_millivolts_are_drawn_at_10_mm():
    trace = amplitude(SIGNAL, "mV")
    assert trace.heights_mm == pytest.approx([0, 0, 0, 15, -5])
    assert trace.text == "10 mm/mV"


@pytest.mark.parametrize(("unit", "factor"), [("uV", 1000), ("µV", 1000), ("V", 0.001), ("mv ", 1)])
def test_other_units_of_voltage_become_millivolts(unit, factor):
    assert amplitude(SIGNAL * factor, unit).heights_mm == pytest.approx([0, 0, 0, 15, -5])


def test_the_baseline_is_the_median():
    offset = amplitude(SIGNAL + 40, "mV")
    assert offset.heights_mm == pytest.approx([0, 0, 0, 15, -5])


@pytest.mark.parametrize(("peak_mv", "gain"), [(6.0, 10), (6.1, 5), (20.0, 2.5)])
def test_the_gain_is_halved_until_the_trace_fits(peak_mv, gain):
    trace = amplitude(np.array([0.0, 0.0, peak_mv]), "mV")
    assert trace.mm_per_mv == gain
    assert trace.heights_mm.max() == pytest.approx(peak_mv * gain)
    assert trace.text == f"{gain:g} mm/mV"


@pytest.mark.parametrize("unit", ["NU", "", "mmHg"])
def test_what_has_no_millivolts_is_called_scaled(unit):
    trace = amplitude(SIGNAL, unit)
    assert trace.mm_per_mv is None
    assert np.ptp(trace.heights_mm) == pytest.approx(20)
    assert "scaled" in trace.text


def test_a_flat_line_stays_flat():
    for unit in ("mV", "NU"):
        assert (amplitude(np.full(5, 0.5), unit).heights_mm == 0).all()


def test_the_signal_is_left_as_it_was():
    signal = SIGNAL.copy()
    amplitude(signal, "mV")
    assert (signal == SIGNAL).all()


def test_the_grid_has_a_line_each_millimetre_and_a_bold_one_each_five():
    _, axes = new_canvas(100, 50)
    draw_paper(axes, 10, 5, 80, 40)
    fine, bold = axes.collections
    assert len(fine.get_segments()) == 81 + 41
    assert len(bold.get_segments()) == 17 + 9
    assert bold.get_linewidth()[0] > fine.get_linewidth()[0]
    vertical = [segment[0, 0] for segment in bold.get_segments()[:17]]
    assert vertical == pytest.approx(np.arange(10, 91, 5))


def test_the_canvas_is_measured_in_millimetres():
    figure, axes = new_canvas(297, 105)
    assert figure.get_size_inches() * 25.4 == pytest.approx([297, 105])
    figure.draw_without_rendering()
    pixels_per_mm = figure.dpi / 25.4
    across = axes.transData.transform([[0, 0], [250, 10]])
    assert np.diff(across, axis=0)[0] == pytest.approx([250 * pixels_per_mm, 10 * pixels_per_mm])


def test_the_calibration_pulse_is_1_mv_high_and_200_ms_long():
    _, axes = new_canvas(100, 50)
    draw_calibration(axes, 5, 20, 10)
    xs, ys = axes.lines[0].get_data()
    assert np.ptp(ys) == 10
    assert np.ptp(xs[ys == ys.max()]) == 5
    assert [text.get_text() for text in axes.texts] == ["1 mV"]
