"""The fastest arithmetic that a processor has for training."""

from typing import Literal

import torch

Precision = Literal["bf16-mixed", "32-true"]


def default_precision(accelerator: str = "auto") -> tuple[Precision, str]:
    """Precision to train in, and why.

    bfloat16 convolutions are faster where the processor multiplies bfloat16 itself; elsewhere they
    are emulated and slower than float32.

    Args:
        accelerator: As given to the Trainer.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return (
                "bf16-mixed",
                "the GPU computes bfloat16; --trainer.precision 32-true for float32",
            )
        return "32-true", "the GPU does not compute bfloat16"
    if accelerator in ("auto", "cpu") and _cpu_multiplies_bfloat16():
        return "bf16-mixed", "the CPU computes bfloat16; --trainer.precision 32-true for float32"
    return "32-true", "this processor is not known to compute bfloat16"


def _cpu_multiplies_bfloat16() -> bool:
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)
