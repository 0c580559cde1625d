"""A model at another output stride."""

from typing import Any

import keras

from keras_deeplab.backbones import BACKBONES
from keras_deeplab.models.build import build
from keras_deeplab.specs.model import SegmentationModel, spec_of
from keras_deeplab.weights.assign import assign


def with_output_stride(model: keras.Model, output_stride: int, name: str | None = None) -> SegmentationModel:
    """A model of this package to the same network at another output stride, with its weights.

    The network is built anew from the model's record: what would be strided beyond `output_stride` is dilated instead,
    and atrous rates are scaled by as much, so that they reach as many pixels (v3, section 4.1: trained at 16, evaluated
    at 8). Returned as it is where it has that stride.

    Args:
        model: with a record that tells how it was built (`model.spec.builder`).
        output_stride: such as 8, 16 or 32.
        name: what messages call the model.

    Raises:
        ValueError: the record doesn't tell how the model was built or isn't that of all its layers, or the network
            can't have that stride.
    """
    spec = spec_of(model)
    name = name or f"the model {model.name!r}"
    if spec.output_stride == output_stride:
        return model
    if spec.builder is None or spec.output_stride is None or spec.backbone not in BACKBONES:
        why = "is of a backbone that isn't registered" if spec.builder else "doesn't tell how it was built"
        raise ValueError(
            f"{name} {why}, so it has one output stride, its own: build it with output_stride={output_stride} and give "
            "the file as weights="
        )
    settings: dict[str, Any] = {"input_shape": tuple(model.inputs[0].shape[1:]), "name": model.name}
    other = build(spec.at_output_stride(output_stride), **settings)
    if sorted(layer.name for layer in model.layers) != sorted(layer.name for layer in other.layers):
        raise ValueError(
            f"{name} has other layers than its record tells of, so it isn't built anew: build it with "
            f"output_stride={output_stride} and load its weights into that"
        )
    return assign(other, {variable.path: variable.numpy() for variable in model.weights}, name)
