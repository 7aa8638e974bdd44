"""Databases, prepared stores, splits, datasets, data modules."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xecg.data.datamodules import AFData, PWaveData, RRVariabilityData
    from xecg.data.datasets import Source

__all__ = ["AFData", "PWaveData", "RRVariabilityData", "Source"]


def __getattr__(name: str) -> Any:
    """Import the data modules, and with them torch, only when one is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from xecg.data import datamodules

    return getattr(datamodules, name)
