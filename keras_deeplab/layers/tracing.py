"""Which operator a dilated convolution is traced to: `export_ops` chooses, the machine does where nobody did."""

import contextlib
import functools
import threading
from collections.abc import Iterator

from keras_deeplab.layers.backend import tf

_tracing = threading.local()


@contextlib.contextmanager
def export_ops(native: bool | None = True) -> Iterator[None]:
    """Has dilated convolutions traced for inference alone, in this thread, on TensorFlow; `native` says to what.

    Left alone, a layer takes the native operator where this machine can run it, pads the map first where oneDNN is
    slow otherwise, and brings its own gradient, which a SavedModel would store as well. In this context nothing is
    stored; asking for a native depthwise operator's gradient is an error.

    TensorFlow runs dilated depthwise operators on CPUs with oneDNN (the default on x86) in float32 and bfloat16. On
    other CPUs and in other types a graph that holds one fails when it runs; GPUs have not been tried.

    Args:
        native: True traces one operator and no pads, whether or not this machine can run it: for converters to another
            runtime. None traces what runs fastest on this machine: for a SavedModel to be served on one like it.
            False traces depthwise convolutions to Keras's operators, which run on every device: for a SavedModel to be
            served anywhere.

    Example:

    >>> import keras
    >>> from keras_deeplab.layers import DilatedDepthwiseConv2D
    >>> with export_ops(native=False):
    ...     y = DilatedDepthwiseConv2D(3, padding="same", dilation_rate=2)(keras.ops.ones((1, 5, 5, 8)))
    >>> tuple(y.shape)
    (1, 5, 5, 8)
    """
    previous = export_choice()
    _tracing.export = (native,)
    try:
        yield
    finally:
        _tracing.export = previous


def export_choice() -> tuple[()] | tuple[bool | None]:
    """Outside of `export_ops` (), inside (native,)."""
    return getattr(_tracing, "export", ())


@functools.cache
def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


@functools.cache
def onednn_runs(dtype: str) -> bool:
    """Whether oneDNN serves dilated convolutions of `dtype` in this process, found out by running a depthwise one."""
    if has_gpu():
        return False
    with tf.init_scope():
        try:
            outputs = tf.raw_ops.DepthwiseConv2dNative(
                input=tf.cast(tf.reshape(tf.range(9), (1, 9, 1, 1)), dtype),
                filter=tf.ones((2, 1, 1, 1), dtype),
                strides=[1, 1, 1, 1],
                dilations=[1, 3, 3, 1],
                padding="VALID",
            )
        except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError, tf.errors.NotFoundError):
            return False
        return [float(value) for value in tf.reshape(outputs, [-1])] == [3.0, 5.0, 7.0, 9.0, 11.0, 13.0]


def takes_native(dtype: str) -> bool:
    """Whether a convolution that TensorFlow has for CPUs with oneDNN alone, a dilated depthwise or a grouped one, is
    traced to its native operator in `dtype` here and now."""
    (native,) = export_choice() or (None,)
    return onednn_runs(dtype) if native is None else native
