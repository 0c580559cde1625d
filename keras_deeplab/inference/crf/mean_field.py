"""Mean field in a fully connected CRF: energies of labels to marginals (Krähenbühl and Koltun, NIPS 2011)."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from keras_deeplab.inference.crf.exact import ExactFilter
from keras_deeplab.inference.crf.lattice import Lattice
from keras_deeplab.inference.crf.settings import Parameters, parameters

# Classes are filtered in slices of no more bytes, as far as that leaves some to be filtered together.
_SLICE, _FEWEST = 1 << 28, 8


class DenseCRF:
    """An image's filters, made once: any number of `marginals` of it, at any weights.

    Args:
        image: (H, W, 3) in 0..255.
        settings: what `keras_deeplab.inference.crf.parameters` takes.
        like: another CRF, whose filters are taken where they are the same: of the same array those of equal standard
            deviations and normalisation, of another image of that size the one by place alone.
        exact: sums over all pairs in place of lattices, for images of a few thousand pixels.
    """

    def __init__(
        self,
        image: np.ndarray,
        settings: str | Parameters = "v2_resnet101",
        *,
        like: "DenseCRF | None" = None,
        exact: bool = False,
    ) -> None:
        self.parameters = parameters(settings)
        self.shape = image.shape[:2]
        self._image = image
        self._make: Any = ExactFilter if exact else Lattice
        wanted = {key for _, key in self._terms()}
        self._filters: dict[tuple, Any] = {}
        if like is not None and like.shape == self.shape and like._make is self._make:
            same = like._image is image
            self._filters = {key: like._filters[key] for key in wanted & like._filters.keys() if same or key[1] is None}
        missing = list(wanted - self._filters.keys())
        with ThreadPoolExecutor(2) as threads:  # NumPy lets the other run
            self._filters |= zip(missing, threads.map(self._made, missing), strict=True)

    def marginals(self, energies: np.ndarray, iterations: int | None = None) -> np.ndarray:
        """Energies (H, W, C), -log of the probabilities, to float32 marginals (H, W, C) that add up to 1.

        Args:
            iterations: None for those of the parameters.

        Raises:
            ValueError: they are of another size than the image.
        """
        import tensorflow as tf

        if energies.ndim != 3 or energies.shape[:2] != self.shape:
            raise ValueError(
                f"an image of {self.shape} needs energies (H, W, C) of its size, received {energies.shape}"
            )
        iterations = self.parameters.iterations if iterations is None else iterations
        height, width, classes = energies.shape
        pixels = height * width
        flat = energies.reshape(pixels, classes)
        parts = _slices(pixels, classes)
        filters = [self._filters[key].weighted(weight) for weight, key in self._terms()]
        with tf.device("CPU:0"):
            unary = [tf.constant(flat[:, part], tf.float32) for part in parts]
            beliefs = _softmax([-part for part in unary])
            for _ in range(iterations):
                for number, part in enumerate(beliefs):
                    beliefs[number] = sum((filtered(part) for filtered in filters), -unary[number])
                beliefs = _softmax(beliefs)
            del unary
            found = np.empty((pixels, classes), np.float32)
            for part in parts:
                found[:, part] = memoryview(beliefs.pop(0))
        return found.reshape(height, width, classes)

    def _terms(self) -> list[tuple[float, tuple]]:
        """The weight of each potential that has one, and what its filter depends on."""
        own = self.parameters
        both = (own.w1, (own.sigma_alpha, own.sigma_beta)), (own.w2, (own.sigma_gamma, None))
        return [(weight, (*sigmas, own.normalisation)) for weight, sigmas in both if weight]

    def _made(self, key: tuple) -> Any:
        place, colour, normalisation = key
        height, width = self.shape
        axes = np.indices((height, width), np.float32)[::-1] / np.float32(place)
        features = axes.reshape(2, -1).T
        if colour is not None:
            colours = np.asarray(self._image, np.float32).reshape(height * width, -1) / np.float32(colour)
            features = np.concatenate([features, colours], axis=1)
        return self._make(features, normalisation)


def _slices(pixels: int, classes: int) -> list[slice]:
    """The classes in as few slices of about the same width as the limit allows."""
    most = max(_FEWEST, _SLICE // (4 * pixels))
    count = -(-classes // most)
    bounds = [round(number * classes / count) for number in range(count + 1)]
    return [slice(*pair) for pair in itertools.pairwise(bounds)]


def _softmax(parts: list[Any]) -> list[Any]:
    """Over all classes of the slices (N, c)."""
    import tensorflow as tf

    if len(parts) == 1:
        return [tf.nn.softmax(parts[0])]
    greatest = parts[0][:, :1]
    for part in parts:
        greatest = tf.maximum(greatest, tf.reduce_max(part, axis=1, keepdims=True))
    total: Any = 0.0
    for number, part in enumerate(parts):
        parts[number] = tf.exp(part - greatest)
        total = total + tf.reduce_sum(parts[number], axis=1, keepdims=True)
    for number, part in enumerate(parts):
        parts[number] = part / total
    return parts
