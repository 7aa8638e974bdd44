"""Networks in files of ``xecg export``, run by onnxruntime: PyTorch is not imported."""

import json
import os
from functools import cached_property
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xecg.errors import ConfigError, WeightsError
from xecg.networks import FUSED

Floats = NDArray[np.float32]

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
        self.about = about = {item.key: item.value for item in self._graph.metadata_props}
        if about.get("format") != FORMAT:
            found = about.get("format", "none")
            raise WeightsError(f"{name}: expected format {FORMAT} of xecg export, found {found}")
        self.branches: list[str] = json.loads(about["branches"])
        self.preprocessing: dict[str, Any] = json.loads(about["preprocessing"])
        self.operating_points: dict[str, Any] = json.loads(about["operating_points"])
        self.provenance: dict[str, Any] = {"prevalence": json.loads(about["prevalence"])}

    def p_af(self, windows: Floats) -> dict[str, Floats]:
        """Returns the probability of AF of windows ``(n, time)``, fused and by branch, ``(n,)``."""
        names = ["p_af", *(f"p_af_{branch}" for branch in self.branches)]
        found = _run(self._classifier, names, windows[:, None])
        return dict(zip((FUSED, *self.branches), found, strict=True))

    def explaining(self, attribution: str, target: int | None) -> "Exported":
        """Returns itself, or raises ConfigError if that is not what the file explains."""
        if attribution != ATTRIBUTION or target is not None:
            raise ConfigError(
                f"attribution: an exported file explains what a branch predicts, by {ATTRIBUTION}; "
                f"found {attribution}, class {target}: explain by the weights that it was made of"
            )
        return self

    def explain(self, windows: Floats) -> dict[str, tuple[Floats, Floats]]:
        """Returns by branch explained logits ``(n, 1)`` and maps ``(n, 1, time)`` of windows."""
        names = [f"{what}_{b}" for b in self.branches for what in ("logit", "relevance")]
        found = iter(_run(self._explainer, names, windows))
        return {branch: (next(found)[:, None], next(found)) for branch in self.branches}

    @cached_property
    def _classifier(self) -> Any:
        """Session of the probabilities alone; onnxruntime would compute all outputs each time."""
        from onnx.utils import Extractor

        names = ["p_af", *(f"p_af_{branch}" for branch in self.branches)]
        return _session(Extractor(self._graph).extract_model(["ecg"], names))

    @cached_property
    def _explainer(self) -> Any:
        return _session(self._graph)


def _session(graph: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    one = parent_process() is not None  # of several
    options.intra_op_num_threads = 1 if one else int(os.environ.get("OMP_NUM_THREADS", "0"))
    return onnxruntime.InferenceSession(graph.SerializeToString(), options)


def _run(session: Any, names: list[str], windows: Floats) -> list[Floats]:
    cuts = range(0, max(len(windows), 1), _BATCH)
    parts = [session.run(names, {"ecg": windows[start : start + _BATCH]}) for start in cuts]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]
