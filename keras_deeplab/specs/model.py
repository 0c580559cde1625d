"""A Keras model with its record: the class that every builder returns, and the record of any other model."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from typing import Any

import keras

from keras_deeplab._helpers.private import producer
from keras_deeplab._helpers.warning import warn
from keras_deeplab.specs import ALIGN_CORNERS, NETWORK, RESIZES, ModelSpec

# What stands first in a file's network. Keras imports no package for a class that it doesn't know, and shows the
# configuration in its error.
_NEEDS = {"needs": "import keras_deeplab before this file is loaded (pip install keras_deeplab)"}

# The formats of `keras.Model.export` that Keras's own code writes no file of that runs, and the functions from (model,
# path) that write them here, by name: they lie above this room.
_EXPORTERS = {"onnx": "keras_deeplab.export.onnx:export_scores"}


@keras.saving.register_keras_serializable("keras_deeplab")
class SegmentationModel(keras.Model):
    """A functional `keras.Model` that knows what it is: `model.spec`, a `keras_deeplab.specs.ModelSpec`.

    The record is in its configuration, so `model.save("x.keras")` and `keras.models.load_model` keep it, and
    `model.save_weights("x.weights.h5")` puts the configuration beside the weights. A model that is made from its
    tensors (`keras.Model(model.inputs, ...)`) is another one and has no record; `with_spec` gives it one.
    """

    spec: ModelSpec | None = None
    # What a step of training calls in place of the network, or a function that gives None where that is to be called:
    # `keras_deeplab.training.coarse`.
    called_for_training: Callable[[Any], Any] | None = None

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        found = self.called_for_training(inputs) if training and self.called_for_training is not None else None
        if found is not None:
            return found
        return super().call(inputs, training=training, mask=mask)

    def get_config(self) -> dict[str, Any]:
        config = _NEEDS | super().get_config()
        if self.spec is not None:
            config["spec"] = self.spec.to_dict()
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "SegmentationModel":
        config = dict(config)
        spec = config.pop("spec", None)
        config.pop("needs", None)
        model = super().from_config(config, custom_objects)
        if spec is not None:
            spec = ModelSpec.from_dict(spec, f"the configuration of {model.name!r}")
            _check(model, spec)
            model.spec = spec
        return model

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """As Keras's, where one label map is what every output is compared with."""
        if isinstance(y_pred, (list, tuple)) and not isinstance(y, (list, tuple, dict)):
            y = type(y_pred)([y] * len(y_pred))
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """As Keras's, of the main output alone where one label map is given for all."""
        if not isinstance(y, (list, tuple, dict)):
            y_pred = main_output(y_pred)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def export(self, filepath: Any, format: str = "tf_saved_model", verbose: Any = None, **kwargs: Any) -> None:
        """As Keras's, of what the model returns; an ONNX file is written by `keras_deeplab.export.onnx`.

        Raises:
            ValueError: of ONNX files, an option is given that they don't take here, the model has several outputs, or
                Keras runs on another backend than TensorFlow.
        """
        if format not in _EXPORTERS:
            super().export(filepath, format=format, verbose=verbose, **kwargs)
            return
        given = [name for name, value in kwargs.items() if value is not None]
        if given:
            raise ValueError(
                f"export(format={format!r}) takes no {', '.join(given)} here: keras_deeplab.export.onnx.export_onnx "
                "has options for the size and type of images and for what the file returns"
            )
        module, _, name = _EXPORTERS[format].partition(":")
        getattr(import_module(module), name)(self, filepath)
        if verbose or verbose is None:
            print(f"Saved artifact at '{filepath}'.")

    def quantize(self, mode: Any = None, config: Any = None, filters: Any = None, **kwargs: Any) -> None:
        """As Keras's, which knows dense and embedding layers and no convolutions, and says how little that is.

        Raises:
            ValueError: the model has no layer that Keras quantises.
        """
        layers = [layer for layer in inner_layers(self) if layer.weights]
        able = [layer for layer in layers if type(layer).quantize is not keras.layers.Layer.quantize]
        told = (
            f"Keras quantises dense and embedding layers and no convolutions, {len(able)} of the {len(layers)} layers "
            f"with weights of {self.name!r}. For a file with int8 kernels and activations: "
            'keras_deeplab.export_tflite(model, "model.tflite", precision="int8", calibration="FOLDER_OF_IMAGES"), or '
            "keras-deeplab export-tflite --precision int8"
        )
        if not able:
            raise ValueError(told)
        super().quantize(mode, config=config, filters=filters, **kwargs)
        warn(told)

    def save_weights(self, filepath: Any, overwrite: bool = True, max_shard_size: Any = None) -> None:
        super().save_weights(filepath, overwrite=overwrite, max_shard_size=max_shard_size)
        if str(filepath).endswith(".weights.h5"):
            add_network(filepath, self)


