"""Images that ranges are found on and kernels rounded with, wherever they come from."""

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_deeplab import data, quantize
from keras_deeplab.data import pipeline
from keras_deeplab.data.images import read_image
from keras_deeplab.data.transforms import size_within
from keras_deeplab.inference.files import image_files
from keras_deeplab.specs import ModelSpec

# Images in a step of fine-tuning.
_BATCH = 4


class Calibration:
    """What a quantised file is calibrated on, to be had at several sizes.

    Args:
        given: the name or path of a data set that `keras_deeplab.data.load` knows (its training split is taken), the
            path of a folder of images, a `keras_deeplab.data` source, or an iterable of images (H, W, channels) in
            0..255 or of samples that have one under "image".
        samples: how many images at most. A folder gives evenly spaced ones in the order of their names, a source
            randomly chosen ones (always the same), anything else its first.
        spec: the model's record, which says how files become its images.

    Raises:
        FileNotFoundError: there is no such folder, or no image in it.
    """

    def __init__(self, given: Any, samples: int, spec: ModelSpec) -> None:
        self.samples, self.channels = samples, spec.channels
        self.source = None
        self._raw: Any = None
        if isinstance(given, (str, os.PathLike)):
            if data.kind_of(given) is not None:
                self.source = data.load(given, split="train", **data.options_of_model(given, spec))
            else:
                self._raw = _Folder(given, samples, spec)
        elif hasattr(given, "num_examples"):
            self.source = given
        else:
            # Something that can be read once is asked for each size.
            self._raw = list(itertools.islice(given, samples)) if iter(given) is given else given

    def _raw_images(self) -> Iterator[Any]:
        raw = self.source.dataset(shuffle_seed=0) if self.source else self._raw
        if isinstance(raw, tf.data.Dataset):
            raw = raw.take(self.samples).as_numpy_iterator()
        for sample in itertools.islice(raw, self.samples):
            yield sample["image"] if isinstance(sample, dict) else sample

    def images(self, input_size: tuple[int, int] | None) -> list[np.ndarray]:
        """The images, each float32 (1, height, width, channels) in 0..255.

        Args:
            input_size: (height, width): larger images are scaled down to fit, smaller ones padded with mid-grey at the
                bottom and right; None leaves each at its own.

        Raises:
            ValueError: there is none, or one isn't (H, W, channels).
        """
        images = [fitted(image, input_size, self.channels)[None] for image in self._raw_images()]
        if not images:
            raise ValueError("calibration has no images: the iterable ended before the first one")
        # The input's scale becomes exactly 1 and its zero point 0, so that a file's uint8 input is the pixels.
        ends = np.resize((0.0, 255.0), max(2, self.channels))
        images[0].reshape(-1)[-len(ends) :] = ends
        return images

    def batches(self, images: list[np.ndarray]) -> Iterator[np.ndarray]:
        """Endless batches of four images (4, H, W, channels) of the size of `images`, for fine-tuning: random crops of
        a source's images, else `images` themselves."""
        height, width = np.max([image.shape[1:3] for image in images], 0)
        if self.source:
            source = pipeline.training(
                self.source, batch_size=_BATCH, crop_size=(int(height), int(width)), scale_range=(0.75, 1.25)
            )
            yield from (batch for batch, _ in source)
        random = np.random.default_rng(0)
        same = [fitted(image[0], (height, width), self.channels) for image in images]
        while True:
            chosen = random.integers(len(same), size=_BATCH)
            flipped = random.integers(2, size=_BATCH)
            yield np.stack([same[i][:, ::-1] if flip else same[i] for i, flip in zip(chosen, flipped, strict=True)])


def fitted(image: Any, size: tuple[int, int] | None, channels: int = 3) -> np.ndarray:
    """An image (H, W, channels) to float32 (*size, channels), scaled down where it is larger and padded where smaller.

    Where `size` is None it keeps its own.

    Raises:
        ValueError: it is no such image.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != channels or 0 in image.shape:
        raise ValueError(f"calibration images must have shape (H, W, {channels}), received {image.shape}")
    image = image.astype(np.float32)
    if size is None:
        return np.rint(image)
    smaller = size_within(image.shape, size)
    if smaller != image.shape[:2]:
        image = np.clip(tf.image.resize(image, smaller, antialias=True).numpy(), 0, 255)
    # The grey that a uint8 image can hold, which is what the file will be fed.
    padded = np.full((*size, channels), quantize.PADDING, np.float32)
    padded[: image.shape[0], : image.shape[1]] = np.rint(image)
    return padded


class _Folder(Iterable):
    """At most `samples` images of a folder, evenly spaced in the order of their names, read when they are asked for."""

    def __init__(self, path: str | os.PathLike, samples: int, spec: ModelSpec) -> None:
        self.spec = spec
        path = Path(path).expanduser()
        if not path.is_dir():
            raise FileNotFoundError(f"the calibration folder {path} does not exist")
        files = image_files(path)
        count = min(samples, len(files))
        self.files = [files[index * len(files) // count] for index in range(count)]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (read_image(file, self.spec.channels, image_range=self.spec.image_range) for file in self.files)
