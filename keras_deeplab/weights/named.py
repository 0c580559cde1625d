"""Published weights by name: where they are, how large, and how to put them in place without a connection."""

import os
from pathlib import Path

import keras

from keras_deeplab.backbones import BACKBONES

_ADDRESS = "http://download.tensorflow.org/models/"
# (name, family, backbone): archive, published size in MB, published result. Source: model_zoo.md in
# research/deeplab/g3doc, which publishes no checksums. Licence of all: Apache 2.0.
_ARCHIVES = {
    ("pascal_voc", "deeplabv3", "mobilenet_v2"): (
        "deeplabv3_mnv2_pascal_trainval_2018_01_29.tar.gz",
        23,
        "trained on train_aug + trainval, 80.25 % test mIoU at output stride 8, several scales, flipped",
    ),
    ("pascal_voc_train_aug", "deeplabv3", "mobilenet_v2"): (
        "deeplabv3_mnv2_pascal_train_aug_2018_01_29.tar.gz",
        23,
        "75.32 % val mIoU at output stride 16",
    ),
    ("cityscapes", "deeplabv3", "mobilenet_v2"): (
        "deeplabv3_mnv2_cityscapes_train_2018_02_05.tar.gz",
        23,
        "70.71 % val mIoU at output stride 16",
    ),
    ("ade20k", "deeplabv3plus", "mobilenet_v2"): (
        "deeplabv3_mnv2_ade20k_train_2018_12_03.tar.gz",
        24.8,
        "32.04 % val mIoU at output stride 16, 257 pixels; 151 classes; a decoder and no atrous branches",
    ),
    ("pascal_voc", "deeplabv3plus", "xception_65"): (
        "deeplabv3_pascal_trainval_2018_01_04.tar.gz",
        439,
        "trained on train_aug + trainval, 87.80 % test mIoU at output stride 8, several scales, flipped",
    ),
    ("pascal_voc_train_aug", "deeplabv3plus", "xception_65"): (
        "deeplabv3_pascal_train_aug_2018_01_04.tar.gz",
        439,
        "82.20 % val mIoU at output stride 16",
    ),
    ("cityscapes", "deeplabv3plus", "xception_65"): (
        "deeplabv3_cityscapes_train_2018_02_06.tar.gz",
        439,
        "78.79 % val mIoU at output stride 16",
    ),
    ("ade20k", "deeplabv3plus", "xception_65"): (
        "deeplabv3_xception_ade20k_train_2018_05_29.tar.gz",
        439,
        "45.65 % val mIoU at output stride 8, 513 pixels, several scales, flipped; 151 classes",
    ),
    ("pascal_voc", "deeplabv3", "mobilenet_v2_dm05"): (
        "deeplabv3_mnv2_dm05_pascal_trainval_2018_10_01.tar.gz",
        7.6,
        "trained on train_aug + trainval, 71.83 % test mIoU at output stride 8",
    ),
    ("pascal_voc_train_aug", "deeplabv3", "mobilenet_v2_dm05"): (
        "deeplabv3_mnv2_dm05_pascal_trainaug_2018_10_01.tar.gz",
        7.6,
        "70.19 % val mIoU at output stride 16",
    ),
}
NAMES = tuple(dict.fromkeys(name for name, _, _ in _ARCHIVES))


def fetch(name, family=None, backbone=None, address=_ADDRESS):
    """The path of the archive of published weights, downloaded into Keras's cache unless it is there.

    Args:
        name: one of `NAMES`.
        family: `"deeplabv3"` or `"deeplabv3plus"`; None takes the first that is published under this name.
        backbone: registry key of the backbone or a classifier of that name, or None likewise.
        address: where the archives are.

    Raises:
        ValueError: nothing is published for this model; the download failed or has another size than published.
    """
    row = BACKBONES.get(getattr(backbone, "name", backbone))  # two keys may have one row
    fits = [
        entry
        for (published, its_family, its_backbone), entry in _ARCHIVES.items()
        if published == name and family in (None, its_family) and (backbone is None or row is BACKBONES[its_backbone])
    ]
    if not fits:
        known = "; ".join(f"{n!r} for {f} on {b}" for n, f, b in _ARCHIVES)
        wanted = getattr(backbone, "name", backbone) or "any backbone"
        raise ValueError(f"No weights {name!r} are published for {family} on {wanted}. Published: {known}.")
    archive, megabytes, _ = fits[0]
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    target = home / "models" / archive
    if not target.exists():
        try:
            # Where its cache folder doesn't exist, get_file turns to another one.
            target.parent.mkdir(parents=True, exist_ok=True)
            keras.utils.get_file(archive, origin=address + archive, cache_subdir="models", cache_dir=str(home))
        except Exception as error:  # whatever the network, a proxy or the disk raises
            raise ValueError(
                f"The weights {name!r} can't be downloaded from {address + archive}: {error}. Fetch that file by other "
                f"means and put it at {target}, or give its path instead of the name."
            ) from error
    size = target.stat().st_size
    if not 0.9e6 * megabytes <= size <= 1.1 * 2**20 * megabytes:
        raise ValueError(
            f"{target} has {size / 1e6:.1f} MB, {megabytes} MB are published: it is another file or was cut off. "
            "Remove it and try again."
        )
    return target