def add_network(path: Any, model: keras.Model) -> None:
    """Puts a model's configuration into a `.weights.h5` file; to Keras it stays a file of weights like any other."""
    import h5py
    import numpy as np

    with h5py.File(path, "r+") as file:
        if NETWORK in file:
            del file[NETWORK]
        file.create_dataset(NETWORK, data=np.frombuffer(model.to_json().encode(), "uint8"), compression="gzip")


def with_spec(model: keras.Model, spec: ModelSpec | None = None, **changes: Any) -> SegmentationModel:
    """A functional model with a record: itself where it is a `SegmentationModel`, else one of the same layers.

    Args:
        model: functional `keras.Model` from images to scores (or to a list of them).
        spec: the record; None for what `spec_of` gives.
        changes: fields of the record to set, such as `resize="half_pixel_centers"` or `classes=Classes(names)`.

    Raises:
        ValueError: the record isn't one of this model: other channels or classes.

    >>> import keras, keras_deeplab
    >>> from keras_deeplab.specs import Classes
    >>> images = keras.Input((None, None, 3))
    >>> model = keras.Model(images, keras.layers.Conv2D(2, 1)(images))
    >>> with_spec(model, classes=Classes(("field", "road"))).spec.labels
    ('field', 'road')
    """
    spec = replace(spec_of(model) if spec is None else spec, **changes)
    if not isinstance(model, SegmentationModel):
        outputs = model.outputs if len(model.outputs) > 1 else model.outputs[0]
        model = SegmentationModel(model.inputs[0], outputs, name=model.name)
    _check(model, spec)
    model.spec = spec
    return model


def spec_of(model: keras.Model) -> ModelSpec:
    """The record of a model: its own, or where it has none what its layers tell, with stated defaults.

    A plain model's classes are `"class 0"`, `"class 1"` and so on in the default colours, with 255 ignored; its
    activation is that of its last layer, its resize convention that of its `ResizeBilinear` layers where they agree,
    else `"align_corners"`, the papers' own.

    Raises:
        ValueError: it isn't a functional model from images (B, H, W, channels) to scores (B, h, w, classes).
    """
    spec = getattr(model, "spec", None)
    if isinstance(spec, ModelSpec):
        _check(model, spec)
        return spec
    images, scores = _ends(model)
    conventions = {layer.resize for layer in inner_layers(model) if getattr(layer, "resize", None) in RESIZES}
    return ModelSpec(
        num_classes=scores[0][-1],
        channels=images[-1],
        resize=conventions.pop() if len(conventions) == 1 else ALIGN_CORNERS,
        activation=_last_activation(model),
        outputs=("logits", *(f"output_{index}" for index in range(1, len(scores)))),
    )


def _check(model: keras.Model, spec: ModelSpec) -> None:
    images, scores = _ends(model)
    found = {"channels": images[-1], "num_classes": scores[0][-1], "number of outputs": len(scores)}
    told = {"channels": spec.channels, "num_classes": spec.num_classes, "number of outputs": len(spec.outputs)}
    wrong = [f"{name} {told[name]}, the model has {found[name]}" for name in found if found[name] != told[name]]
    if wrong:
        raise ValueError(f"the record of {model.name!r} is not its own: {'; '.join(wrong)}")


def _ends(model: keras.Model) -> tuple[tuple[Any, ...], list[tuple[Any, ...]]]:
    """The shapes of a model's images and of its outputs."""
    inputs: list[Any] = getattr(model, "inputs", None) or []
    outputs: list[Any] = getattr(model, "outputs", None) or []
    if len(inputs) != 1 or not outputs:
        raise ValueError(
            f"the model {model.name!r} has {len(inputs)} inputs and {len(outputs)} outputs; expected a functional "
            "model with one input (call a subclassed one on a keras.Input and make a keras.Model of that)"
        )
    images, scores = tuple(inputs[0].shape), [tuple(output.shape) for output in outputs]
    if len(images) != 4 or images[-1] is None or any(len(shape) != 4 or shape[-1] is None for shape in scores):
        raise ValueError(
            f"the model {model.name!r} maps {images} to {scores[0] if len(scores) == 1 else scores}; expected images "
            "(B, H, W, channels) to logits (B, h, w, classes)"
        )
    return images, scores


def main_output(outputs: Any) -> Any:
    """Of what a model returns, the scores that count: the first of several outputs."""
    return outputs[0] if isinstance(outputs, (list, tuple)) else outputs


def inner_layers(model: keras.Model, kind: type[keras.layers.Layer] = keras.layers.Layer) -> Iterator[Any]:
    """The layers of a model that are of a kind, with those of the models nested in it in their place."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from inner_layers(layer, kind)
        elif isinstance(layer, kind):
            yield layer


def _last_activation(model: keras.Model) -> str | None:
    """The softmax or sigmoid that a model's first output comes from; behind a resize or a reshape none is seen."""
    layer = producer(model.outputs[0])
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    known = {keras.activations.softmax: "softmax", keras.activations.sigmoid: "sigmoid"}
    return known.get(getattr(layer, "activation", None))
