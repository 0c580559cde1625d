"""Outputs that are PNG files: labels in the data's colours, the tinted photograph, confidence."""

import numpy as np

from keras_deeplab.data.masks import label_png
from keras_deeplab.inference.answers import add_legend, as_rgb, encode_png, overlay
from keras_deeplab.inference.outputs.result import Output, Result


def labels_png(result: Result) -> dict[str, bytes]:
    """A paletted file whose stored numbers are the labels; grey, of 16 bits, where there are more than 256 classes."""
    if result.labels.dtype == np.uint8:
        return {".png": label_png(result.labels, result.legend.palette[:256])}
    return {".png": encode_png(result.labels.astype(np.uint16))}


def overlay_png(result: Result) -> dict[str, bytes]:
    """The photograph tinted with the classes' colours, and a strip that names them."""
    return {"_overlay.png": encode_png(tinted(result))}


def tinted(result: Result) -> np.ndarray:
    """A result to the picture of it, uint8 (H, W, 3), with a strip below where it has one."""
    legend = result.legend
    picture = overlay(as_rgb(result.image), result.labels, legend.palette, result.alpha, legend.rest)
    if result.with_legend:
        picture = add_legend(picture, result.labels, legend.names, legend.palette, legend.rest)
    return picture


LABELS = Output("paletted PNG, pixel value = label", (".png",), labels_png)
OVERLAY = Output("PNG of the photograph tinted with the classes' colours", ("_overlay.png",), overlay_png)
