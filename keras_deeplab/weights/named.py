"""Published weights by name: where they are, how large, what they reached, and how to do without a connection."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import keras

from keras_deeplab.backbones import BACKBONES

BACKBONE = "backbone"  # the family of weights without a DeepLab's head


@dataclass(frozen=True)
class Published:
    """A file of published weights.

    `family` is `"deeplabv3"`, `"deeplabv3plus"` or `"backbone"`; `backbones` the registry keys of the networks that
    it fills, the published one first. `size` is what the source publishes, in megabytes or, for torchvision's, in
    mebibytes; `checksum` the published digest or as much of it as is published, `"sha256:..."` or `"md5:..."`, or None.
    """

    name: str
    family: str
    backbones: tuple[str, ...]
    address: str
    size: float
    checksum: str | None
    result: str
    licence: str

    @property
    def file(self):
        return self.address.rpartition("/")[2]


V3, V3_PLUS = "deeplabv3", "deeplabv3plus"
VOC, VOC_AUG, CITYSCAPES, ADE20K = "pascal_voc", "pascal_voc_train_aug", "cityscapes", "ade20k"
COCO, IMAGENET = "coco", "imagenet"
_MULTI_SCALE = "output stride 8, several scales, flipped"
_UNKNOWN = "not published"
_MOBILENET_V2 = ("mobilenet_v2_torchvision", "mobilenet_v2_vainf", "mobilenet_v2_jfzhang95")

# research/deeplab/g3doc/model_zoo.md, which publishes no checksums; at output stride 16, one scale, unless told.
# Left out: xception71_dpc_cityscapes_* (a dense prediction cell, which isn't built here), edgetpu-deeplab* (a backbone
# that isn't), and the 8 bit models, which are TFLite files.
# family, backbone -> name, file, MB, result
_GOOGLE = {
    (V3, "mobilenet_v2"): [
        (VOC, "deeplabv3_mnv2_pascal_trainval_2018_01_29", 23, f"80.25 % test mIoU, {_MULTI_SCALE}"),
        (VOC_AUG, "deeplabv3_mnv2_pascal_train_aug_2018_01_29", 23, "75.32 % val mIoU"),
        (CITYSCAPES, "deeplabv3_mnv2_cityscapes_train_2018_02_05", 23, "70.71 % val mIoU"),
    ],
    (V3_PLUS, "mobilenet_v2"): [
        (ADE20K, "deeplabv3_mnv2_ade20k_train_2018_12_03", 24.8, "32.04 % val mIoU of 151 classes, 257 pixels"),
    ],
    (V3_PLUS, "xception_65"): [
        (VOC, "deeplabv3_pascal_trainval_2018_01_04", 439, f"87.80 % test mIoU, {_MULTI_SCALE}"),
        (VOC_AUG, "deeplabv3_pascal_train_aug_2018_01_04", 439, "82.20 % val mIoU"),
        (CITYSCAPES, "deeplabv3_cityscapes_train_2018_02_06", 439, "78.79 % val mIoU"),
        (ADE20K, "deeplabv3_xception_ade20k_train_2018_05_29", 439, f"45.65 % val mIoU of 151 classes, {_MULTI_SCALE}"),
    ],
    (V3, "mobilenet_v2_dm05"): [
        (VOC, "deeplabv3_mnv2_dm05_pascal_trainval_2018_10_01", 7.6, "71.83 % test mIoU, output stride 8"),
        (VOC_AUG, "deeplabv3_mnv2_dm05_pascal_trainaug_2018_10_01", 7.6, "70.19 % val mIoU"),
    ],
    (V3, "mobilenet_v3_large_seg"): [
        (CITYSCAPES, "deeplab_mnv3_large_cityscapes_trainfine_2019_11_15", 17, "72.41 % val mIoU, output stride 32"),
    ],
    (V3, "mobilenet_v3_small_seg"): [
        (CITYSCAPES, "deeplab_mnv3_small_cityscapes_trainfine_2019_11_15", 5, "68.99 % val mIoU, output stride 32"),
    ],
    (BACKBONE, "xception_41"): [(IMAGENET, "xception_41_2018_05_09", 288, _UNKNOWN)],
    (BACKBONE, "xception_65"): [
        (IMAGENET, "deeplabv3_xception_2018_01_04", 447, _UNKNOWN),
        (COCO, "xception_65_coco_pretrained_2018_10_02", 292, _UNKNOWN),
    ],
    (BACKBONE, "xception_71"): [(IMAGENET, "xception_71_2018_05_09", 474, _UNKNOWN)],
    (BACKBONE, "resnet_v1_50_beta"): [(IMAGENET, "resnet_v1_50_2018_05_04", 274, _UNKNOWN)],
    (BACKBONE, "resnet_v1_101_beta"): [(IMAGENET, "resnet_v1_101_2018_05_04", 477, _UNKNOWN)],
}
# torchvision/models; the file's name ends with the first digits of its SHA-256. On COCO val2017 with VOC's classes, and
# the first weights of each classifier (IMAGENET1K_V1), from which torchvision's own DeepLabs start.
# family, name -> backbones, file, MiB, result
_TORCHVISION = {
    (V3, COCO): [
        (("resnet50",), "deeplabv3_resnet50_coco-cd0a2569", 160.515, "66.4 % mIoU"),
        (("resnet101",), "deeplabv3_resnet101_coco-586e9e4e", 233.217, "67.4 % mIoU"),
        (("mobilenet_v3_large",), "deeplabv3_mobilenet_v3_large-fc3c493d", 42.301, "60.3 % mIoU"),
    ],
    (BACKBONE, IMAGENET): [
        (("resnet18",), "resnet18-f37072fd", 44.661, "69.76 % top 1"),
        (("resnet34",), "resnet34-b627a593", 83.275, "73.31 % top 1"),
        (("resnet50",), "resnet50-0676ba61", 97.781, "76.13 % top 1"),
        (("resnet101",), "resnet101-63fe2227", 170.511, "77.37 % top 1"),
        (("resnet152",), "resnet152-394f9c45", 230.434, "78.31 % top 1"),
        (("vgg11",), "vgg11-8a719046", 506.84, "69.02 % top 1"),
        (("vgg13",), "vgg13-19584684", 507.545, "69.93 % top 1"),
        (("vgg16", "vgg16_coincheung"), "vgg16-397923af", 527.796, "71.59 % top 1"),
        (("vgg19",), "vgg19-dcbb9e9d", 548.051, "72.38 % top 1"),
        (("vgg11_bn",), "vgg11_bn-6002323d", 506.881, "70.37 % top 1"),
        (("vgg13_bn",), "vgg13_bn-abd245e5", 507.59, "71.59 % top 1"),
        (("vgg16_bn",), "vgg16_bn-6c64b313", 527.866, "73.36 % top 1"),
        (("vgg19_bn",), "vgg19_bn-c79401a0", 548.143, "74.22 % top 1"),
        (_MOBILENET_V2, "mobilenet_v2-b0353104", 13.555, "71.88 % top 1"),
        (("mobilenet_v3_large",), "mobilenet_v3_large-8738ca79", 21.114, "74.04 % top 1"),
        (("mobilenet_v3_small",), "mobilenet_v3_small-047dcff4", 9.829, "67.67 % top 1"),
    ],
}
# keras/src/applications/vgg16.py and vgg19.py; Oxford's Caffe weights.
# backbone -> file, MB, MD5, result
_KERAS_VGG = {
    "vgg16_caffe": (
        *("vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", 58.9),
        *("6d6bbae143d832006294945121d1f1fc", "71.27 % top 1"),
    ),
    "vgg19_caffe": (
        *("vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5", 80.1),
        *("253f8cb515780f3b799900260a226db6", "71.26 % top 1"),
    ),
}


def _published():
    for (family, backbone), rows in _GOOGLE.items():
        for name, file, size, result in rows:
            address = f"http://download.tensorflow.org/models/{file}.tar.gz"
            yield Published(name, family, (backbone,), address, size, None, result, "Apache 2.0")
    for (family, name), rows in _TORCHVISION.items():
        for backbones, file, size, result in rows:
            address, checksum = f"https://download.pytorch.org/models/{file}.pth", f"sha256:{file.rpartition('-')[2]}"
            yield Published(name, family, backbones, address, size, checksum, result, "BSD 3-Clause, training data's")
    for backbone, (file, size, checksum, result) in _KERAS_VGG.items():
        address = f"https://storage.googleapis.com/tensorflow/keras-applications/{file}"
        yield Published(IMAGENET, BACKBONE, (backbone,), address, size, f"md5:{checksum}", result, "CC BY 4.0")


PUBLISHED = tuple(_published())
NAMES = tuple(dict.fromkeys(row.name for row in PUBLISHED))


def find(name, family=None, backbone=None):
    """The first `Published` row of a name, or None.

    Args:
        name: one of `NAMES`.
        family: `"deeplabv3"`, `"deeplabv3plus"` or `"backbone"`; None for either DeepLab.
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


def fetch(name, family=None, backbone=None, address=None):
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
    part = target.with_name(f".{os.getpid()}.{row.file}")
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
