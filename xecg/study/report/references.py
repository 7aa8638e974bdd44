"""What others found, drawn as reference lines."""

from xecg.explain.pictures import FUSED
from xecg.explain.relevance import domain_specificity

ORIGINAL = "original xECGArch"
ORIGINAL_TEST_SET = "xfusemap"
"""The database on which the original was measured."""

PUBLISHED_ACCURACY = (0.8570, 0.9523)
"""Fine-tuning accuracy over all frozen depths, lowest and highest (Zannini et al. 2026)."""

ORIGINAL_NOTE = (
    "The original xECGArch has no pre-training. Its relevance (iNNvestigate's deep Taylor "
    "decomposition, the same waves) is of the 763 ECGs of xfusemap's open half, its accuracy and "
    "F1 of all 1,521 ECGs; the test set may be a part of them."
)
PUBLISHED_NOTE = (
    "Published range: accuracy 85.70 to 95.23 % over all frozen depths (Zannini et al. 2026), on "
    "that study's own test set."
)

_ACCURACY = {"morphology": 0.959, "rhythm": 0.965, FUSED: 0.971}
_F1 = {"morphology": 0.940, "rhythm": 0.948, FUSED: 0.957}
_ENRICHMENT = {
    ("morphology", "non-AF"): {"P": 1.514, "QRS": 0.697, "ST-T": 0.724, "other": 1.010},
    ("morphology", "AF"): {"P": 1.135, "QRS": 0.830, "ST-T": 0.955, "other": 0.984},
    ("rhythm", "non-AF"): {"P": 1.183, "QRS": 3.296, "ST-T": 0.622, "other": 0.548},
    ("rhythm", "AF"): {"P": 0.567, "QRS": 2.978, "ST-T": 0.680, "other": 0.742},
}


def original_metric(test_set: str, metric: str, output: str) -> float | None:
    """Accuracy or F1 of the original; None where it is not known."""
    known = {"accuracy": _ACCURACY, "f1": _F1}.get(metric, {})
    return known.get(output) if test_set == ORIGINAL_TEST_SET else None


def original_enrichment(test_set: str, branch: str, rhythm: str, wave: str) -> float | None:
    """Mean enrichment of a wave in the original's maps; None where it is not known."""
    known = _ENRICHMENT.get((branch, rhythm), {})
    return known.get(wave) if test_set == ORIGINAL_TEST_SET else None


def original_specificity(test_set: str, branch: str, rhythm: str) -> float | None:
    """Domain specificity of the original's mean enrichments; None where it is not known."""
    p = original_enrichment(test_set, branch, rhythm, "P")
    qrs = original_enrichment(test_set, branch, rhythm, "QRS")
    return None if p is None or qrs is None else float(domain_specificity(p, qrs, branch))
