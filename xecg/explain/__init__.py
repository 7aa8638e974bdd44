"""Where a network looks, measured: deep Taylor decomposition, relevance per wave, pictures."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xecg.explain.deep_taylor import DeepTaylor
    from xecg.explain.pictures import ExplainedWindow, draw_page, draw_window, save_figure
    from xecg.explain.summary import SummaryRow, summarize, summary_table
    from xecg.explain.wave_measures import domain_specificity
    from xecg.explain.wave_relevance import RelevanceStatistics, relevance_statistics

__all__ = [
    "DeepTaylor",
    "ExplainedWindow",
    "RelevanceStatistics",
    "SummaryRow",
    "domain_specificity",
    "draw_page",
    "draw_window",
    "relevance_statistics",
    "save_figure",
    "summarize",
    "summary_table",
]

_MODULES = {
    "deep_taylor": ("DeepTaylor",),
    "pictures": ("ExplainedWindow", "draw_page", "draw_window", "save_figure"),
    "summary": ("SummaryRow", "summarize", "summary_table"),
    "wave_measures": ("domain_specificity",),
    "wave_relevance": ("RelevanceStatistics", "relevance_statistics"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, and torch, zennit or matplotlib only with what needs them."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
