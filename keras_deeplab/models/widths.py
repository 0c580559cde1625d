"""A network with fewer, or more, channels in some of its convolutions."""

from collections.abc import Mapping

import keras

from keras_deeplab.specs.model import SegmentationModel, spec_of, with_spec


def with_widths(model: keras.Model, widths: Mapping[str, int]) -> SegmentationModel:
    """A functional model to the same network with other numbers of channels and fresh values, which its record tells.

    What takes the channels (depthwise convolutions, batch norm, the next convolution) has as many weights as they need.

    Args:
        model: functional `keras.Model` from images to scores, without models inside it.
        widths: numbers of channels, by the names of the convolutions that make them.

    Raises:
        ValueError: there is no such convolution, or the layers don't fit each other at these widths.
    """
    layers = {layer.name: layer for layer in model.layers}
    wrong = [name for name in widths if not hasattr(layers.get(name), "filters")]
    if wrong:
        raise ValueError(
            f"the model {model.name!r} has no convolution {', '.join(map(repr, wrong[:6]))}, whose number of channels "
            "was told"
        )

    def clone(layer):
        config = layer.get_config()
        if layer.name in widths:
            config["filters"] = widths[layer.name]
        return type(layer).from_config(config)

    narrow = keras.models.clone_model(model, clone_function=clone)
    spec = spec_of(model)
    return with_spec(narrow, spec, widths={**spec.widths, **widths})
