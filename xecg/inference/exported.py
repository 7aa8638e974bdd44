"""Networks in files of ``xecg export``, run by onnxruntime: PyTorch is not imported."""

import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xecg.errors import ConfigError, WeightsError
from xecg.explain.relevance import wave_relevance
from xecg.inference.maps import Floats
from xecg.inference.model import Model
from xecg.networks import FUSED

FORMAT, ATTRIBUTION = "xecg-export-1", "innvestigate"
INSTALL = "is not installed: pip install 'xecg-lightning[export]'"
_BATCH = 4  # windows: what the layers keep of more leaves the cache


class Exported:
    """An exported network.

    Args:
        file: The file, or its content.

    Raises:
        ConfigError: onnx or onnxruntime is not installed.
        WeightsError: The file is not there, or not one of ``xecg export``.
    """

    def __init__(self, file: Path | bytes) -> None:
        try:
            import onnx
            import onnxruntime  # noqa: F401
        except ImportError as error:
            raise ConfigError(f"an exported file: {error.name} {INSTALL}") from error
        name = "the file" if isinstance(file, bytes) else str(file)
        try:
            content = file if isinstance(file, bytes) else file.read_bytes()
            self._graph = onnx.load_model_from_string(content)
        except Exception as error:  # whatever the parser of its format raises
            raise WeightsError(f"{name}: expected an ONNX file, found none ({error})") from error
        about = {item.key: item.value for item in self._graph.metadata_props}
        if about.get("format") != FORMAT:
            found = about.get("format", "none")
            raise WeightsError(f"{name}: expected format {FORMAT} of xecg export, found {found}")
        self.about: Mapping[str, str] = about
        self.branches: Sequence[str] = json.loads(about["branches"])
        self.preprocessing: Mapping[str, Any] = json.loads(about["preprocessing"])
        self.operating_points: Mapping[str, Any] = json.loads(about["operating_points"])
        self.provenance: Mapping[str, Any] = {"prevalence": json.loads(about["prevalence"])}

    def p_af(self, windows: Floats) -> dict[str, Floats]:
        """Returns the probability of AF of windows ``(n, time)``, fused and by branch, ``(n,)``."""
        names = ["p_af", *(f"p_af_{branch}" for branch in self.branches)]
        found = _run(self._classifier, names, windows)
        return dict(zip((FUSED, *self.branches), found, strict=True))

    def maps(self, windows: Floats) -> dict[str, tuple[Floats, Floats]]:
        """Returns by branch the explained logits ``(n,)`` and the maps ``(n, time)``."""
        names = [f"{what}_{b}" for b in self.branches for what in ("logit", "relevance")]
        found = iter(_run(self._explainer, names, windows))
        return {branch: (next(found), next(found)[:, 0]) for branch in self.branches}

    @cached_property
    def _classifier(self) -> Any:
        """Session of the probabilities alone; onnxruntime would compute all outputs each time."""
        from onnx.utils import Extractor

        names = ["p_af", *(f"p_af_{branch}" for branch in self.branches)]
        return _session(Extractor(self._graph).extract_model(["ecg"], names))

    @cached_property
    def _explainer(self) -> Any:
        return _session(self._graph)


class ExportedModel(Model):
    """A model whose network is :class:`Exported`."""

    def explainer(self, attribution: str = ATTRIBUTION) -> Exported:
        """Returns what :meth:`maps` takes; ConfigError for another attribution than the file's."""
        if attribution != ATTRIBUTION:
            raise ConfigError(
                f"attribution: {self.weights} holds {ATTRIBUTION} alone, found {attribution}; "
                "explain by the weights that it was made of"
            )
        return self.network  # type: ignore[no-any-return]

    def _p_af(self, windows: Floats) -> dict[str, Floats]:
        return self.network.p_af(windows)  # type: ignore[no-any-return]

    def _measured(
        self, explainer: Any, signal: Floats, r_peaks: list[NDArray[np.int64]], effects: bool
    ) -> dict[str, tuple[pd.DataFrame, Floats]]:
        if effects:
            raise ConfigError(f"effects: need the weights that {self.weights} was made of")
        rate = self.preprocessing.sampling_rate
        return {
            branch: (wave_relevance(maps, r_peaks, rate, logits=logits), maps)
            for branch, (logits, maps) in explainer.maps(signal).items()
        }


def _session(graph: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    one = parent_process() is not None  # of several, see one_thread
    options.intra_op_num_threads = 1 if one else int(os.environ.get("OMP_NUM_THREADS", "0"))
    return onnxruntime.InferenceSession(graph.SerializeToString(), options)


def _run(session: Any, names: Sequence[str], windows: Floats) -> list[Floats]:
    cuts = range(0, max(len(windows), 1), _BATCH)
    parts = [session.run(names, {"ecg": windows[start : start + _BATCH, None]}) for start in cuts]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]
