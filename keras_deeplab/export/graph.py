"""What every export traces: a model as a plain TensorFlow function that a file can hold."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf

from keras_deeplab import layers
from keras_deeplab._helpers.private import convert_variables_to_constants_v2, producer
from keras_deeplab.inference import answers
from keras_deeplab.quantize.channel_order import in_given_order
from keras_deeplab.specs import ALIGN_CORNERS, HALF_PIXEL_CENTERS, LOGITS, FileSpec, ModelSpec
from keras_deeplab.specs.model import inner_layers, spec_of

# Keras's dilated layers become space-to-batch, convolution, batch-to-space at unknown sizes. These have the same
# variables, and become one operator.
_DILATED = {
    keras.layers.Conv2D: layers.DilatedConv2D,
    keras.layers.DepthwiseConv2D: layers.DilatedDepthwiseConv2D,
    keras.layers.SeparableConv2D: layers.DilatedSeparableConv2D,
}


def network(model: keras.Model, upsample: bool = True) -> tuple[keras.Model, ModelSpec]:
    """A model to the one whose main logits a file returns, and its record.

    An auxiliary output is left out, and so is the softmax or sigmoid behind the logits, which is applied where
    probabilities are asked for. With `upsample` logits that the model leaves at a smaller size are resized to the
    images' by the convention in its record, so that a model gives one file whether it was built to do that or not;
    without, its last resize is left out. Where a network takes BGR, its kernels are reversed instead of the images.

    Args:
        model: functional keras.Model from images (B, H, W, channels) in 0..255 to scores, see `keras_deeplab.specs`.
        upsample: as above.

    Returns:
        (keras.Model, `keras_deeplab.specs.ModelSpec`): from images to logits (B, h, w, classes), and the record of what
        it is: its activation is None, and its `resize` that of the resize it had or has.

    Raises:
        ValueError: it isn't such a model, or Keras runs on another backend than TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"exporting needs Keras's TensorFlow backend, and this process runs on {keras.backend.backend()}: save the "
            "model as a .keras file and export that with KERAS_BACKEND=tensorflow"
        )
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"expected a keras.Model, received {type(model).__name__}: {model!r}. keras_deeplab.load and "
            "keras.saving.load_model make one from a file"
        )
    spec = spec_of(model)
    if spec.num_classes is None:
        raise ValueError(f"the model {model.name!r} is a network without a classifier, which has no labels to export")
    model = in_given_order(model)
    if len(model.outputs) > 1:
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if spec.activation is not None:
        model = _without_activation(model, spec.activation)
    resize = _last_resize(model)
    if resize is not None:
        spec = replace(spec, resize=ALIGN_CORNERS if resize.align_corners else HALF_PIXEL_CENTERS)
    if upsample and resize is None and not keeps_size(model):
        enlarge = layers.ResizeBilinear(spec.align_corners, dtype="float32", name=_free_name(model, "upsample_logits"))
        logits = enlarge([model.outputs[0], model.inputs[0]])
        model = keras.Model(model.inputs[0], logits, name=model.name)
    if not upsample:
        model = _without_resize(model, resize)
    return model, replace(spec, activation=None, outputs=(LOGITS,))


def _without_activation(model, activation):
    """A model to the one that returns what its last activation is applied to."""
    last = producer(model.outputs[0])
    function = getattr(keras.activations, activation)
    if isinstance(last, keras.layers.Softmax) or (
        isinstance(last, keras.layers.Activation) and last.activation is function
    ):
        return keras.Model(model.inputs[0], last.input, name=model.name)
    if getattr(last, "activation", None) is not function:
        raise ValueError(
            f"the record of {model.name!r} says that its outputs have been through a {activation}, and it doesn't end "
            "in a layer of that: end it in a keras.layers.Activation, or mend the record "
            "(keras_deeplab.specs.model.with_spec(model, activation=None))"
        )

    def clone(layer):
        config = layer.get_config()
        return type(layer).from_config({**config, "activation": "linear"} if layer is last else config)

    bare = keras.models.clone_model(model, clone_function=clone)
    bare.set_weights(model.get_weights())
    return bare


def _last_resize(model):
    """The ResizeBilinear to the size of the images that a model ends in, or None."""
    layer = producer(model.outputs[0])
    if isinstance(layer, layers.ResizeBilinear) and layer.input[1] is model.inputs[0]:
        return layer
    return None


