"""Weights as safetensors: with settings, data and seed that made them, and loaded strictly."""

import hashlib
import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from xecg.errors import WeightsError
from xecg.files import write_whole
from xecg.hub import fetch, is_hub_name
from xecg.networks.branch import BlockSpec, Branch
from xecg.networks.xecgarch import XECGArch

FORMAT = "xecg-weights-1"
RELEASED = Path(__file__).parent.parent / "weights"
_DIGEST = "sha256"  # of the file's contents, in its metadata
_FIELDS = ("architecture", "preprocessing", "provenance")


@dataclass(frozen=True)
class WeightsInfo:
    """Architecture, preprocessing and origin of weights."""

    architecture: Mapping[str, Any]  # block specs and channels of each branch
    preprocessing: Mapping[str, Any]  # settings that make the windows that the weights take
    provenance: Mapping[str, Any] = field(default_factory=dict)  # task, data, seed, epoch, version
    # Keys of the persons and signals that were trained and selected on, int64; None: unknown.
    learnt: Tensor | None = field(default=None, compare=False)

    @property
    def operating_points(self) -> Mapping[str, Mapping[str, float]]:
        """Thresholds by name, with sensitivity and specificity; none before a calibration."""
        points: Mapping[str, Mapping[str, float]] = self.provenance.get("operating_points", {})
        return points


def describe_branches(branches: Mapping[str, nn.Module] | nn.ModuleDict) -> dict[str, Any]:
    """Returns the architecture of branches, as it is written into a weights file."""
    return {
        name: {"channels": branch.width, "specs": [asdict(spec) for spec in branch.specs]}
        for name, branch in branches.items()
        if isinstance(branch, Branch)
    }


def save_weights(network: nn.Module, path: Path, info: WeightsInfo) -> None:
    """Writes all parameters and buffers of ``network``, whole or not at all.

    Raises WeightsError if ``path`` exists already.
    """
    if path.exists():
        raise WeightsError(f"{path} exists already; choose another name or move it away")
    metadata = {"format": FORMAT} | {key: json.dumps(dict(getattr(info, key))) for key in _FIELDS}
    if info.learnt is not None:
        metadata["learnt"] = _packed(info.learnt)
    tensors = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, _sorted(save(tensors, metadata | {_DIGEST: _digest(tensors, metadata)})))


def _sorted(file: bytes) -> bytes:
    """Sorts a header, as the library does not: equal weights are to be equal files."""
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8:end]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + file[end:]


def _digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """SHA-256 of everything but itself, in an order of its own."""
    others = sorted(item for item in metadata.items() if item[0] != _DIGEST)
    hashed = hashlib.sha256(json.dumps(others).encode())
    for name, values in sorted(tensors.items()):
        hashed.update(json.dumps([name, str(values.dtype), values.shape]).encode())
        hashed.update(values.flatten().view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def load_branch(branch: Branch, name: str, source: str | Path) -> WeightsInfo:
    """Loads the branch called ``name`` of a weights file, or of released weights, into ``branch``.

    Raises WeightsError if the file is none, holds no such branch, or does not fit exactly.
    """
    path, tensors, info = _read(source)
    if name not in info.architecture:
        found = ", ".join(info.architecture)
        remedy = f"Choose weights that were pre-trained for {name}"
        raise WeightsError(f"{path} holds branch {found}; expected branch {name}. {remedy}")
    _load_strictly(branch, tensors, f"branches.{name}.", path)
    return info


def load_xecgarch(source: str | Path) -> tuple[XECGArch, WeightsInfo]:
    """Returns the network that a weights file holds, in eval mode, and the file's metadata.

    Raises WeightsError if the file is none, or holds another network.
    """
    path, tensors, info = _read(source)
    branches = {
        name: Branch([BlockSpec(**spec) for spec in shape["specs"]], shape["channels"])
        for name, shape in info.architecture.items()
    }
    network = XECGArch(branches)
    _load_strictly(network, tensors, "", path)
    return network.eval(), info


def find_weights(source: str | Path) -> Path:
    """Returns the file of ``source``: itself, of a run's folder, released, or of the hub.

    A model of the hub is ``user/model`` or ``user/model@revision``, see :mod:`xecg.hub`. Raises
    WeightsError if there is none; the error names the released weights.
    """
    places = (Path(source), Path(source, "weights.safetensors"), RELEASED / f"{source}.safetensors")
    if found := next(filter(Path.is_file, places), None):
        return found
    if is_hub_name(source):
        return fetch(source)
    names = ", ".join(sorted(path.stem for path in RELEASED.glob("*.safetensors")))
    expected = "expected a weights file or the name of released weights"
    raise WeightsError(f"{expected}; found no file {source}. Released: {names}")


def _read(source: str | Path) -> tuple[Path, dict[str, Tensor], WeightsInfo]:
    path = find_weights(source)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is no safetensors file ({error}). Weights are the weights.safetensors of a "
            "run's folder, not a .ckpt"
        ) from error
    if (found := metadata.get("format")) != FORMAT:
        raise WeightsError(
            f"{path}: expected format {FORMAT!r}; found {found!r}: no weights of xecg"
        )
    if (expected := metadata.get(_DIGEST)) != (found := _digest(tensors, metadata)):
        raise WeightsError(f"{path}: damaged: expected digest {expected}, found {found}; copy it")
    info = {key: json.loads(metadata[key]) for key in _FIELDS}
    if "learnt" in metadata:
        info["learnt"] = _unpacked(metadata["learnt"])
    return path, tensors, WeightsInfo(**info)


def _packed(keys: Tensor) -> str:
    """Packs int64 keys as text: sorted, as differences, compressed; 9,000 take some 50 kB."""
    differences = torch.unique(keys).diff(prepend=torch.zeros(1, dtype=torch.int64))
    return b64encode(zlib.compress(differences.numpy().tobytes(), 9)).decode()


def _unpacked(text: str) -> Tensor:
    differences = bytearray(zlib.decompress(b64decode(text)))
    return torch.frombuffer(differences, dtype=torch.int64).cumsum(0)


def _load_strictly(module: nn.Module, tensors: dict[str, Tensor], prefix: str, path: Path) -> None:
    chosen = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
    found, wanted = (
        {key: f"{values.dtype} {tuple(values.shape)}" for key, values in of.items()}
        for of in (chosen, module.state_dict())
    )
    wrong = [
        f"{key}: expected {wanted.get(key, 'none')}, found {found.get(key, 'none')}"
        for key in sorted(found.keys() | wanted.keys())
        if found.get(key) != wanted.get(key)
    ]
    wrong += [f"{key}: not finite" for key, of in chosen.items() if not torch.isfinite(of).all()]
    if wrong:
        raise WeightsError(
            f"{path}: the tensors under {prefix!r} do not fit the network. {'; '.join(wrong)}. "
            "Set the same channels as in the file, or choose another file"
        )
    module.load_state_dict(chosen, strict=True)
