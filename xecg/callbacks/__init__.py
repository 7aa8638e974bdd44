"""Layer freezing and relevance logging."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xecg.callbacks.freezing import LayerFreezing
    from xecg.callbacks.relevance import RelevanceLogger

__all__ = ["LayerFreezing", "RelevanceLogger"]

_MODULES = {"LayerFreezing": "freezing", "RelevanceLogger": "relevance"}


def __getattr__(name: str) -> Any:
    """Import a callback when it is asked for: only one of them needs zennit."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