def _without_resize(model, resize):
    """A model to the one that returns its logits at the stride of its head; as it is where it does."""
    if resize is not None:
        return keras.Model(model.inputs[0], resize.input[0], name=model.name)
    if keeps_size(model):
        raise ValueError(
            f"the model {model.name!r} doesn't end in a keras_deeplab.layers.ResizeBilinear to the size of its images, "
            "so there is no resize to leave to the caller: choose upsample=True"
        )
    return model


def before_resize(model: keras.Model) -> tuple[keras.Model, bool | None]:
    """A model that `network` gave to the one of its logits before they are resized to the images, and how they are.

    That is whether with aligned corners; the model itself and None where it doesn't end in a resize.
    """
    resize = _last_resize(model)
    return (model, None) if resize is None else (_without_resize(model, resize), resize.align_corners)


def _free_name(model, name):
    """The name, with underscores behind it where the model has such a layer."""
    while any(layer.name == name for layer in model.layers):
        name += "_"
    return name


def keeps_size(model: keras.Model) -> bool:
    """Whether a model's scores have the size of the images, found at a size that no stride divides."""
    size = tuple(own or free for own, free in zip(static_size(model), (131, 163), strict=True))
    images = keras.KerasTensor((1, *size, model.inputs[0].shape[-1]), dtype="float32")
    return tuple(keras.ops.shape(model.compute_output_spec(images)))[1:3] == size


def static_size(model: keras.Model) -> Any:
    """The (height, width) that a model was built for, None where it takes any."""
    return tuple(model.inputs[0].shape[1:3])


def inference_model(model: keras.Model, input_size: tuple[int, int] | None = None) -> keras.Model:
    """A model to one that computes the same in float32, with layers that export well, perhaps at another size.

    Layers that compute in half precision compute in float32 instead, and Keras's dilated convolutions become this
    package's. `model` itself is never changed; weights are copied where a clone is needed.

    Args:
        model: functional keras.Model.
        input_size: (height, width) of the result; None keeps what the model has.

    Returns:
        A keras.Model; `model` itself if there is nothing to change.

    Raises:
        ValueError: if the model can't be brought to `input_size`.
    """
    size = static_size(model)
    resized = input_size is not None and size not in ((None, None), tuple(input_size))
    if not resized and not any(_is_half(layer) or _export_class(layer) for layer in inner_layers(model)):
        return model

    def clone(layer):
        config, kind = layer.get_config(), _export_class(layer) or type(layer)
        if _is_half(layer):
            config["dtype"] = "float32"
        try:
            return kind.from_config(config)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the layer {layer.name!r} of {model.name!r} can't be made again from its configuration, which this "
                f"export needs. Register its class or function with keras.saving.register_keras_serializable: {error}"
            ) from error

    channels = model.inputs[0].shape[-1]
    inputs = None
    if input_size is not None and resized:
        inputs = keras.Input((*input_size, channels), dtype=model.inputs[0].dtype)
    try:
        cloned = keras.models.clone_model(model, input_tensors=inputs, clone_function=clone, recursive=True)
    except ValueError as error:
        if input_size is None or not resized:
            raise
        raise ValueError(
            f"the model {model.name!r} was built for {size[0]}x{size[1]} images and can't be brought to "
            f"{input_size[0]}x{input_size[1]}: build it with input_shape=(None, None, {channels}), or export it at its "
            f"own size ({error})"
        ) from error
    _copy_weights(model, cloned)
    return cloned


def comparable(model: keras.Model, input_size: tuple[int, int]) -> keras.Model:
    """A model to what a file of it is compared with at a size: itself, unless it computes in half precision or was
    built for another size; then what `inference_model` makes of it."""
    own = all(side in (None, wanted) for side, wanted in zip(static_size(model), input_size, strict=True))
    if own and not any(map(_is_half, inner_layers(model))):
        return model
    return inference_model(model, None if own else input_size)


def _is_half(layer):
    return getattr(layer, "compute_dtype", None) in ("float16", "bfloat16")  # operations on tensors have none


def _export_class(layer):
    """The class that a layer of Keras is exported as, None for its own."""
    kind = type(layer)
    if kind not in _DILATED or layer.data_format != "channels_last" or layer.padding not in ("same", "valid"):
        return None
    if getattr(layer, "groups", 1) > 1:
        return layers.GroupedConv2D
    return _DILATED[kind] if max(layer.dilation_rate) > 1 and max(layer.strides) == 1 else None


