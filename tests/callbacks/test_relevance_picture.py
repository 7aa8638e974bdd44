"""The picture that is drawn again in part is the one that is drawn as a whole."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from small_task import RATE, Data

from xecg.callbacks.relevance import RelevancePicture, measure_branch, take_probe
from xecg.explain.pictures import draw_page

ROWS = [0, 4]


@pytest.fixture(scope="module")
def probe():
    return take_probe(Data().validation_set, 8, RATE, seed=0)


def branches(probe, seed):
    """Two branches that look here and there."""
    rng = torch.Generator().manual_seed(seed)
    maps = torch.rand(2, *probe.signals.squeeze(1).shape, generator=rng)
    logits = torch.rand(2, len(probe), 2, generator=rng)
    names = ("morphology", "rhythm")
    return {
        name: measure_branch(probe, z, r, None)
        for name, z, r in zip(names, logits, maps, strict=True)
    }


def drawn_as_a_whole(picture, branches):
    windows = [
        picture._window(row, {name: branch.maps[row].numpy() for name, branch in branches.items()})
        for row in ROWS
    ]
    figure = draw_page(windows)
    figure.set_dpi(picture._canvas.figure.dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def test_nothing_of_the_last_picture_is_left(probe):
    picture = RelevancePicture(probe, ROWS, ["morphology", "rhythm"])
    pixels = []
    for seed in (0, 1):
        found = branches(probe, seed)
        pixels.append(picture._pixels(found).copy())
        assert np.array_equal(pixels[-1], drawn_as_a_whole(picture, found))
    assert 0.001 < (pixels[0] != pixels[1]).any(axis=2).mean() < 0.1


def test_the_caption_says_what_is_shown_and_what_is_said_of_it(probe):
    found = branches(probe, 0)
    image = RelevancePicture(probe, ROWS, list(found)).image(found)
    first, second = image._caption.split("; ")
    p_af = [f"{name} {branch.p_af[4]:.2f}" for name, branch in found.items()]
    assert second == f"{probe.records[4]} labelled AF, p(AF) by {', '.join(p_af)}"
    assert first.startswith(f"{probe.records[0]} labelled non-AF")
