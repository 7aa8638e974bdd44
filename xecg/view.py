"""A page on this computer that shows where each branch looks in an ECG that is dropped on it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import pandas as pd

from xecg.errors import ConfigError, XECGError
from xecg.explain.attributions import ATTRIBUTIONS
from xecg.explain.pictures import ExplainedWindow, save_page
from xecg.explain.relevance import CLASSES
from xecg.inference.model import Model, load
from xecg.inference.records import LeadWindows, list_records, read_windows

_INTRO = (
    "Two branches read each window of 10 s: morphology the shape of each beat, rhythm the order of "
    "the beats. Thick magenta is what speaks most for what a branch says. For research, not a "
    "medical device. "
)
_LOCAL = "Nothing leaves this computer."
_REMOTE = "ECGs are sent to the server of this page, which removes them when the page is closed."
_HERE = "127.0.0.1"


def view(
    path: Path | None = None,
    *,
    weights: str = "xecgarch",
    operating_point: str | None = None,
    threshold: float | None = None,
    sampling_rate: float | None = None,
    port: int = 8080,
    no_browser: bool = False,
) -> None:
    """Opens a page that shows ECGs, what each branch says of them, and why.

    An ECG is dropped on the page, all of its files at once (WFDB: .hea and .dat). It is served on
    127.0.0.1 alone, and loads nothing from elsewhere. Not a medical device.

    Args:
        path: Record or folder of records to begin with.
        weights: Name of released weights, weights file, or folder of a run.
        operating_point: Threshold of the weights: sensitive, balanced (by default) or specific.
        threshold: Probability above which a window is called AF, in place of an operating point.
        sampling_rate: Sampling rate of files that do not say theirs (CSV, NPY), in Hz.
        port: Port of the page.
        no_browser: Only serve the page, open no browser.
    """
    model = load(weights, operating_point=operating_point, threshold=threshold)
    records, failures = list_records([path] if path else [], sampling_rate)
    if failures:
        raise ConfigError("; ".join(failures.values()))
    serve(model, records, sampling_rate, port=port, show=not no_browser)


def serve(model: Model, records: Mapping[str, Path], rate: float | None, **server: Any) -> None:
    """Serves the page until it is stopped, with further settings of ``nicegui.ui.run``.

    ``rate`` in Hz is that of files that do not say theirs. ConfigError without nicegui.
    """
    try:
        from nicegui import ui
    except ImportError as error:
        raise ConfigError("xecg view needs: pip install 'xecg-lightning[view]'") from error
    about: dict[str, Any] = {"host": _HERE, "title": "xecg", "reload": False} | server
    ui.run(lambda: _Page(ui, model, records, rate, about["host"] == _HERE), **about)


def explained_window(
    model: Model, lead: LeadWindows, row: int, rules: str, explained: str = ""
) -> ExplainedWindow:
    """Explains a window by some rules, for a class or, by default, what each branch predicts."""
    one = slice(row, row + 1)
    alone = replace(lead, starts=lead.starts[one], filtered=lead.filtered[one])
    explainer = model.explainer(rules, CLASSES.index(explained) if explained else None)
    return replace(model.maps([alone], explainer).drawable([0])[0], explained=explained)


class _Page:
    """The page of one visitor, whose files are removed when the visitor leaves."""

    def __init__(self, ui: Any, model: Model, records: Any, rate: Any, local: bool) -> None:
        self.ui, self.model, self.rate = ui, model, rate
        self.records: dict[str, Path] = dict(records)
        self.lead: LeadWindows | None = None
        self.table, self.row = pd.DataFrame(), 0
        self.folder = TemporaryDirectory(prefix="xecg-view-")
        self.file = Path(self.folder.name) / "window.png"
        ui.context.client.on_delete(self.folder.cleanup)
        with ui.column().classes("w-full max-w-screen-xl mx-auto"):
            ui.label("Where a network looks in an ECG").classes("text-2xl")
            ui.label(_INTRO + (_LOCAL if local else _REMOTE))
            drop: dict[str, Any] = {"label": "Drop an ECG here, all of its files together"}
            drop |= {"multiple": True, "auto_upload": True, "on_multi_upload": self.uploaded}
            ui.upload(**drop).classes("w-full")
            with ui.row().classes("items-center"):
                self.record = self._select("record", [*records], None, self.opened)
                classes = {"": "what each branch predicts"}
                if hasattr(model.network, "heads"):  # not of an exported model
                    classes |= {name: name for name in CLASSES}
                self.explained = self._select("explained class", classes, "", self.draw)
                self.rules = self._select("rules", [*ATTRIBUTIONS], "innvestigate", self.draw)
                ui.button("before", on_click=lambda: self.go(self.row - 1))
                ui.button("next", on_click=lambda: self.go(self.row + 1))
                ui.button("save picture", on_click=self.save)
            self.facts = ui.label().classes("text-lg")
            self.picture = ui.image().classes("w-full")
            axes = {"xAxis": {"name": "s"}, "yAxis": {"name": "P(AF)", "min": 0, "max": 1}}
            self.over_time = ui.echart(axes, on_point_click=lambda event: self.go(event.data_index))
            self.over_time.classes("w-full h-48")
        if records:
            self.record.set_value(next(iter(records)))

    def _select(self, label: str, options: Any, first: str | None, changed: Any) -> Any:
        select = self.ui.select(options, label=label, value=first, on_change=changed)
        return select.classes("min-w-48")

    async def uploaded(self, event: Any) -> None:
        """Takes the files that were dropped, and shows the first of their records."""
        folder = Path(mkdtemp(dir=self.folder.name))
        for file in event.files:
            await file.save(folder / Path(file.name).name)
        event.sender.reset()
        found, failures = list_records([folder], self.rate)
        if failures:
            self._tell("; ".join(failures.values()))
            return
        self.records |= found
        self.record.set_value(None)  # the name may be that of the record before
        self.record.set_options([*self.records], value=next(iter(found)))

    async def opened(self) -> None:
        """Reads the record that is chosen, and shows its first window."""
        from nicegui import run

        if (name := self.record.value) is None:
            return
        try:  # in a thread: a long record would stop the pages of all visitors
            found = await run.io_bound(self._classified, name)
        except (XECGError, OSError) as error:
            self._tell(str(error))
            return
        if found is None or name != self.record.value:  # another one was chosen meanwhile
            return
        self.lead, self.table = found
        points = self.table[["start_s", "p_af"]].astype(float).to_numpy().tolist()
        line = {"data": [{"yAxis": self.model.threshold}]}
        series = {"type": "scatter", "data": points, "markLine": line}
        self.over_time.options["series"] = [series]
        self.over_time.update()
        self.go(0)

    def _classified(self, name: str) -> tuple[LeadWindows, pd.DataFrame]:
        preprocessing = self.model.preprocessing
        lead = read_windows(self.records[name], preprocessing, self.rate, record=name)
        return lead, self.model.table([lead])

    def go(self, row: int) -> None:
        """Shows a window, or the nearest one that is there."""
        self.row = max(0, min(row, len(self.table) - 1))
        self.draw()

    def draw(self) -> None:
        """Explains and draws the window that is shown."""
        if self.lead is None:
            return
        what = self.model, self.lead, self.row, self.rules.value, self.explained.value
        try:
            save_page([explained_window(*what)], self.file)
        except XECGError as error:
            self._tell(str(error))
            return
        self.picture.set_source(self.file)
        self.picture.force_reload()
        of, n = self.table.iloc[self.row], len(self.table)
        each = ", ".join(f"{name} {of[f'p_af_{name}']:.3f}" for name in self.model.branches)
        self.facts.set_text(
            f"Window {self.row + 1} of {n}: {of['predicted']}. P(AF) {of['p_af']:.3f} ({each}), "
            f"threshold {self.model.threshold:.3g}, quality {of['quality']:.2f}. {of['note']}"
        )

    def save(self) -> None:
        """Lets the browser save the picture."""
        if self.lead is not None:
            name = f"{self.lead.record.replace('/', '-')}-window{self.row + 1}.png"
            self.ui.download(self.file, name)

    def _tell(self, reason: str) -> None:
        self.ui.notify(reason, type="negative", multi_line=True, timeout=15000)
