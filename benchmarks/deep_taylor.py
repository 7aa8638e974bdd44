"""Time of deep Taylor decomposition beside a plain gradient and other ways to explain a batch.

    python benchmarks/deep_taylor.py [--json FILE]

The methods take turns on the same windows and the same network, both branches of xECGArch. About 2
minutes on two idle cores, most of them integrated gradients.
"""

from collections.abc import Callable

import torch
from captum.attr import IntegratedGradients
from side_by_side import Row, alternate, medians, run_alone
from torch import Tensor, nn
from zennit.composites import LayerMapComposite
from zennit.rules import Pass, ZPlus

from xecg.explain.deep_taylor import DeepTaylor
from xecg.networks.xecgarch import XECGArch

TIME = 2500  # 10 s at 250 Hz
WINDOWS = 32
CLASS = 1
STEPS = 50
GRADIENT, Z_PLUS = "plain gradient", "zennit, ZPlus composite"
INTEGRATED = f"captum, integrated gradients ({STEPS} steps)"
DTD = ("DTD, innvestigate", "DTD, innvestigate bounded", "DTD, zbox")


def measure() -> list[Row]:
    torch.manual_seed(0)
    network = XECGArch.build().eval().requires_grad_(False)
    x = torch.rand(WINDOWS, 1, TIME)
    seconds = medians(alternate(methods(network, x)))
    rows = [_row(name, GRADIENT, seconds, seconds[name] / seconds[GRADIENT]) for name in DTD]
    for name, goal in ((Z_PLUS, 2.0), (INTEGRATED, 20.0)):
        rows += [_row(dtd, name, seconds, seconds[name] / seconds[dtd], goal) for dtd in DTD[::2]]
    return rows


def _row(
    name: str, other: str, seconds: dict[str, float], value: float, times_as_fast: float = 0.0
) -> Row:
    return Row(
        what=f"{name}, speed" if times_as_fast else f"{name} of a batch",
        against=other,
        value=value,
        goal=times_as_fast or 2.0,
        better="at least" if times_as_fast else "at most",
        measured={
            case: f"{1000 * seconds[case] / WINDOWS:.2f} ms/window" for case in (name, other)
        },
    )


def methods(network: nn.Module, x: Tensor) -> dict[str, Callable[[], object]]:
    innvestigate = DeepTaylor(network)
    bounded = DeepTaylor(network, bounded=True)
    zbox = DeepTaylor(network, "zbox")
    return {
        GRADIENT: lambda: gradient(network, x),
        "DTD, innvestigate": lambda: innvestigate.attribute(x, CLASS),
        "DTD, innvestigate bounded": lambda: bounded.attribute(x, CLASS),
        "DTD, zbox": lambda: zbox.attribute(x, CLASS),
        Z_PLUS: lambda: z_plus(network, x),
        INTEGRATED: lambda: integrated_gradients(network, x),
    }


def gradient(network: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(logit(network, x).sum(), x)[0]


def logit(network: nn.Module, x: Tensor) -> Tensor:
    return sum(logits[:, CLASS] for logits in network(x).values())


def z_plus(network: nn.Module, x: Tensor) -> Tensor:
    rule = ZPlus(zero_params=["bias"])
    composite = LayerMapComposite([((nn.Conv1d, nn.Linear), rule), ((nn.BatchNorm1d,), Pass())])
    with composite.context(network):
        return gradient(network, x)


def integrated_gradients(network: nn.Module, x: Tensor) -> Tensor:
    explain = IntegratedGradients(lambda batch: logit(network, batch))
    return explain.attribute(x, n_steps=STEPS, internal_batch_size=len(x))


if __name__ == "__main__":
    run_alone(measure, __doc__)
