"""Weights on the Hugging Face hub (extra ``hub``): fetched by name, pushed with card and facts."""

import json
import re
import shutil
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from xecg.errors import ConfigError, WeightsError
from xecg.files import sha256

WEIGHTS, FACTS, CARD = "weights.safetensors", "config.json", "README.md"
_REPO = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_INSTALL = "pip install 'xecg-lightning[hub]'"
_NO_REPO = (".safetensors", ".ckpt", ".onnx")


def is_hub_name(source: str | Path) -> bool:
    """Returns whether this is ``user/model`` or ``user/model@revision``, and no path of a file."""
    repo, _, _ = str(source).partition("@")
    is_local = Path(repo).parent.exists() or str(source).endswith(_NO_REPO)
    return bool(_REPO.fullmatch(repo)) and not is_local


def fetch(source: str | Path) -> Path:
    """Returns the weights file of ``user/model`` or ``user/model@revision`` in the hub's cache.

    What is in the cache is taken where the hub cannot be reached, or ``HF_HUB_OFFLINE=1`` says so.
    All files are of one commit, whatever is pushed meanwhile. Raises WeightsError if there is no
    such model, or the SHA-256 of its weights is another than the one beside them.
    """
    repo, _, revision = str(source).partition("@")
    offline = False
    try:
        from huggingface_hub import hf_hub_download

        offline = _is_offline(repo, revision or None)
        at: dict[str, Any] = {"revision": revision or None, "local_files_only": offline}
        facts = Path(hf_hub_download(repo, FACTS, **at))
        at["revision"] = facts.parent.name
        weights = Path(hf_hub_download(repo, WEIGHTS, **at))
        expected = json.loads(facts.read_text(encoding="utf-8"))["sha256"]
    except ImportError as error:
        raise WeightsError(
            f"{source}: found no such file; a model of the hub needs huggingface_hub: {_INSTALL}"
        ) from error
    except Exception as error:  # the hub's and the transport's own errors have no common class
        reason = "the hub cannot be reached, its cache has no such model"
        raise WeightsError(
            f"{source}: expected a file, a folder of a run, or a model of xecg on the Hugging Face "
            f"hub; found none ({reason if offline else _line(error)})"
        ) from error
    if (found := sha256(weights)) != expected:
        raise WeightsError(
            f"{source}: expected weights of SHA-256 {expected}, as {FACTS} says; found {found} in "
            f"{weights.resolve()}. Remove that file and load it again, or ask who pushed it"
        )
    return weights


def _is_offline(repo: str, revision: str | None) -> bool:
    """Whether the hub does not answer: to ask once is enough, a download tries for 24 s."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        get_hf_file_metadata(hf_hub_url(repo, FACTS, revision=revision))
    except HfHubHTTPError:
        return False  # an answer too
    except Exception:
        return True
    return False


def push(weights: str, *, to: str, card: Path | None = None, licence: str = "apache-2.0") -> None:
    """Shares weights on the Hugging Face hub, with their model card and operating points.

    Prints how exactly these weights are loaded: xecg.load("user/model@commit"). Log in before, by
    hf auth login or the variable HF_TOKEN.

    Args:
        weights: Name of released weights, weights file, or folder of a run.
        to: Model on the hub, user/model; it is made, to be seen by all, if it is not there.
        card: Model card as Markdown; by default the file beside the weights that ends in .md.
        licence: Licence of the weights, as the hub calls it.

    Raises:
        ConfigError: There is no card, or the hub refuses.
        WeightsError: The weights cannot be used.
    """
    from xecg.networks.weights import find_weights, load_xecgarch

    path = find_weights(weights)
    info = load_xecgarch(path)[1]
    card = card or path.with_suffix(".md")
    if not _REPO.fullmatch(to) or not card.is_file():
        raise ConfigError(f"push: expected --to user/model and a card; found {to!r} and no {card}")
    made = {"operating_points": info.operating_points, "preprocessing": info.preprocessing}
    facts = made | {"sha256": sha256(path), "xecg": version("xecg-lightning")}
    head = f"---\nlibrary_name: xecg\nlicense: {licence}\ntags: [ecg, atrial-fibrillation]\n---\n"
    try:
        from huggingface_hub import HfApi

        with TemporaryDirectory() as folder:
            text = card.read_text(encoding="utf-8")
            Path(folder, CARD).write_text(text if text[:3] == "---" else head + text, "utf-8")
            Path(folder, FACTS).write_text(json.dumps(facts, indent=2), encoding="utf-8")
            shutil.copyfile(path, Path(folder, WEIGHTS))
            HfApi().create_repo(to, exist_ok=True)
            pushed = HfApi().upload_folder(repo_id=to, folder_path=folder)
    except ImportError as error:
        raise ConfigError(f"--to {to}: needs huggingface_hub: {_INSTALL}") from error
    except Exception as error:
        raise ConfigError(f"--to {to}: cannot be pushed ({_line(error)})") from error
    print(f'xecg.load("{to}@{pushed.oid}")')


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
