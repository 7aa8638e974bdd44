"""Databases, prepared stores, splits, datasets, data modules."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xecg.data.datamodules import AFData, PWaveData, RRVariabilityData
    from xecg.data.datasets import Source

__all__ = ["AFData", "PWaveData", "RRVariabilityData", "Source"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from xecg.data import datamodules  # and with it torch, only when one is asked for

    return getattr(datamodules, name)
