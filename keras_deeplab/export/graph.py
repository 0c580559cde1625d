"""What every export traces: a model as a plain TensorFlow function that a file can hold."""

import keras
import tensorflow as tf

from keras_deeplab import layers

# Keras's dilated layers become space-to-batch, convolution, batch-to-space at unknown sizes. These have the same
# variables, and become one operator.
_DILATED = {
    keras.layers.Conv2D: layers.DilatedConv2D,
    keras.layers.DepthwiseConv2D: layers.DilatedDepthwiseConv2D,
    keras.layers.SeparableConv2D: layers.DilatedSeparableConv2D,
}


def check(model):
    """Raises ValueError unless `model` is a keras.Model on TensorFlow, from images (B, H, W, 3) to (B, h, w, C)."""
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
    inputs, outputs = getattr(model, "inputs", None) or (), getattr(model, "outputs", None) or ()
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(
            f"the model {model.name!r} has {len(inputs)} inputs and {len(outputs)} outputs; expected a functional "
            "model with one of each (call a subclassed one on a keras.Input and make a keras.Model of that)"
        )
    source, target = tuple(inputs[0].shape), tuple(outputs[0].shape)
    if len(source) != 4 or source[-1] != 3 or len(target) != 4 or target[-1] is None:
        raise ValueError(
            f"the model {model.name!r} maps {source} to {target}; expected images (B, H, W, 3) to logits "
            "(B, h, w, classes)"
        )


def static_size(model):
    """The (height, width) that a model was built for, None where it takes any."""
    return tuple(model.inputs[0].shape[1:3])


def inference_model(model, input_size=None, replace=None):
    """A model to one that computes the same in float32, with layers that export well, perhaps at another size.

    Layers that compute in half precision compute in float32 instead, and Keras's dilated convolutions become this
    package's. `model` itself is never changed; weights are copied where a clone is needed.

    Args:
        model: functional keras.Model.
        input_size: (height, width) of the result; None keeps what the model has.
        replace: function from a layer to one that shall stand in its place and needs no weights, or to None.

    Returns:
        A keras.Model; `model` itself if there is nothing to change.

    Raises:
        ValueError: if the model can't be brought to `input_size`.
    """
    size = static_size(model)
    resized = input_size is not None and size not in ((None, None), tuple(input_size))
    if not resized and not any(_changes(layer, replace) for layer in _all_layers(model)):
        return model
    replaced = set()

    def clone(layer):
        replacement = None if replace is None else replace(layer)
        if replacement is not None:
            replaced.add(layer)
            return replacement
        config, kind = layer.get_config(), type(layer)
        if _is_half(layer):
            config["dtype"] = "float32"
        if _is_slow(layer):
            kind = _DILATED[kind]
        try:
            return kind.from_config(config)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the layer {layer.name!r} of {model.name!r} can't be made again from its configuration, which this "
                f"export needs. Register its class or function with keras.saving.register_keras_serializable: {error}"
            ) from error

    inputs = keras.Input((*input_size, 3), dtype=model.inputs[0].dtype) if resized else None
    try:
        cloned = keras.models.clone_model(model, input_tensors=inputs, clone_function=clone, recursive=True)
    except ValueError as error:
        if not resized:
            raise
        raise ValueError(
            f"the model {model.name!r} was built for {size[0]}x{size[1]} images and can't be brought to "
            f"{input_size[0]}x{input_size[1]}: build it with input_shape=(None, None, 3), or export it at its own size "
            f"({error})"
        ) from error
    _copy_weights(model, cloned, replaced)
    return cloned


def _all_layers(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _all_layers(layer)
        else:
            yield layer


def _changes(layer, replace):
    return _is_half(layer) or _is_slow(layer) or (replace is not None and replace(layer) is not None)


def _is_half(layer):
    return layer.compute_dtype in ("float16", "bfloat16")


def _is_slow(layer):
    return (
        type(layer) in _DILATED
        and max(layer.dilation_rate) > 1
        and max(layer.strides) == 1
        and layer.data_format == "channels_last"
        and layer.padding in ("same", "valid")
    )


def _copy_weights(model, cloned, replaced):
    for layer in model.layers:
        if layer in replaced:
            continue
        if isinstance(layer, keras.Model):
            _copy_weights(layer, cloned.get_layer(layer.name), replaced)
        elif layer.weights:
            cloned.get_layer(layer.name).set_weights(layer.get_weights())


def last_resize(model):
    """How a model's logits are brought to the size of the images: "align_corners" or "half_pixel_centers".

    Logits that the model leaves at a smaller size are to be resized the former way, as `logits_function` does it.
    """
    layer = _last_resize_layer(model)
    return "align_corners" if layer is None or layer.align_corners else "half_pixel_centers"


def without_last_resize(model):
    """A model to the one that returns its logits at the stride of its head, a softmax behind the resize left out too.

    A model that leaves its logits at a smaller size is returned as it is.

    Raises:
        ValueError: the model returns maps of the images' size, and no last resize of it makes them so.
    """
    layer = _last_resize_layer(model)
    if layer is not None:
        return keras.Model(model.inputs[0], layer.input[0], name=model.name)
    if _keeps_size(model):
        raise ValueError(
            f"the model {model.name!r} doesn't end in a keras_deeplab.layers.ResizeBilinear to the size of its images, "
            "so there is no resize to leave to the caller: choose upsample=True"
        )
    return model


def _last_resize_layer(model):
    """The ResizeBilinear to the size of the images that a model ends in, or has before its softmax; else None."""
    by_output = {id(layer.output): layer for layer in model.layers if not isinstance(layer.output, (list, tuple))}
    layer = by_output.get(id(model.outputs[0]))
    if isinstance(layer, (keras.layers.Softmax, keras.layers.Activation)):
        layer = by_output.get(id(layer.input))
    if isinstance(layer, layers.ResizeBilinear) and layer.input[1] is model.inputs[0]:
        return layer
    return None


def logits_function(model, native=True, resize=True):
    """A model to a function from images (B, H, W, 3) in 0..255, any dtype, to float32 logits (B, H, W, C).

    To be called while tracing a tf.function with `autograph=False`. Logits that the model leaves at a smaller size
    are resized to the images', as the heads do it, unless `resize` is False. `native` is that of `layers.export_ops`:
    how dilated depthwise convolutions are traced.
    """

    def logits_of(images):
        with layers.export_ops(native=native):
            logits = tf.cast(model(tf.cast(images, tf.float32), training=False), tf.float32)
        if not resize:
            return logits
        known, wanted = logits.shape[1:3], images.shape[1:3]
        if known.is_fully_defined() and wanted.is_fully_defined():
            same = known == wanted
        else:
            same = _keeps_size(model)
        if same:
            return logits
        return tf.raw_ops.ResizeBilinear(images=logits, size=tf.shape(images)[1:3], align_corners=True)

    return logits_of


def _keeps_size(model):
    """Whether logits have the size of the images, found at a size that no stride divides."""
    images = keras.KerasTensor((1, 131, 163, 3), dtype="float32")
    return tuple(keras.ops.shape(model.compute_output_spec(images)))[1:3] == (131, 163)


def label_dtype(num_classes):
    """The smallest of uint8 and int32 that holds the labels."""
    return tf.uint8 if num_classes <= 256 else tf.int32


def labels_of(logits):
    """Logits (B, H, W, C) to labels (B, H, W), uint8 or, for more than 256 classes, int32."""
    return tf.cast(tf.argmax(logits, -1, output_type=tf.int32), label_dtype(logits.shape[-1]))
