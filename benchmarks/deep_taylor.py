"""Time of deep Taylor decomposition beside a plain gradient and other ways to explain a batch.

    python benchmarks/deep_taylor.py [--json FILE] [--windows 64] [--repeats 5]

The methods take turns on the same windows and the same network, both branches of xECGArch; shown
are medians after one warm-up. A few minutes on two cores, most of them integrated gradients.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn
from tqdm import tqdm
from zennit.composites import LayerMapComposite
from zennit.rules import AlphaBeta, Pass

from xecg.explain.deep_taylor import DeepTaylor
from xecg.networks.xecgarch import XECGArch

TIME = 2500  # 10 s at 250 Hz
CLASS = 1
STEPS = 50


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(0)
    network = XECGArch.build().eval().requires_grad_(False)
    x = torch.rand(arguments.windows, 1, TIME)
    seconds = measure(methods(network, x), arguments.repeats)
    rows = compare(seconds, arguments.windows)
    show(rows)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=2) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", help="write the table here, too")
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def methods(network: nn.Module, x: Tensor) -> dict[str, Callable[[], object]]:
    innvestigate = DeepTaylor(network)
    bounded = DeepTaylor(network, bounded=True)
    zbox = DeepTaylor(network, "zbox")
    return {
        "plain gradient": lambda: gradient(network, x),
        "DTD, innvestigate": lambda: innvestigate.attribute(x, CLASS),
        "DTD, innvestigate bounded": lambda: bounded.attribute(x, CLASS),
        "DTD, zbox": lambda: zbox.attribute(x, CLASS),
        "zennit, AlphaBeta composite": lambda: alpha_beta(network, x),
        f"captum, integrated gradients ({STEPS})": lambda: integrated_gradients(network, x),
    }


def gradient(network: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(logit(network, x).sum(), x)[0]


def logit(network: nn.Module, x: Tensor) -> Tensor:
    return sum(logits[:, CLASS] for logits in network(x).values())


def alpha_beta(network: nn.Module, x: Tensor) -> Tensor:
    weighted = AlphaBeta(1, 0, zero_params=["bias"])
    composite = LayerMapComposite([((nn.Conv1d, nn.Linear), weighted), ((nn.BatchNorm1d,), Pass())])
    with composite.context(network):
        return gradient(network, x)


def integrated_gradients(network: nn.Module, x: Tensor) -> Tensor:
    explain = IntegratedGradients(lambda batch: logit(network, batch))
    return explain.attribute(x, n_steps=STEPS, internal_batch_size=len(x))


def measure(methods: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every run, the methods taking turns; the warm-up is left out."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for turn in tqdm(range(repeats + 1), unit="turn"):
        for name, run in methods.items():
            start = time.perf_counter()
            run()
            if turn > 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def compare(seconds: dict[str, list[float]], windows: int) -> list[dict[str, str | float]]:
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    plain = medians["plain gradient"]
    return [
        {
            "method": name,
            "ms_per_window": 1000 * median / windows,
            "times_plain_gradient": median / plain,
        }
        for name, median in medians.items()
    ]


def show(rows: list[dict[str, str | float]]) -> None:
    print(f"{'method':36} {'ms a window':>12} {'x gradient':>12}")
    for row in rows:
        values = f"{row['ms_per_window']:12.2f} {row['times_plain_gradient']:12.2f}"
        print(f"{row['method']:36} {values}")


if __name__ == "__main__":
    main()
