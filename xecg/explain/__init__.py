"""Where a network looks, measured: attribution methods, relevance per wave, pictures."""

from importlib import import_module
from typing import Any

_MODULES = {
    "ATTRIBUTIONS": "attributions",
    "BranchExplainer": "attributions",
    "DeepTaylor": "deep_taylor",
    "ExplainedWindow": "pictures",
    "STATISTICS": "relevance",
    "domain_specificity": "relevance",
    "draw_page": "pictures",
    "save_figure": "pictures",
    "wave_relevance": "relevance",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """Imports a name when it is used, and torch or matplotlib only with what needs them."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