def _copy_weights(model, cloned):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            _copy_weights(layer, cloned.get_layer(layer.name))
        elif layer.weights:
            cloned.get_layer(layer.name).set_weights(layer.get_weights())


def logits_function(model: keras.Model, native: bool | None = True) -> Callable[[Any], Any]:
    """A model that `network` gave to a function from images (B, H, W, C) in 0..255, any dtype, to float32 logits.

    To be called while tracing a tf.function with `autograph=False`. `native` is that of `layers.export_ops`: how
    dilated depthwise convolutions are traced.
    """

    def logits_of(images):
        with layers.export_ops(native=native):
            return tf.cast(model(tf.cast(images, tf.float32), training=False), tf.float32)

    return logits_of


def frozen(function: Callable[[Any], Any], spec: tf.TensorSpec) -> Callable[[Any], Any]:
    """A function of one tensor to the same with its variables, and the tensors that it captured, as constants.

    TensorFlow computes batch norm's scale and offset and folds them into the kernels when it loads constants, which it
    can't with variables: about a fifth faster. Converters take a captured tensor for one more input.
    """
    traced = tf.function(function, input_signature=[spec], autograph=False).get_concrete_function()
    constant = convert_variables_to_constants_v2(traced, lower_control_flow=False)
    return lambda images: constant(images)[0]


def labels_of(logits: tf.Tensor, spec: ModelSpec, size: Any = None, align_corners: bool | None = None) -> tf.Tensor:
    """Logits (B, H, W, C) to labels (B, H, W), uint8 or, for more than 256 classes, int32.

    Of coarser logits, which are resized to `size` (height, width) as `align_corners` says, the resized ones aren't made
    as a whole then, by operators that TensorFlow alone has: `keras_deeplab.layers.resized_argmax`.

    The label is the class with the largest logit, the first of equal ones. Of a binary model it is 1 where the one
    logit is above 0 (the probability above 0.5), else 0. Of a multi-label model it is the class with the largest logit
    where that is above 0 (a probability of 0.5), else the ignored label, 255.

    A comparison with 0 is the argmax with a class more in front whose logit is 0: runtimes have that operator in every
    precision.

    Raises:
        ValueError: 255 is a class of a multi-label model.
    """
    ignored = spec.classes.ignore_label
    if spec.multi_label and (spec.num_classes or 0) > ignored:
        raise ValueError(
            f"the labels of a multi-label model say {ignored} where no class is above 0.5, and this one of "
            f"{spec.num_classes} has a class of that number: export logits or probabilities"
        )
    if align_corners is not None:
        return answers.resized_labels_of(logits, size, spec, align_corners)
    if spec.exclusive:
        return tf.cast(tf.argmax(logits, -1, output_type=tf.int32), spec.label_dtype)
    labels = tf.argmax(tf.pad(logits, [[0, 0], [0, 0], [0, 0], [1, 0]]), -1, output_type=tf.int32)
    if not spec.binary:
        labels = tf.gather(tf.constant([ignored, *range(spec.num_classes or 0)], tf.int32), labels)
    return tf.cast(labels, spec.label_dtype)


def output_of(logits: tf.Tensor, spec: ModelSpec, output: str) -> tf.Tensor:
    """Logits to what a file shall return: `"labels"`, `"logits"` or `"probabilities"`.

    Where `spec`, that of the file, has two classes for a binary model's one logit, the first of them has the logit 0:
    labels and, by a softmax, probabilities stay what they are.
    """
    if spec.num_classes == 2 and logits.shape[-1] == 1:
        logits = tf.pad(logits, [[0, 0], [0, 0], [0, 0], [1, 0]])
    if output == "labels":
        return labels_of(logits, spec)
    return answers.probabilities_of(logits, spec) if output == "probabilities" else logits


def file_spec(
    spec: ModelSpec, output: str, upsample: bool, sizes: Iterable[Sequence[int]], precision: str = "float32"
) -> FileSpec:
    """The record of a file from that of its model: `activation` becomes what the file's outputs have been through."""
    activation = spec.probability if output == "probabilities" else None
    return FileSpec(
        replace(spec, activation=activation),
        output,
        upsample,
        tuple((height, width) for height, width in sizes),
        precision,
    )
