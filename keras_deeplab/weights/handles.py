"""Handles of the Hugging Face Hub, `hf://user/name` or `hf://user/name@revision`, to folders with what they name."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_deeplab.weights.places import HUB_FILES, checkpoints_among

SCHEME = "hf://"
_HANDLE = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w./-]+))?/?")
_EXTRA = "pip install 'keras_deeplab[hub]'"


@dataclass(frozen=True)
class Snapshot:
    """A folder with the files of a handle; `handle` names the exact revision, a commit's hash."""

    folder: Path
    handle: str


def parse(handle: str) -> tuple[str, str | None]:
    """A handle to (`"user/name"`, its revision or None).

    Raises:
        ValueError: it is none.

    >>> parse("hf://google/deeplabv3_mobilenet_v2_1.0_513@main")
    ('google/deeplabv3_mobilenet_v2_1.0_513', 'main')
    """
    found = _HANDLE.fullmatch(handle)
    if found is None:
        raise ValueError(f"A handle is 'hf://user/name' or 'hf://user/name@revision'; received {handle!r}.")
    return found["repo"], found["revision"]


def hub() -> Any:
    """The package huggingface_hub.

    Raises:
        ImportError: it isn't installed; the message says how it is.
    """
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise ImportError(f"hf:// handles need the package huggingface_hub: {_EXTRA}") from error
    return huggingface_hub


def fetch(handle: str) -> Snapshot:
    """The files that `load` needs of a handle, from the hub, or where it can't be reached from the hub's local cache.

    A revision is resolved to a commit first, and all files are those of that commit. Of the weights that a hub has in
    several formats one is fetched, by the order of `places.HUB_FILES`.

    Raises:
        ImportError: huggingface_hub isn't installed.
        ValueError: it is no handle, there is no such repository, revision or checkpoint in it, or the hub can't be
            reached and its cache lacks the files; the message says where to put them.
    """
    repo, revision = parse(handle)
    package = hub()
    api = package.HfApi(library_name="keras_deeplab")
    try:
        info = api.model_info(repo, revision=revision)
        commit, names = info.sha, [each.rfilename for each in info.siblings or ()]
        wanted = _wanted(names)
        if not wanted:
            raise ValueError(f"it has no file of weights that is read here, only {', '.join(names[:12]) or 'nothing'}")
        paths = [Path(api.hf_hub_download(repo, name, revision=commit)) for name in wanted]
        if revision != commit:  # which lets the cache know what the revision's name stands for
            api.hf_hub_download(repo, wanted[-1], revision=revision or "main")
    except package.errors.RepositoryNotFoundError as error:
        raise ValueError(
            f"{handle} can't be loaded: there is no such repository, or it is private or gated and needs a token "
            "(hf auth login)."
        ) from error
    except package.errors.RevisionNotFoundError as error:
        raise ValueError(f"{handle} can't be loaded: {repo} has no revision {revision!r}.") from error
    except Exception as error:  # whatever the network, a proxy or the disk raises
        cached = None if isinstance(error, ValueError) else _cached(package, repo, revision)
        if cached is not None:
            return cached
        told = str(error).splitlines()[0] if str(error) else ""
        raise ValueError(
            f"{handle} can't be loaded: {type(error).__name__}: {told}. Without a connection put the repository's "
            "config.json, its file of weights and what else ends in .json into a folder and give its path; or run "
            f"'hf download {repo}' where there is one, and bring the folder {package.constants.HF_HUB_CACHE} along."
        ) from error
    return Snapshot(_root(paths[0], wanted[0]), f"{SCHEME}{repo}@{commit}")


def _wanted(names):
    """Of a repository's files at its top those that `load` needs: one checkpoint, and the descriptions beside."""
    top = [name for name in names if "/" not in name]
    weights = next((name for name in HUB_FILES if name in top), None)
    if weights is None:
        found = checkpoints_among(top)
    elif weights.endswith(".index.json"):
        stem, ending = weights.removesuffix(".index.json").rsplit(".", 1)
        found = [weights, *(name for name in top if name.startswith(f"{stem}-") and name.endswith(f".{ending}"))]
    else:
        found = [weights, *(name for name in ("task.weights.h5",) if name in top and weights == "model.weights.h5")]
    descriptions = [name for name in top if name.endswith(".json") and name not in found]
    descriptions = [name for name in descriptions if not name.endswith(".index.json")]
    return [*found, *descriptions] if found else []


def _cached(package, repo, revision):
    """What the hub's cache on this machine has of a repository; None where it lacks it."""
    for name in (*HUB_FILES, "config.json"):
        path = package.try_to_load_from_cache(repo, name, revision=revision or "main")
        if isinstance(path, str):
            folder = Path(path).parent
            whole = _wanted([each.name for each in folder.iterdir()])
            return Snapshot(folder, f"{SCHEME}{repo}@{folder.name}") if whole else None
    return None


def _root(path, name):
    """The folder that a file of this name within the repository lies in the snapshot of."""
    return path.parents[len(Path(name).parts) - 1]
