"""Files of published weights: where they are, and what is known of them."""

from dataclasses import dataclass, field
from typing import Any

from keras_deeplab.specs import Classes, class_names

# Names of weights, and what their labels mean. torchvision's are COCO's images with the classes of VOC.
IMAGENET = "imagenet"
CLASSES = {
    "pascal_voc": class_names.VOC,
    "pascal_voc_train_aug": class_names.VOC,
    "cityscapes": class_names.CITYSCAPES,
    "ade20k": class_names.ADE20K,
    "coco": class_names.VOC,
}
UNKNOWN = "not published"


@dataclass(frozen=True)
class Weights:
    """A file of published weights.

    Attributes:
        name: what `weights=` or `backbone_weights=` takes for it, such as `"pascal_voc"`; by it and by the network a
            file is found.
        address: where it is.
        size: what the source publishes, in megabytes or, for torchvision's, in mebibytes.
        checksum: the published digest or as much of it as is published, `"sha256:..."` or `"md5:..."`, or None.
        result: its accuracy.
        licence: what its source says of its use.
        classes: what its labels mean.
        family: the builder of the network that it fills, such as `"DeepLabV3"`; `"backbone"` for a classifier without
            a DeepLab's head.
        backbones: registry keys of the networks that it fills, the published one first.
    """

    name: str
    address: str
    size: float
    checksum: str | None
    result: str
    licence: str
    classes: Classes = field(default_factory=Classes)
    family: str = "backbone"
    backbones: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        return self.address.rpartition("/")[2]


def google_file(name: str, file: Any, size: Any, result: Any, backbone: str | None = None) -> Any:
    """A file of research/deeplab/g3doc/model_zoo.md, which publishes no checksums; of a classifier with a `backbone`.

    Its result is at output stride 16 and one scale, unless told.
    """
    address = f"http://download.tensorflow.org/models/{file}.tar.gz"
    classes = Classes() if backbone else CLASSES[name]
    return Weights(name, address, size, None, result, "Apache 2.0", classes, backbones=(backbone,) if backbone else ())


def pytorch_file(name: str, file: Any, size: Any, result: Any, *backbones: Any) -> Any:
    """A file of torchvision, whose name ends with the first digits of its SHA-256; of a classifier with `backbones`."""
    address, checksum = f"https://download.pytorch.org/models/{file}.pth", f"sha256:{file.rpartition('-')[2]}"
    classes = Classes() if backbones else CLASSES[name]
    return Weights(name, address, size, checksum, result, "BSD 3-Clause, training data's", classes, backbones=backbones)


def keras_file(file: Any, size: Any, checksum: str, result: Any, backbone: str) -> Any:
    """A file of keras/src/applications/vgg16.py and vgg19.py; Oxford's Caffe weights."""
    address = f"https://storage.googleapis.com/tensorflow/keras-applications/{file}"
    return Weights(IMAGENET, address, size, f"md5:{checksum}", result, "CC BY 4.0", backbones=(backbone,))
