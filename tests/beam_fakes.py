"""What tests of very many images share: a model that tells what it was asked, samples, a store of addresses."""

import functools
import os

import numpy as np

from keras_deeplab.inference.predictor import Predictor
from keras_deeplab.inference.runtimes import Runtime
from keras_deeplab.inference.runtimes.base import LOGITS
from keras_deeplab.specs import Classes, ModelSpec

CLASSES = ("background", "field", "road")


class ByRed(Runtime):
    """The class that the red channel tells, 0, 100 or 200; each image is a line in a file, by its top left pixel.

    Args:
        log: the file.
        stop_after: the process ends in the middle of the image after so many, as if it were killed.
    """

    name = "the model by red"
    spec = ModelSpec(3, classes=Classes(CLASSES))
    returns = LOGITS

    def __init__(self, log=None, stop_after=None):
        self.log, self.stop_after = log, stop_after

    def scores(self, images):
        if self.log is not None:
            with open(self.log, "a+") as file:
                file.seek(0)
                if self.stop_after is not None and len(file.readlines()) >= self.stop_after:
                    os._exit(9)
                file.writelines(f"{image[0, 0, 1]:.0f}\n" for image in images)
        if images.shape[1] == 13:
            raise RuntimeError("13 rows bring bad luck")
        return -np.abs(images[..., :1] - np.array([0, 100, 200], np.float32))


def by_red(log=None, stop_after=None):
    return Predictor(ByRed(log, stop_after))


def sample(number, size=(9, 12)):
    """An image (H, W, 3) that tells its labels by red and its number by green, truth with a wrong row, the labels."""
    rng = np.random.default_rng(number)
    labels = rng.integers(0, 3, size).astype(np.uint8)
    image = np.stack([labels * 100, np.full(size, number), labels], -1).astype(np.uint8)
    truth = labels.copy()
    truth[0] = 255
    truth[1] = (truth[1] + 1) % 3
    return image, truth, labels


@functools.cache  # Beam finds every class of a store, and takes no two of one scheme
def store():
    """A store in memory under held://, as Beam knows stores, and what is in it: {address: (bytes, time)}."""
    import io
    import time

    from apache_beam.io.filesystem import BeamIOError, CompressedFile, CompressionTypes, FileMetadata, FileSystem

    held = {}

    class Closing(io.BytesIO):
        def __init__(self, path):
            super().__init__()
            self.path = path

        def close(self):
            if not self.closed:
                held[self.path] = (self.getvalue(), time.time())
            super().close()

    class Opened(io.BytesIO):
        mode = "rb"  # which what unpacks it asks for

    class Held(FileSystem):
        @classmethod
        def scheme(cls):
            return "held"

        def has_dirs(self):
            return False

        def join(self, basepath, *paths):
            return "/".join([basepath.rstrip("/"), *paths])

        def split(self, path):
            head, _, tail = path.rpartition("/")
            return head, tail

        def mkdirs(self, path):
            pass

        def _list(self, dir_or_prefix):
            yield from (self.metadata(path) for path in list(held) if path.startswith(dir_or_prefix))

        def create(self, path, mime_type="", compression_type=CompressionTypes.AUTO):
            return Closing(path)

        def open(self, path, mime_type="", compression_type=CompressionTypes.AUTO):
            if path not in held:
                raise BeamIOError(f"no object {path}")
            kind = self._get_compression_type(path, compression_type)
            data = Opened(held[path][0])
            return data if kind == CompressionTypes.UNCOMPRESSED else CompressedFile(data, compression_type=kind)

        def copy(self, source_file_names, destination_file_names):
            raise NotImplementedError

        def rename(self, source_file_names, destination_file_names):
            for source, target in zip(source_file_names, destination_file_names, strict=True):
                assert target not in held
                held[target] = held.pop(source)

        def exists(self, path):
            return path in held

        def size(self, path):
            return len(held[path][0])

        def last_updated(self, path):
            return held[path][1]

        def metadata(self, path):
            return FileMetadata(path, self.size(path), self.last_updated(path))

        def delete(self, paths):
            for path in paths:
                del held[path]

    return held, Held
