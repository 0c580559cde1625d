"""Published weights by name: where they are, how large, what they reached, and how to do without a connection."""

import hashlib
import os
from pathlib import Path
from typing import Any

import keras

from keras_deeplab._helpers.ending import remove_at_end
from keras_deeplab.backbones import BACKBONES
from keras_deeplab.published import CLASSIFIERS, MODELS

# What is published here: the weights in the rows of models, and those of classifiers.
PUBLISHED = tuple(row for model in MODELS.values() for row in model.weights) + CLASSIFIERS
BACKBONE = "backbone"  # the family of weights without a DeepLab's head
NAMES = tuple(dict.fromkeys(row.name for row in PUBLISHED))


def find(name: str, family: str | None = None, backbone: Any = None) -> Any:
    """The first `keras_deeplab.published.Weights` of a name, or None.

    Args:
        name: one of `NAMES`.
        family: name of a builder, such as `"DeepLabV3"`, or `"backbone"`; None for any DeepLab.
        backbone: registry key of the backbone or a classifier of that name; None for any.

    >>> find("imagenet", "backbone", "resnet18").file
    'resnet18-f37072fd.pth'
    """
    wanted = BACKBONES.get(getattr(backbone, "name", backbone))  # two keys may have one row
    for row in PUBLISHED:
        fits = row.family == family or (family is None and row.family != BACKBONE)
        if row.name == name and fits and (backbone is None or any(BACKBONES[key] is wanted for key in row.backbones)):
            return row
    return None


def fetch(name: str, family: str | None = None, backbone: Any = None, address: Any = None) -> Any:
    """The path of a file of published weights, downloaded into Keras's cache unless it is there, and checked.

    Args:
        name, family, backbone: as `find` takes them.
        address: where the file is, if not at its source: that of a mirror, with a `/` at its end.

    Raises:
        ValueError: nothing is published for this model; the download failed; the file isn't the published one. A
            download that fails leaves nothing behind.
    """
    row = find(name, family, backbone)
    if row is None:
        raise ValueError(_unpublished(name, family, backbone))
    origin = row.address if address is None else address + row.file
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    target = home / "models" / row.file
    if target.exists():
        problem = _problem(target, row)
        if problem:
            raise ValueError(f"{target} {problem} Remove it and try again.")
        return target
    part = remove_at_end(target.with_name(f".{os.getpid()}.{row.file}"))
    try:
        # Where its cache folder doesn't exist, get_file turns to another one.
        target.parent.mkdir(parents=True, exist_ok=True)
        keras.utils.get_file(part.name, origin=origin, cache_subdir="models", cache_dir=str(home))
        problem = _problem(part, row)
        if not problem:
            os.replace(part, target)
            return target
    except Exception as error:  # whatever the network, a proxy or the disk raises
        raise ValueError(
            f"The weights {name!r} can't be downloaded from {origin}: {error}. Fetch that file by other means and put "
            f"it at {target}, or give its path instead of the name."
        ) from error
    finally:
        part.unlink(missing_ok=True)
    raise ValueError(
        f"What came from {origin} {problem} Nothing of it was kept. Try again, or fetch the file by other means and "
        f"put it at {target}."
    )


def _problem(path, row):
    """What is wrong with a file, None for the published one."""
    size = path.stat().st_size
    if row.checksum is None:
        # Published in MB of one kind or the other, rounded.
        right = 0.9e6 * row.size <= size <= 1.1 * 2**20 * row.size
    else:
        algorithm, _, digits = row.checksum.partition(":")
        with open(path, "rb") as file:
            right = hashlib.file_digest(file, algorithm).hexdigest().startswith(digits)
    if right:
        return None
    return (
        f"has {size / 1e6:.1f} MB"
        + (f" and not the checksum {row.checksum}" if row.checksum else "")
        + f", {row.size:g} MB are published: it is another file or was cut off."
    )


def _unpublished(name, family, backbone):
    key = getattr(backbone, "name", backbone)
    if family != BACKBONE and all(row.family == BACKBONE for row in PUBLISHED if row.name == name):
        return (
            f"The weights {name!r} are a backbone's alone, without a DeepLab's head. Give a builder "
            f"backbone_weights={name!r}."
        )
    same_name = [f"{row.family} on {row.backbones[0]}" for row in PUBLISHED if row.name == name]
    same_backbone = dict.fromkeys(row.name for row in PUBLISHED if key in row.backbones)
    return (
        f"No weights {name!r} are published for {family} on {key or 'any backbone'}. Published under that name: "
        f"{', '.join(same_name) or 'none'}. For that backbone: {', '.join(map(repr, same_backbone)) or 'none'}."
    )
