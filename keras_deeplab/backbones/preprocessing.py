"""Pixels in 0..255 to what a network was trained on: the first layers of every model here."""

from collections.abc import Callable

import keras

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet in 0..1, RGB
CAFFE_MEAN = (103.939, 116.779, 123.68)  # of ImageNet in 0..255, BGR
DEEPLAB_CAFFE_MEAN = (104.008, 116.669, 122.675)  # the same, as DeepLab v1's and v2's Caffe networks subtract it
DETECTRON2_MEAN = (103.53, 116.28, 123.675)
_BGR_MEANS = {"caffe": CAFFE_MEAN, "caffe_deeplab": DEEPLAB_CAFFE_MEAN, "detectron2": DETECTRON2_MEAN}

# What the documentation of keras.applications asks for, by the start of the model's name (the longest that fits).
# None: the network has its own first layers for it.
_APPLICATIONS = {
    "convnext": None,
    "densenet": "torch",
    "efficientnet": None,
    "inception": "tf",
    "mobilenet_": "tf",
    "mobilenetv2_": "tf",
    "MobileNetV3": None,
    "nasnet": "tf",
    "NASNet": "tf",
    "resnet": "caffe",
    "resnet50v2": "tf",
    "resnet101v2": "tf",
    "resnet152v2": "tf",
    "vgg": "caffe",
    "xception": "tf",
}


def applications_mode(name: str) -> str | None:
    """The mode that a `keras.applications` network of this name expects; None for any other network."""
    fits = [prefix for prefix in _APPLICATIONS if name.startswith(prefix)]
    return _APPLICATIONS[max(fits, key=len)] if fits else None


def normalise(mode: str | None) -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    """A function from a Keras tensor of RGB pixels in 0..255 to a normalised one.

    Args:
        mode: `"tf"` (to [-1, 1]), `"torch"` (ImageNet mean and deviation), `"caffe"` (BGR minus the mean),
            `"caffe_deeplab"` (the same with the mean of DeepLab v1 and v2), `"detectron2"` (the same with Detectron2's
            mean), `"torch_bgr"` (BGR with the mean and deviation of RGB, as Detectron2's DeepLabs have it) or None.

    Raises:
        ValueError: any other mode.
    """
    if mode is None:
        return lambda x: x
    if mode == "tf":
        return keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="preprocessing")
    if mode in ("torch", "torch_bgr"):
        scale = [1 / (255 * std) for std in STD]
        offset = [-mean / std for mean, std in zip(MEAN, STD, strict=True)]
        rescale = keras.layers.Rescaling(scale, offset, name="preprocessing")
        return rescale if mode == "torch" else lambda x: rescale(keras.ops.flip(x, axis=-1))
    if mode in _BGR_MEANS:
        subtract = keras.layers.Rescaling(1.0, [-channel for channel in _BGR_MEANS[mode]], name="preprocessing")
        return lambda x: subtract(keras.ops.flip(x, axis=-1))
    raise ValueError(
        "include_preprocessing is True, False, 'tf', 'torch', 'caffe', 'caffe_deeplab', 'detectron2' or 'torch_bgr'; "
        f"received {mode!r}."
    )
