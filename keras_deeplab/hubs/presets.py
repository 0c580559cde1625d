"""Presets: a model as a folder, as Keras has it, with a model card; written whole, read, brought to the hub."""

import json
import os
import re
from pathlib import Path
from typing import Any

import keras

from keras_deeplab._helpers.files import new_folder, write_whole
from keras_deeplab._version import __version__
from keras_deeplab.hubs import card as cards
from keras_deeplab.hubs.card import Card
from keras_deeplab.loading import load
from keras_deeplab.specs.model import SegmentationModel, spec_of, with_spec
from keras_deeplab.weights import handles

README = "README.md"
# What Keras's own saving writes where it isn't asked for one file.
FILES = ("config.json", "metadata.json", "model.weights.h5")


def save_to_preset(
    model: keras.Model, folder: str | os.PathLike, card: Card | None = None, handle: str | None = None
) -> Path:
    """Writes a model as a preset: `config.json`, `model.weights.h5`, `metadata.json` and the model card `README.md`.

    `keras_deeplab.load` and `from_preset` open the folder, and so does `keras.saving.load_model` in a process that
    imported keras_deeplab. The state of an optimizer stays behind.

    Args:
        model: a functional model from images to scores.
        folder: a path where nothing is yet. It appears whole or not at all.
        card: what the model's author knows of it. What isn't given stands in the card as not stated.
        handle: `"hf://user/name"`, for the card's example, where the folder will go there.

    Returns:
        The folder's path.

    Raises:
        FileExistsError: there is something at the path.
        ValueError: the model isn't one from images to scores, or `handle` is none.

    >>> import tempfile, keras_deeplab
    >>> model = keras_deeplab.DeepLabV3("mobilenet_v2", num_classes=2, filters=8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = keras_deeplab.save_to_preset(model, f"{folder}/fields")
    ...     names = sorted(file.name for file in path.iterdir())
    ...     again = keras_deeplab.from_preset(path)
    >>> names, again.spec == model.spec
    (['README.md', 'config.json', 'metadata.json', 'model.weights.h5'], True)
    """
    if handle is not None:
        handles.parse(handle)
    model = with_spec(model)
    with new_folder(folder) as temporary:
        model.save(temporary, zipped=False, include_optimizer=False)
        (temporary / "assets").rmdir()  # which Keras makes for layers that have files
        metadata = json.loads((temporary / "metadata.json").read_text())
        metadata["keras_deeplab_version"] = __version__
        (temporary / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")
        content = cards.text(spec_of(model), card or Card(), model.name, model.count_params(), handle)
        (temporary / README).write_text(content, encoding="utf-8")
    return Path(folder)


def from_preset(preset: str | os.PathLike, **settings: Any) -> SegmentationModel:
    """A preset's folder, or a handle of the Hugging Face Hub, to a model with its weights.

    Args:
        preset: a folder that `save_to_preset` wrote or any other that `keras_deeplab.load` opens, of transformers or
            keras-hub for example; or `"hf://user/name"`, `"hf://user/name@revision"`.
        settings: as `keras_deeplab.load` takes them.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is a file; or as `load` raises.
    """
    if not os.fspath(preset).startswith(handles.SCHEME) and not Path(preset).is_dir():
        if Path(preset).exists():
            raise ValueError(f"A preset is a folder or an hf:// handle; {os.fspath(preset)!r} is a file, for load().")
        raise FileNotFoundError(f"There is no folder {os.fspath(preset)!r}.")
    return load(preset, **settings)


def upload(
    folder: str | os.PathLike,
    handle: str,
    card: Card | None = None,
    private: bool = False,
    token: str | None = None,
    message: str | None = None,
) -> str:
    """Brings a preset to the Hugging Face Hub, in one commit.

    Args:
        folder: what `save_to_preset` wrote. Anything else in it is refused, so that nothing is published by mistake.
        handle: `"hf://user/name"`; the repository is made where there is none.
        card: None for the README.md that is there; else it is written anew, from this and the model's record.
        private: whether a repository that is made is private.
        token: of the hub; None for the one that `hf auth login` stored.
        message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        ImportError: huggingface_hub isn't installed.
        ValueError: the folder is no preset, the handle is none or names a revision; the hub refuses.
    """
    repo, revision = handles.parse(handle)
    if revision is not None:
        raise ValueError(f"A preset goes to a repository, not to a revision of it; received {handle!r}.")
    folder = Path(folder)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{os.fspath(folder)!r} is no preset as save_to_preset writes it: it lacks {', '.join(missing)}."
        )
    others = sorted(path.name for path in folder.iterdir() if path.name not in (*FILES, README))
    if others:
        raise ValueError(f"{os.fspath(folder)!r} holds more than a preset: {', '.join(others[:6])}. Move it elsewhere.")
    package = handles.hub()
    model = load(folder)
    if card is not None or not (folder / README).is_file():
        content = cards.text(spec_of(model), card or Card(), model.name, model.count_params(), handle)
        write_whole(folder / README, content.encode())
    api = package.HfApi(token=token, library_name="keras_deeplab", library_version=__version__)
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=[*FILES, README],
            commit_message=message or f"{model.name}, by keras_deeplab {__version__}",
        )
    except Exception as error:  # whatever the network, a proxy or the hub raises
        told = re.sub(r"\s+", " ", str(error))[:500]
        raise ValueError(
            f"{handle} can't be written: {type(error).__name__}: {told}. The folder {os.fspath(folder)!r} is whole: "
            "try again, or upload it by other means."
        ) from error
    return str(done.commit_url)
