from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xecg.explain.pictures import coloured_runs, display_relevance, relevance_colours

VALUES = arrays(np.float64, 60, elements=st.floats(0, 1))


def luminance(colours):
    """Relative luminance of sRGB colours (WCAG 2)."""
    rgb = np.asarray(colours)[:, :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_colours_darken_steadily_so_that_they_tell_without_hue():
    assert (np.diff(luminance(relevance_colours()(np.linspace(0, 1, 64)))) < 0).all()


def test_even_the_lowest_relevance_stands_out_from_paper():
    contrast = 1.05 / (luminance(relevance_colours()(np.linspace(0, 1, 64))) + 0.05)
    assert contrast.min() >= 3  # what WCAG asks of graphics


@given(VALUES)
def test_runs_draw_the_whole_line_in_pieces_that_touch(values):
    points = np.stack([np.arange(60.0), values], axis=1)
    pieces, levels = coloured_runs(points, values)
    pieces = sorted(pieces, key=lambda piece: piece[0, 0])
    assert pieces[0][0, 0] == 0
    assert pieces[-1][-1, 0] == 59
    for piece, following in pairwise(pieces):
        assert (piece[-1] == following[0]).all()
    assert (np.diff(levels) >= 0).all()


@given(VALUES)
def test_runs_keep_the_value_within_half_a_level(values):
    points = np.stack([np.arange(60.0), values], axis=1)
    for piece, level in zip(*coloured_runs(points, values), strict=True):
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
