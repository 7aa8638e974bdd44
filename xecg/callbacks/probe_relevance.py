"""Relevance of a probe, the work shared by the processes of a run."""

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from xecg.explain.deep_taylor import DeepTaylor
from xecg.networks.xecgarch import XECGArch

_BATCH = 32  # windows at a time: what the layers keep of them stays small


def explain_probe(
    trainer: Trainer, network: XECGArch, deep_taylor: DeepTaylor, signals: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Logits of each branch, and relevance for the class that it predicts.

    Every process explains its share of the windows and all receive all results, so that the
    processes agree to the bit and a probe costs the same part of an epoch on any number of them.

    Args:
        trainer: Its strategy gathers.
        network: In eval mode.
        deep_taylor: Explains ``network``.
        signals: The probe ``(n, 1, time)``, on the CPU.

    Returns:
        By branch, float32 on the CPU: logits ``(n, 2)`` and relevance ``(n, time)``.
    """
    share = torch.arange(-(-len(signals) // trainer.world_size)) * trainer.world_size
    rows = (share + trainer.global_rank) % len(signals)  # shares of one size; the surplus repeats
    results = _explain(network, deep_taylor, signals[rows])
    gathered = [_gather(trainer, result)[: len(signals)].cpu() for result in results]
    logits, relevance = (dict(zip(network.branches, g.unbind(1), strict=True)) for g in gathered)
    return logits, relevance


def _explain(network: XECGArch, deep_taylor: DeepTaylor, signals: Tensor) -> tuple[Tensor, Tensor]:
    """Logits ``(n, branches, 2)`` and relevance ``(n, branches, time)`` on the network's device."""
    weight = next(network.parameters())
    logits, relevance = [], []
    for batch in torch.split(signals.to(weight.device), _BATCH):
        with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
            outputs = network(batch.to(weight.dtype))
        maps = deep_taylor.attribute(batch)
        assert isinstance(maps, dict)  # the network has branches
        logits.append(torch.stack([outputs[name].float() for name in network.branches], dim=1))
        relevance.append(torch.cat([maps[name] for name in network.branches], dim=1))
    return torch.cat(logits), torch.cat(relevance)


def _gather(trainer: Trainer, mine: Tensor) -> Tensor:
    """Put together what the processes have of rows that were dealt out in turn."""
    gathered = trainer.strategy.all_gather(mine)
    by_process = gathered.reshape(trainer.world_size, *mine.shape)
    return by_process.transpose(0, 1).flatten(0, 1)
