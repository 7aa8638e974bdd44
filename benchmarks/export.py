"""A file of `xecg export`, run by onnxruntime, beside the weights, run by PyTorch.

    python benchmarks/export.py [--json FILE]

1,000 windows classified and 200 explained, and how soon a new Python has a model that classifies.
Three minutes on two idle cores. Needs the extra `export`.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from made_data import made_windows
from side_by_side import Row, alternate, medians, run_alone

import xecg
from xecg.inference.export import export

N_CLASSIFIED, N_EXPLAINED = 1000, 200
WEIGHTS = "xecgarch"
READY = (
    "import sys, numpy, xecg; xecg.load(sys.argv[1]).classify(numpy.sin(numpy.arange(5e3)), 500)"
)


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        export(weights=WEIGHTS, out=file)
        return [*_throughput(file), _ready(file)]


def _throughput(file: Path) -> list[Row]:
    exported, weights = xecg.load(file), xecg.load(WEIGHTS)
    windows = made_windows(weights, N_CLASSIFIED)
    some, explainer = windows[:N_EXPLAINED], weights.explainer()
    cases = {
        f"{N_CLASSIFIED:,} windows classified": (
            lambda: exported.p_af(windows),
            lambda: weights.p_af(windows),
        ),
        f"{N_EXPLAINED} windows explained": (
            lambda: exported.network.explain(some[:, None]),
            lambda: explainer.explain(torch.from_numpy(some).unsqueeze(1)),
        ),
    }
    rows = []
    for what, (by_onnx, by_torch) in cases.items():
        seconds = medians(alternate({"onnxruntime": by_onnx, "PyTorch": by_torch}))
        rows.append(
            Row(
                what=f"{what} by an exported file",
                against="the weights, by PyTorch",
                value=seconds["onnxruntime"] / seconds["PyTorch"],
                goal=1.0,
                better="at most",
                measured={case: f"{value:.2f} s" for case, value in seconds.items()},
            )
        )
    return rows


def _ready(file: Path) -> Row:
    def started(source: str | Path):
        command = [sys.executable, "-c", READY, str(source)]
        return lambda: subprocess.run(command, check=True)

    seconds = medians(alternate({"file": started(file), "weights": started(WEIGHTS)}))
    return Row(
        what="a new Python that has classified an ECG by an exported file",
        against="nothing: a time",
        value=seconds["file"],
        goal=1.0,
        better="at most",
        measured={case: f"{value:.2f} s" for case, value in seconds.items()},
        unit="s",
    )


if __name__ == "__main__":
    run_alone(measure, __doc__)
