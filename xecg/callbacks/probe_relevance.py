"""Relevance of a probe, the work shared by the processes of a run."""

from collections.abc import Mapping

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from xecg.explain.deep_taylor import DeepTaylor, Explanation
from xecg.networks.xecgarch import N_CLASSES, XECGArch

_CPU_BATCH = 32  # windows at a time: what the layers keep of them stays in the cache


def explain_probe(
    trainer: Trainer, network: XECGArch, deep_taylor: DeepTaylor, signals: Tensor
) -> dict[str, Explanation]:
    """Logits of each branch, and relevance for the class that it predicts.

    Every process explains its share of the windows and all receive all results, so that the
    processes agree to the bit and a probe costs the same part of an epoch on any number of them.

    Args:
        trainer: Its strategy gathers.
        network: The network.
        deep_taylor: Explains it.
        signals: The probe ``(n, 1, time)``, on the CPU.

    Returns:
        By branch, on the CPU: logits ``(n, 2)`` and relevance ``(n, 1, time)``; NaN if the
        network's weights have diverged, which is for others to stop at.
    """
    n = len(signals)
    share = torch.arange(-(-n // trainer.world_size)) * trainer.world_size
    rows = (share + trainer.global_rank) % n  # shares of one size; the surplus repeats
    explained = _explain(network, deep_taylor, signals[rows])
    return {
        name: Explanation(*(_gather(trainer, result)[:n].cpu() for result in explained[name]))
        for name in network.branches
    }


def _explain(
    network: XECGArch, deep_taylor: DeepTaylor, signals: Tensor
) -> Mapping[str, Explanation]:
    device = next(network.parameters()).device
    x = signals.to(device)
    if not all(bool(weights.isfinite().all()) for weights in network.state_dict().values()):
        unknown = Explanation(
            x.new_full((len(x), N_CLASSES), torch.nan), torch.full_like(x, torch.nan)
        )
        return dict.fromkeys(network.branches, unknown)
    explained = deep_taylor.explain(x, batch_size=_CPU_BATCH if device.type == "cpu" else None)
    assert isinstance(explained, dict)  # the network has branches
    return explained


def _gather(trainer: Trainer, mine: Tensor) -> Tensor:
    """Put together what the processes have of rows that were dealt out in turn."""
    gathered = trainer.strategy.all_gather(mine)
    by_process = gathered.reshape(trainer.world_size, *mine.shape)
    return by_process.transpose(0, 1).flatten(0, 1)
