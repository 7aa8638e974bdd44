from pathlib import Path, PurePosixPath

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xecg.inference.records import list_records


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".hea").write_text(f"{path.name} 1 250 10\n{path.name}.dat 16\n")
    return path


def test_records_go_by_their_names_in_the_order_asked_for(tmp_path):
    for name in ("b/2", "b/1", "a/3"):
        touch(tmp_path / name)
    records, failures = list_records([tmp_path / "b", tmp_path / "a" / "3.hea"])
    assert records == {"1": tmp_path / "b/1", "2": tmp_path / "b/2", "3": tmp_path / "a/3"}
    assert list(records) == ["1", "2", "3"]
    assert failures == {}


def test_records_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for name in ("ward/100", "home/100", "home/101"):
        touch(tmp_path / name)
    assert set(list_records([tmp_path])[0]) == {"ward/100", "home/100", "101"}


def test_as_many_folders_are_named_as_it_takes(tmp_path):
    for name in ("p1/day/100", "p2/day/100"):
        touch(tmp_path / name)
    assert set(list_records([tmp_path])[0]) == {"p1/day/100", "p2/day/100"}


def test_a_record_named_twice_is_listed_once(tmp_path, monkeypatch):
    record = touch(tmp_path / "a" / "100")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    paths = [record, Path("a/100.hea"), Path("link"), Path("a/../a")]
    assert list_records(paths)[0] == {"100": record}


def test_a_linked_file_keeps_its_name(tmp_path):
    stored = touch(tmp_path / "objects" / "e3b0c442")
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "100.hea").symlink_to(stored.with_suffix(".hea"))
    assert list(list_records([tmp_path / "records"])[0]) == ["100"]


def test_a_path_without_records_does_not_stop_the_others(tmp_path):
    touch(tmp_path / "a" / "100")
    (tmp_path / "empty").mkdir()
    nowhere, empty = tmp_path / "nowhere", tmp_path / "empty"
    records, failures = list_records([nowhere, tmp_path / "a", empty])
    assert list(records) == ["100"]
    assert set(failures) == {str(nowhere), str(empty)}
    assert "no WFDB header" in failures[str(empty)]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.sets(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join), min_size=1
    )
)
def test_names_are_unique_and_end_the_paths_of_their_records(tmp_path_factory, places):
    folder = tmp_path_factory.mktemp("tree")
    for place in places:
        touch(folder / place)
    records, _ = list_records([folder])
    assert sorted(records.values()) == sorted(folder / place for place in places)
    for name, path in records.items():
        assert PurePosixPath(path).match(name)
