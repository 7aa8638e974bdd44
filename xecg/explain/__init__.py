"""Where a network looks, measured: attribution methods, relevance per wave, pictures."""

from importlib import import_module
from typing import Any

_NAMES = {  # torch and matplotlib are imported only with the names that need them
    "attributions": "ATTRIBUTIONS BranchExplainer",
    "deep_taylor": "DeepTaylor",
    "effects": "agreement wave_effects",
    "pictures": "ExplainedWindow draw_page",
    "relevance": "STATISTICS domain_specificity wave_relevance",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
