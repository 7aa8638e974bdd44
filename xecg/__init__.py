"""Interpretable ECG deep learning for the detection of atrial fibrillation."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xecg.callbacks.freezing import LayerFreezing as LayerFreezing
    from xecg.callbacks.relevance import RelevanceLogger as RelevanceLogger
    from xecg.data.datamodules import AFData as AFData
    from xecg.data.datamodules import PWaveData as PWaveData
    from xecg.data.datamodules import RRVariabilityData as RRVariabilityData
    from xecg.data.datasets import Source as Source
    from xecg.data.prepare import prepare as prepare
    from xecg.explain.deep_taylor import DeepTaylor as DeepTaylor
    from xecg.explain.relevance import wave_relevance as wave_relevance
    from xecg.inference.classify import classify as classify
    from xecg.inference.model import load as load
    from xecg.tasks import AFClassifier as AFClassifier
    from xecg.tasks import PWaveDetection as PWaveDetection
    from xecg.tasks import RRVariability as RRVariability

_NAMES = {  # imported when they are used, so that `import xecg` costs nothing
    "callbacks": "LayerFreezing RelevanceLogger",
    "data": "AFData PWaveData RRVariabilityData Source",
    "data.prepare": "prepare",
    "explain": "DeepTaylor wave_relevance",
    "inference.classify": "classify",
    "inference.model": "load",
    "tasks": "AFClassifier PWaveDetection RRVariability",
}
_MODULES = {name: f"xecg.{module}" for module in _NAMES for name in _NAMES[module].split()}
__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("xecg-lightning")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
