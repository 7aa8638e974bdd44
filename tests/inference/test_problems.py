import csv

from xecg.inference.records import Problems


def test_everything_told_is_written_down_but_only_failures_count(tmp_path, capsys):
    problems = Problems({"nowhere": "no such folder"})
    problems.fail("a", 'short, "9 s"')
    problems.warn("b", "1 of 3 windows cannot be used")
    assert list(problems.failures) == ["nowhere", "a"]
    assert capsys.readouterr().err.splitlines() == [
        "xecg: nowhere: no such folder",
        'xecg: a: short, "9 s"',
        "xecg: b: 1 of 3 windows cannot be used",
    ]
    problems.write(tmp_path)
    with (tmp_path / "errors.csv").open() as file:
        assert list(csv.reader(file)) == [
            ["record", "reason"],
            ["nowhere", "no such folder"],
            ["a", 'short, "9 s"'],
            ["b", "1 of 3 windows cannot be used"],
        ]


def test_nothing_to_tell_leaves_no_file_of_an_earlier_run(tmp_path):
    (tmp_path / "errors.csv").write_text("record,reason\nold,old\n")
    Problems({}).write(tmp_path)
    assert not list(tmp_path.iterdir())
