"""Where a network looks, measured: deep Taylor decomposition, relevance per wave, pictures."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xecg.explain.deep_taylor import DeepTaylor
    from xecg.explain.pictures import ExplainedWindow, draw_page, draw_window, save_figure
    from xecg.explain.relevance import (
        RelevanceStatistics,
        SummaryRow,
        domain_specificity,
        relevance_statistics,
        summarize,
        summary_table,
    )

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
    "relevance": (
        "RelevanceStatistics",
        "SummaryRow",
        "domain_specificity",
        "relevance_statistics",
        "summarize",
        "summary_table",
    ),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, and torch, zennit or matplotlib only with what needs them."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
