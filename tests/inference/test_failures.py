"""``xecg test --weights``: which windows it tests, what it counts, what it refuses."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from xecg import cli
from xecg.data.splits import keys
from xecg.data.store import Store
from xecg.errors import ConfigError, StoreError, WeightsError
from xecg.inference.failures import NOISES, beat_class, draw, find_failures
from xecg.inference.model import load
from xecg.networks.weights import WeightsInfo, describe_branches, save_weights
from xecg.networks.xecgarch import XECGArch
from xecg.signal.preprocessing import Preprocessing

POINTS = {"sensitive": {"threshold": 0.2}, "balanced": {"threshold": 0.4}}
BRANCHES = ("morphology", "rhythm")


@pytest.fixture
def weights(network: XECGArch, tmp_path: Path) -> Callable[..., str]:
    """Writes the small network with what it learnt from and its operating points."""

    def write(learnt: object = (0,), prevalence: float = 0.3) -> str:
        path = tmp_path / f"{'silent' if learnt is None else 'small'}.safetensors"
        keys = None if learnt is None else torch.tensor(np.asarray(learnt, np.int64))
        settings = Preprocessing().to_dict()
        about = settings, {"operating_points": POINTS, "prevalence": prevalence}, keys
        save_weights(network, path, WeightsInfo(describe_branches(network.branches), *about))
        return str(path)

    return write


@pytest.fixture
def tables(
    synthetic_store: Store, weights: Callable[..., str], tmp_path: Path
) -> dict[str, pd.DataFrame]:
    """All tables of the store, some persons of which were learnt from."""
    some = synthetic_store.index.iloc[::29]
    written = weights(np.unique(keys(synthetic_store.info.identity, some)))
    out = tmp_path / "out"
    find_failures(weights=written, stores=[synthetic_store.path], out=out)
    found = {path.stem: pd.read_csv(path, keep_default_na=False) for path in out.glob("*.csv")}
    return found | {"learnt": some}


def test_persons_that_were_learnt_from_are_not_tested(
    tables: dict[str, pd.DataFrame], synthetic_store: Store
) -> None:
    index = synthetic_store.index
    unseen = index[~index.group.isin(tables["learnt"].group)]
    assert 0 < len(unseen) < len(index)
    assert sorted(tables["windows"].person) == sorted(unseen.group)


def test_windows_hold_what_the_model_says(
    tables: dict[str, pd.DataFrame], synthetic_store: Store, tmp_path: Path
) -> None:
    windows = tables["windows"]
    rows = np.flatnonzero(~synthetic_store.index.group.isin(tables["learnt"].group))
    p_af = load(tmp_path / "small.safetensors").p_af(synthetic_store.signals[rows])
    np.testing.assert_allclose(windows.p_af, p_af["fused"], rtol=1e-5)
    for branch in BRANCHES:
        np.testing.assert_allclose(windows[f"p_af_{branch}"], p_af[branch], rtol=1e-5)
    above = windows.p_af > POINTS["balanced"]["threshold"]
    called = np.where(windows.quality < 0.5, "cannot be judged", np.where(above, "AF", "non-AF"))
    assert (windows.predicted == called).all()
    said = [
        [f"{b} {'AF' if p > 0.5 else 'non-AF'}" for p in windows[f"p_af_{b}"]] for b in BRANCHES
    ]
    assert list(windows.branches) == [", ".join(both) for both in zip(*said, strict=True)]


def test_windows_about_which_the_branches_disagree_are_not_judged(
    synthetic_store: Store, weights: Callable[..., str], tmp_path: Path
) -> None:
    settings = {"stores": [synthetic_store.path], "threshold": 0.497, "trials": 0}
    find_failures(weights=weights(prevalence=0.6), out=tmp_path / "out", **settings)
    windows = pd.read_csv(tmp_path / "out" / "windows.csv")
    one_against = windows[[f"p_af_{branch}" for branch in BRANCHES]].min(axis=1) < 0.497
    disagree = one_against & (windows.p_af > 0.497) & (windows.quality >= 0.5)
    assert 0 < disagree.sum() < len(windows)
    assert (windows.predicted[disagree] == "cannot be judged").all()
    assert (windows.predicted[~one_against & (windows.quality >= 0.5)] != "cannot be judged").all()


def test_thresholds_and_their_predictive_values(tables: dict[str, pd.DataFrame]) -> None:
    windows, points = tables["windows"], tables["operating_points"].set_index("part")
    assert dict(points.threshold) == {
        "fused": 0.4,
        "fused, judged": 0.4,
        "fused, sensitive": 0.2,
        "fused, balanced": 0.4,
    }
    called, af = windows.p_af > 0.2, windows.af == 1
    row = points.loc["fused, sensitive"]
    assert row.sensitivity == pytest.approx(called[af].mean(), abs=1e-5)
    assert row.specificity == pytest.approx(1 - called[~af].mean(), abs=1e-5)
    true, false = 0.1 * row.sensitivity, 0.9 * (1 - row.specificity)
    assert row["ppv_at_0.1"] == pytest.approx(true / (true + false), abs=1e-4)
    judged = tables["metrics"].set_index(["part", "metric"]).n[("fused, judged", "accuracy")]
    assert judged == (windows.predicted != "cannot be judged").sum()


def test_subgroups_and_counts_are_those_of_the_windows(tables: dict[str, pd.DataFrame]) -> None:
    windows, subgroups = tables["windows"], tables["subgroups"]
    called = windows.predicted == "AF"
    for by in ("lead", "beats", "branches", "quality_band", "person"):
        for (group, truth), rows in windows[windows[by] != ""].groupby([by, "truth"]):
            chosen = (subgroups.by == by) & (subgroups.group == group) & (subgroups.truth == truth)
            (row,) = subgroups[chosen].itertuples()
            assert (row.n, row.n_groups) == (len(rows), rows.person.nunique())
            assert row.value == pytest.approx(called[rows.index].mean(), abs=1e-5)


@pytest.mark.parametrize(
    ("symbols", "found"),
    [
        ("N", "only normal"),
        ("/N", "paced"),
        ("Vf", "paced"),
        ("NV", "PVC"),
        ("ELR", "PVC"),
        ("AV", "PVC and SVEB"),
        ("LNj", "SVEB"),
        ("LN", "bundle branch block"),
        ("FN", "other"),
        ("", ""),
    ],
)
def test_classes_of_windows_by_their_beats(symbols: str, found: str) -> None:
    assert beat_class(symbols) == found


def test_a_page_holds_figures_card_digests_and_checklist(
    synthetic_store: Store, weights: Callable[..., str], tmp_path: Path
) -> None:
    written = weights()
    (tmp_path / "small.md").write_text("# Card of <small>\n| a | b |\n|---|---|\n| `c` | d |\n")
    folder = tmp_path / "faithful"
    folder.mkdir()
    (folder / "areas.csv").write_text(
        "branch,method,filling,value,low,high\nrhythm,zbox,zero,0.246,0.2,0.3\n"
    )
    flags = ["--stores", synthetic_store.path, "--out", tmp_path / "out", "--threshold=0.6"]
    flags += ["--report", tmp_path / "new" / "page.html", "--faithfulness", folder]
    assert cli.main(["test", f"--weights={written}", *map(str, flags)]) == 0
    page = (tmp_path / "new" / "page.html").read_text()
    assert load(written).identity[1] in page
    assert synthetic_store.info.fingerprint in page
    assert "Card of &lt;small&gt;" in page
    assert "<td>c</td>" in page
    assert "Area between the perturbation curves" in page
    assert "0.246 [0.200, 0.300]" in page
    assert "above 0.6" in page
    assert all(digest in page for digest in synthetic_store.info.sha256.values())
    assert "muscle, 12 dB" in page
    assert "rhythm, AF" in page
    assert "doi:10.1136/bmj-2023-078378" in page
    assert page.count("<img") == page.count("data:image/") == 1
    assert "[-" not in page
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)


def test_trials_on_windows_with_noise_and_on_what_branches_use(
    tables: dict[str, pd.DataFrame],
) -> None:
    windows, noise = tables["windows"], tables["noise"]
    rows = noise[(noise.measure == "judged") & (noise.truth == "AF")]
    assert set(rows.noise) == set(NOISES)
    assert set(rows.n) == {(windows.af == 1).sum()}
    clean, loud = (rows[rows.level_db.astype(float) == level] for level in (np.inf, 0))
    assert clean.value.min() > 0.5 > loud.value.max()
    waves = tables["waves"]
    assert {"enrichment_p", "flips_qrs", "agreement"} <= set(waves.measure)
    af = waves[waves.truth == "AF"].set_index(["branch", "measure"]).n
    for branch in BRANCHES:
        right = (windows[f"p_af_{branch}"] > 0.5) & (windows.af == 1)
        assert af.get((branch, "agreement"), 0) == right.sum()


def test_windows_of_trials_are_half_af(synthetic_store: Store) -> None:
    rows = np.arange(5, len(synthetic_store))
    drawn = draw(synthetic_store, rows, 20)
    assert set(drawn) < set(rows)
    assert synthetic_store.index.af.to_numpy()[drawn].sum() == len(set(drawn)) / 2 == 10


def test_what_is_refused(
    synthetic_store: Store, weights: Callable[..., str], tmp_path: Path
) -> None:
    index = synthetic_store.index
    everything = np.unique(keys(synthetic_store.info.identity, index))
    stores, out = [synthetic_store.path], tmp_path / "out"
    written = weights(everything)
    with pytest.raises(StoreError, match=str(synthetic_store.path)):
        find_failures(weights=written, stores=stores, out=out)
    with pytest.raises(WeightsError, match="silent"):
        find_failures(weights=weights(None), stores=stores, out=out)
    with pytest.raises(ConfigError, match="stores"):
        find_failures(weights=written, stores=stores * 2, out=out)
    with pytest.raises(ConfigError, match="expected areas"):
        find_failures(weights=written, stores=stores, out=out, faithfulness=tmp_path)
    assert not out.exists()
    with pytest.raises(ConfigError, match="out"):
        find_failures(weights=written, stores=stores, out=tmp_path)


def test_without_weights_it_is_a_verb_on_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("xecg.runs.run", lambda verb, flags: asked.append(verb) or 0)
    assert cli.main(["test", "--config", "x.yaml"]) == 0
    assert asked == ["test"]
