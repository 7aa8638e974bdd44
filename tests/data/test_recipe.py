import dataclasses
import json

import pytest
from fake_database import FakeDatabase, describe

from xecg.data.store import FORMAT, Recipe
from xecg.errors import ConfigError, StoreError
from xecg.signal.preprocessing import Preprocessing


@pytest.fixture
def database(tmp_path):
    return describe(tmp_path / "fake", a={})


def test_defaults_suit_the_database(database):
    recipe = Recipe.of(database, Preprocessing(window_s=4.0))
    assert (recipe.database, recipe.database_version) == ("fake", "1")
    assert (recipe.leads, recipe.stride_s, recipe.limit) == ("preferred", 4.0, None)
    assert recipe.files.startswith("1 files, 2 bytes")
    assert recipe.format == FORMAT


def test_survives_json(database):
    for leads in (None, "all", ["II", "V1"]):
        recipe = Recipe.of(database, Preprocessing(low_hz=None), leads, 5, 3)
        again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
        assert again == recipe
        assert again.fingerprint == recipe.fingerprint
        assert recipe.differences(again) == []


def test_differences_name_both_values(database):
    one = Recipe.of(database, Preprocessing())
    other = Recipe.of(database, Preprocessing(high_hz=30.0), stride_s=5)
    assert one.fingerprint != other.fingerprint
    assert one.differences(other) == [
        "preprocessing.high_hz: 40.0 here, 30.0 asked for",
        "stride_s: 10.0 here, 5.0 asked for",
    ]


def test_what_else_the_database_was_given_counts_and_its_place_does_not(tmp_path):
    def recipe(folder, **settings):
        describe(tmp_path / folder, a={})
        database = FakeDatabase(tmp_path / folder)
        vars(database).update(settings, table=database.root / "t.csv")
        return Recipe.of(database, Preprocessing())

    first = recipe("here", meaning={"A": 1})
    assert json.loads(first.options) == {"meaning": {"A": 1}, "table": "t.csv"}
    assert recipe("there", meaning={"A": 1}).options == first.options
    assert [text.partition(":")[0] for text in recipe("here", meaning={"A": 0}).differences(first)][
        -1
    ] == "options"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"stride_s": 0.0}, "stride_s: expected more than 0 s, found 0.0"),
        ({"limit": 0}, "limit: expected at least 1 record, found 0"),
        ({"leads": "II"}, "expected 'preferred', 'all' or a list of names, found 'II'"),
        ({"leads": ()}, "empty list"),
    ],
)
def test_refuses_settings_out_of_range(database, changed, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(Recipe.of(database, Preprocessing()), **changed)


def test_refuses_unknown_keys(database):
    plain = Recipe.of(database, Preprocessing()).to_dict()
    with pytest.raises(StoreError, match=r"found .*whatever"):
        Recipe.from_dict(plain | {"whatever": 1})
