"""HDF5 weights of Keras 2 and 3. They are read in a process of their own: see `Reader`."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from keras_deeplab._helpers import limits
from keras_deeplab.specs import NETWORK
from keras_deeplab.weights.readers import safetensors
from keras_deeplab.weights.readers.common import contents, reading

MAGIC = b"\x89HDF\r\n\x1a\n"
_WHAT = "an HDF5 file of Keras weights"
_CHILD = Path(__file__).with_name("hdf5_child.py")


def read(path: str | os.PathLike[str]) -> Any:
    """An `.h5` file of Keras weights to `{name: array}`; bfloat16 becomes float32.

    Names are the file's own:

    - Keras 2 weights, and the `model_weights` of a whole model (bonlime, keras.applications): the names of the weights,
      `"Conv/kernel:0"`, in the order of the layers;
    - Keras 3 (`.weights.h5`): `"Conv1/vars/0"`, the layer's name and the variable's index, where the file knows the
      layers' names and each is there once; otherwise the path, `"layers/conv2d_3/vars/0"`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has neither layout, points to other files, is damaged, or makes the HDF5 library fail.
    """
    return read_network(path)[1]


def read_network(path: str | os.PathLike[str]) -> Any:
    """(text of the network or None, `{name: array}`) of an `.h5` file; the first is in files that this package wrote.

    Raises as `read`.
    """
    magic = contents(path, len(MAGIC))
    with reading(path, _WHAT):
        if magic != MAGIC:
            raise ValueError(f"it begins with {magic!r}, an HDF5 file with {MAGIC!r}")
        with Reader() as reader:
            arrays = reader.read(path)
        network = arrays.pop(NETWORK, None)
        return (None if network is None else network.tobytes().decode()), arrays


class Reader:
    """A process that reads HDF5 files.

    On one damaged file in some 500 to 2,000 the HDF5 library ends in an endless loop or a segmentation fault (measured
    with HDF5 1.14.6 on files with a few changed bytes). In a process of its own, with limits on its time and memory,
    that is an error like any other. Starting it takes about 0.2 seconds.
    """

    def __init__(self) -> None:
        self._process: Any = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop()

    def read(self, path: str | os.PathLike[str]) -> Any:
        """The arrays of a file, as `read` above; ValueError without the file's name."""
        size = os.path.getsize(path)
        seconds = limits.HDF5_SECONDS + size // 20_000_000
        if self._process is None:
            self._start()
        watch = threading.Timer(limits.HDF5_WAIT * seconds, self._process.kill)
        watch.start()
        try:
            request = {
                "path": os.path.abspath(os.fsdecode(path)),
                "seconds": seconds,
                "limit": limits.EXPANSION * size,
                "memory": limits.HDF5_MEMORY,
            }
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            head = self._process.stdout.read(9)
            length = int.from_bytes(head[1:], "little")
            answer = self._process.stdout.read(length) if length <= (limits.EXPANSION + 1) * size + (1 << 24) else b""
        except OSError:
            head, length, answer = b"", 0, b""
        finally:
            watch.cancel()
        if len(head) != 9 or len(answer) != length:
            self._stop()
            raise ValueError("the HDF5 library crashed or went on without end over it: the file is damaged")
        if head[:1] != b"+":
            raise ValueError(answer.decode(errors="replace"))
        return safetensors.parse(answer)

    def _start(self):
        # The same packages, but not this folder: modules in it are called like others' packages.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    def _stop(self):
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
