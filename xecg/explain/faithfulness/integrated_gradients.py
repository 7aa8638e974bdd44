"""Integrated gradients by captum, which is an optional extra; nothing else imports captum."""

from importlib.util import find_spec

from torch import Tensor

from xecg.errors import ConfigError
from xecg.explain.faithfulness.decisions import Decisions

_POINTS = 20  # on the path from the flat line; Gauss-Legendre needs few


def check_captum() -> None:
    """Check that captum is installed.

    Raises:
        ConfigError: It is not; says what to do.
    """
    if find_spec("captum") is None:
        raise ConfigError(
            "integrated gradients need captum, which is not installed: "
            "pip install 'xecg-lightning[compare]', or choose --methods without "
            "integrated_gradients"
        )


def integrated_gradients(decisions: Decisions) -> Tensor:
    """Integrated gradients of the explained logit (Sundararajan et al. 2017, arXiv 1703.01365).

    The path starts at zero: of a min-max scaled window, the flat line at its lowest value.

    Returns:
        Signed attributions ``(n, 1, time)``.

    Raises:
        ConfigError: captum is not installed.
    """
    check_captum()
    from captum.attr import IntegratedGradients

    explainer = IntegratedGradients(decisions.network, multiply_by_inputs=True)
    attributions: Tensor = explainer.attribute(
        decisions.x.clone(),
        baselines=0.0,
        target=decisions.classes,
        n_steps=_POINTS,
        method="gausslegendre",
    )
    return attributions.to(decisions.x.dtype)
