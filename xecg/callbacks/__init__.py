"""Layer freezing and relevance logging."""

from xecg.callbacks.freezing import LayerFreezing
from xecg.callbacks.relevance import RelevanceLogger

__all__ = ["LayerFreezing", "RelevanceLogger"]
