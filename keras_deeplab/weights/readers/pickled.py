"""Plain pickles of arrays: PaddlePaddle's `.pdparams` and Detectron2's `.pkl`. Nothing they ask for is run."""

import os
from typing import Any

from keras_deeplab.weights.readers.common import contents, reading
from keras_deeplab.weights.readers.pickles import Pickle
from keras_deeplab.weights.readers.torch import tensors_in

_WHAT = "a pickle of arrays"
_NAMES_OF_PADDLE = "StructuredToParameterName@@"  # what its graphs call each parameter


def read(path: str | os.PathLike[str]) -> Any:
    """A pickle to the arrays in it, `{name: array}`, whatever mapping they are wrapped in.

    Args:
        path: a file of `paddle.save(layer.state_dict(), path)`, or of `pickle.dump({"model": arrays}, file)`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it asks for anything but plain values and arrays (the message names it), holds no mapping of names
            to arrays, or is damaged.
    """
    data = contents(path)
    with reading(path, _WHAT):
        return tensors_in(_plain(Pickle(data).load()))


def _plain(value):
    """What was saved, an array for each pair of a parameter's name and array, as Paddle writes tensors."""
    if not isinstance(value, dict):
        return value
    value = {key: item for key, item in value.items() if key != _NAMES_OF_PADDLE}
    return {key: item[1] if _named(item) else item for key, item in value.items()}


def _named(item):
    return isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) and hasattr(item[1], "dtype")
