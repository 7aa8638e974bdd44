from html.parser import HTMLParser

import numpy as np
import pytest

from xecg.errors import DataError
from xecg.explain.page import PageEntry, WindowResult, write_page
from xecg.explain.pictures import new_canvas, save_figure
from xecg.explain.relevance import WAVES


class Reader(HTMLParser):
    """Tags with their attributes, and the text of the page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + "|"

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def window(predicted="non-AF", start_s=0.0):
    enrichments = dict(zip(WAVES, (1.514, 0.697, np.nan, 1.01), strict=True))
    return WindowResult(
        start_s=start_s,
        predicted=predicted,
        p_af={"fused": 0.1234, "morphology": 0.2, "rhythm": 0.3},
        enrichment={"morphology": enrichments, "rhythm": enrichments},
    )


@pytest.fixture
def pictures(tmp_path):
    return [
        save_figure(new_canvas(50, 20)[0], tmp_path / f"p.{ending}") for ending in ("png", "svg")
    ]


def test_the_page_holds_all_it_shows(tmp_path, pictures):
    entry = PageEntry("A0001", [window()], pictures)
    page = Reader(write_page(tmp_path / "page.html", [entry], title="Two records"))
    assert not page.open
    assert not page.of("script")
    assert not page.of("link")
    images = page.of("img")
    assert [image["src"].split(",")[0] for image in images] == [
        "data:image/png;base64",
        "data:image/svg+xml;base64",
    ]
    assert "A0001" in images[0]["alt"]
    assert "url(" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_png_is_shown_in_its_printed_size(tmp_path, pictures):
    entry = PageEntry("A0001", [], pictures)
    png, svg = Reader(write_page(tmp_path / "page.html", [entry], title="T")).of("img")
    assert png["style"] == "width:50.0mm"
    assert "style" not in svg  # it says so itself


def test_the_table_tells_probabilities_and_enrichments(tmp_path):
    entry = PageEntry("A0001", [window(start_s=30.0)], [])
    page = Reader(write_page(tmp_path / "page.html", [entry], title="T"))
    row = page.text[page.text.index("|30|") :]
    assert row.startswith("|30|non-AF|0.123|0.200|0.300|1.51|0.70|-|1.01|1.51|0.70|-|1.01|")
    assert "†" not in page.text


def test_in_af_p_is_marked_as_where_it_would_be(tmp_path):
    entry = PageEntry("A0001", [window("AF"), window("non-AF")], [])
    page = Reader(write_page(tmp_path / "page.html", [entry], title="T"))
    assert page.text.count("1.51|†|") == 2  # both branches of the first window only
    assert "† where P would be" in page.text


def test_records_are_listed_with_links(tmp_path):
    entries = [
        PageEntry("A0001", [window("AF"), window()], []),
        PageEntry("A0002", [window("AF")] * 3, []),
    ]
    page = Reader(write_page(tmp_path / "page.html", entries, title="T"))
    assert [link["href"] for link in page.of("a")] == ["#record-0", "#record-1"]
    assert [section["id"] for section in page.of("section")] == ["record-0", "record-1"]
    contents = page.text[page.text.index("predicted AF|") :].replace("\n|", "")
    assert contents.startswith("predicted AF|A0001|2|1|A0002|3|3|")


def test_names_are_text_and_never_markup(tmp_path):
    evil = '"><script>alert(1)</script>'
    result = WindowResult(0.0, evil, {evil: 0.5}, {evil: dict.fromkeys(WAVES, 1.0)})
    path = write_page(
        tmp_path / "page.html",
        [PageEntry(evil, [result], []), PageEntry(evil, [], [])],
        title=evil,
        note=evil,
        failures={evil: evil},
    )
    page = Reader(path)
    assert not page.of("script")
    assert page.text.count(evil) >= 8


def test_failures_are_named_with_their_reason(tmp_path):
    page = Reader(
        write_page(tmp_path / "page.html", [], title="T", failures={"A0009": "has no lead V9"})
    )
    assert "A0009|: has no lead V9" in page.text
    assert "1 not explained" in page.text


def test_a_page_replaces_a_file_only_when_asked(tmp_path):
    path = write_page(tmp_path / "page.html", [], title="first")
    with pytest.raises(DataError, match=r"page\.html exists"):
        write_page(path, [], title="second")
    assert "first" in path.read_text(encoding="utf-8")
    write_page(path, [], title="second", overwrite=True)
    assert "second" in path.read_text(encoding="utf-8")


def test_a_page_that_fails_leaves_nothing_behind(tmp_path):
    entries = [PageEntry("A0001", [], [tmp_path / "picture.gif"])]
    with pytest.raises(DataError, match=r"\.png or \.svg, found .*picture\.gif"):
        write_page(tmp_path / "page.html", entries, title="T")
    assert list(tmp_path.iterdir()) == []
