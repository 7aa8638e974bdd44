"""The ECGs that come with xecg."""

from pathlib import Path

from xecg.data.embedded import embedded_store


def test_embedded_ecgs_are_made_once_and_hold_both_classes(tmp_path: Path) -> None:
    store = embedded_store(tmp_path / "stores")
    assert store.path == (tmp_path / "stores" / "synthetic").resolve()
    assert len(store) == 1800
    assert len(set(store.index.person)) == 150
    assert 0.3 < (store.index.af == 1).mean() < 0.5
    made = (store.path / "signals.npy").stat().st_mtime_ns
    embedded_store.cache_clear()
    again = embedded_store(tmp_path / "stores")
    assert (again.path / "signals.npy").stat().st_mtime_ns == made
