"""Files of weights into `{name: array}`, without running anything that is in them; one file a format.

A reader knows the container, not the network: names, layouts and axes are as in the file. It trusts nothing: sizes are
checked before memory is taken, and what a file can make of itself is bounded by its size.
"""

import os
from typing import Any

from keras_deeplab.weights.readers import frozen_graph, hdf5, pickled, safetensors, shards, tflite, torch
from keras_deeplab.weights.readers.files import KINDS, kind_of

# what `kind_of` says -> path to {name: array}
READERS = {
    "torch": torch.read,
    "pickle": pickled.read,
    "safetensors": safetensors.read,
    "shards": shards.read,
    "h5": hdf5.read,
    "pb": frozen_graph.read,
    "tflite": tflite.read,
}


def read(path: str | os.PathLike[str]) -> Any:
    """A file of weights to what it is and what it holds.

    Args:
        path: a PyTorch checkpoint, a pickle of arrays, a safetensors, HDF5, frozen graph or TFLite file, recognised by
            its content; or the index of one in shards.

    Returns:
        (kind, arrays): a key of `READERS`, and `{name: array}`. Arrays may be read-only and views of one another.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is of another kind, damaged, or asks for more than plain arrays; the message names the file.

    Example (needs the file)::

        kind, arrays = read("best_deeplabv3plus_mobilenet_voc_os16.pth")
    """
    kind = kind_of(path)
    if kind not in READERS:
        raise ValueError(f"{os.fspath(path)!r} is {KINDS[kind]}, which keras_deeplab.load() reads as a whole.")
    return kind, READERS[kind](path)
