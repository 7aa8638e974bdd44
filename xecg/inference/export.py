"""`xecg export`: a network that classifies and explains, as one file for other programs."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import ExportedProgram

from xecg.errors import ConfigError, ExportError, RecordError
from xecg.explain.graph import explained_program
from xecg.files import sha256, write_whole
from xecg.inference.exported import ATTRIBUTION, FORMAT, INSTALL, Exported
from xecg.inference.model import Floats, Model, load
from xecg.inference.records import LeadWindows, Problem, cut_lead, item_of, list_records, read_items
from xecg.networks import FUSED
from xecg.networks.weights import RELEASED
from xecg.signal.synthetic import RHYTHMS, synthesize

# Of windows (n, time): P(AF) (n,) fused and by branch; explained logits (n, 1), maps (n, 1, time).
Said = tuple[dict[str, Floats], dict[str, tuple[Floats, Floats]]]
Made = tuple[bytes, Callable[[Floats], Said]]  # a file, and what it says of windows
P_AF_TOLERANCE = 1e-5
RELEVANCE_TOLERANCE = 1e-4  # of the largest value of a map; where it is steady
ABOUT = "about.json"  # in a .pt2 file

log = logging.getLogger(__name__)


def export(
    *,
    out: Path,
    weights: str = "xecgarch",
    check: list[Path] | None = None,
    licence: str | None = None,
    overwrite: bool = False,
) -> None:
    """Writes a trained network, its calibration and its explanation as one file.

    The file takes windows ecg (batch, 1, time), scaled to [0, 1], of any batch, and returns p_af,
    p_af_<branch>, relevance_<branch> (deep Taylor decomposition of the class that the branch
    predicts, by the rules of iNNvestigate) and logit_<branch> (what is explained). Its metadata
    hold preprocessing, threshold, operating points, prevalence, licence and digest of the weights.
    What it says is compared with the network on synthetic ECGs and on --check before it is written:
    probabilities within 1e-5, relevance within 1e-4 of a map's largest value, equal decisions.
    docs/EXPORT.md shows its use. Not a medical device.

    Args:
        out: File to write: .onnx, or .pt2 for torch.export.
        weights: Name of released weights, weights file, or folder of a run.
        check: Records, or folders of them, on which to compare as well.
        licence: Licence of the weights; by default Apache-2.0 for released ones.
        overwrite: Replace the file.

    Raises XECGError if a setting, the weights or the records cannot be used, or the extra `export`
    is missing; ExportError if the file would not say what the network says: none is written then.
    """
    if out.suffix not in (".onnx", ".pt2"):
        raise ConfigError(f"--out {out}: expected a name that ends with .onnx or .pt2")
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists already; name another --out, or pass --overwrite")
    model = load(weights)
    if isinstance(model.network, Exported):
        raise ConfigError(f"--weights {weights}: expected weights, found an exported file")
    about = _about(model, licence)
    program = explained_program(model.network, model.preprocessing.window_samples)
    content, said_by = (_onnx if out.suffix == ".onnx" else _pt2)(program, about)
    points = model.info.operating_points.values()
    thresholds = [model.threshold, model.prevalence, *(point["threshold"] for point in points)]
    leads = [*_synthetic(model), *_checked(model, check)]
    for lead in leads:
        compare(said_by(lead.signals), model, lead, thresholds)
    write_whole(out, content)
    log.info("%s: says what the weights say on %d windows", out, sum(map(len, leads)))


def _about(model: Model, licence: str | None) -> dict[str, str]:
    """What the file says of itself; values that are no text as JSON."""
    released = model.weights.parent == RELEASED
    return {
        "format": FORMAT,
        "notice": "For research; not a medical device.",
        "xecg": version("xecg-lightning"),
        "weights": model.weights.name,
        "weights_sha256": sha256(model.weights),
        "licence": licence or ("Apache-2.0" if released else "not stated"),
        "branches": json.dumps(model.branches),
        "attribution": ATTRIBUTION,
        "preprocessing": json.dumps(model.preprocessing.to_dict()),
        "threshold": json.dumps(model.threshold),
        "operating_points": json.dumps(dict(model.info.operating_points)),
        "prevalence": json.dumps(model.prevalence),  # 0: not calibrated
    }


def _onnx(program: ExportedProgram, about: dict[str, str]) -> Made:
    """The content of an ONNX file, and what onnxruntime makes of it."""
    try:
        from onnx.helper import set_model_props

        kinds, branches = ("p_af", "relevance", "logit"), json.loads(about["branches"])
        names = ["p_af", *(f"{kind}_{branch}" for kind in kinds for branch in branches)]
        options: Any = {"dynamo": True, "optimize": False, "verbose": False}
        made = torch.onnx.export(program, (), input_names=["ecg"], output_names=names, **options)
    except ImportError as error:
        raise ConfigError(f"an ONNX file: {error.name} {INSTALL}") from error
    graph = made.model_proto  # type: ignore[union-attr]
    for node in graph.graph.node:  # where this machine keeps its Python is nobody's business
        del node.metadata_props[:]
    set_model_props(graph, about)
    content = graph.SerializeToString()
    exported = Exported(content)
    return content, lambda windows: (exported.p_af(windows), exported.explain(windows[:, None]))


def _pt2(program: ExportedProgram, about: dict[str, str]) -> Made:
    """The content of a file of torch.export, and what torch makes of it."""
    file = BytesIO()
    torch.export.save(program, file, extra_files={ABOUT: json.dumps(about)})
    file.seek(0)
    module, branches = torch.export.load(file).module(), json.loads(about["branches"])

    def said(windows: Floats) -> Said:
        with torch.no_grad():
            found = module(torch.from_numpy(windows).unsqueeze(1))
        found = {name: tensor.numpy() for name, tensor in found.items()}
        p_af = {FUSED: found["p_af"]} | {b: found[f"p_af_{b}"] for b in branches}
        return p_af, {b: (found[f"logit_{b}"][:, None], found[f"relevance_{b}"]) for b in branches}

    return file.getvalue(), said


def _synthetic(model: Model) -> Iterator[LeadWindows]:
    length_s = 4.5 * model.preprocessing.window_s  # five windows, no multiple of a batch
    for seed, rhythm in enumerate(RHYTHMS):
        ecg = synthesize(rhythm, duration_s=length_s, sampling_rate=500.0, seed=seed, name=rhythm)
        yield cut_lead(ecg.recording, 0, model.preprocessing)


def _checked(model: Model, paths: list[Path] | None) -> list[LeadWindows]:
    """Windows of records; RecordError if there is none of use."""
    records, failures = list_records(paths or [])
    problems = [Problem(name, reason, True) for name, reason in failures.items()]
    items = [item_of(name, path) for name, path in records.items()]
    leads = [*read_items(items, model.preprocessing, None, problems)]
    for name, reason, _ in problems:
        log.warning("--check: %s: %s", name, reason)
    if paths and not leads:
        raise RecordError(f"--check: expected a record, found none of use: {problems}")
    return leads


def compare(said: Said, model: Model, lead: LeadWindows, thresholds: Sequence[float]) -> None:
    """Raises ExportError if what a file says differs too much from its model, or in a decision."""
    p_af, maps = said
    explained = model.explainer().explain(torch.from_numpy(lead.signals).unsqueeze(1))
    found: dict[str, tuple[NDArray[Any], Any]] = {}  # by window, and what is allowed
    for name, p in model.p_af(lead.signals).items():
        decisions = [(p > at) != (p_af[name] > at) for at in (0.5, *thresholds)]
        found[f"p_af of {name}"] = np.abs(p - p_af[name]), P_AF_TOLERANCE
        found[f"decision of {name}"] = np.any(decisions, axis=0), 0
    for name, (_, relevance) in explained.items():
        off = _apart(relevance, torch.from_numpy(maps[name][1]))
        allowed = np.full(len(off), RELEVANCE_TOLERANCE)
        for row in np.flatnonzero(~(off <= allowed)):
            allowed[row] = max(allowed[row], 2 * _unsteadiness(model, lead.signals[row], name))
        found[f"relevance of {name}"] = off, allowed
    for what, (off, allowed) in found.items():
        wrong = ~(off <= allowed)  # NaN too
        if wrong.any():
            row = wrong.argmax()
            most = np.broadcast_to(allowed, off.shape)[row]
            raise ExportError(
                f"{what}, {lead.record} at {lead.start_s[row]:g} s: expected a difference of at "
                f"most {most:.3g} from the weights, found {off[row]:.3g}; no file is written"
            )


def _apart(maps: Tensor, others: Tensor) -> NDArray[np.float32]:
    """By how much maps ``(n, 1, time)`` differ, relative to the largest value of each, ``(n,)``."""
    largest = maps.amax(dim=(1, 2)).clamp(min=torch.finfo(torch.float32).tiny)
    return ((maps - others).abs().amax(dim=(1, 2)) / largest).numpy()


def _unsteadiness(model: Model, window: Floats, branch: str) -> float:
    """By how much a map of the weights changes if the ECG changes by a millionth of its range.

    That is much where the rules divide by what is zero but for rounding; no two programs, nor two
    processors, agree there.
    """
    noise = torch.randn(16, 1, len(window), generator=torch.Generator().manual_seed(0))
    noise[0] = 0
    changed = model.explainer().explain(torch.from_numpy(window) + 1e-6 * noise)
    maps = changed[branch].relevance
    return float(_apart(maps[:1].expand_as(maps), maps).max())
