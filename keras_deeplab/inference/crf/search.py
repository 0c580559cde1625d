"""The papers' search for the parameters of a CRF: a grid, coarse to fine, on probabilities that are made once."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab._helpers.progress import Progress
from keras_deeplab.inference.crf.dense import coloured, energies_of
from keras_deeplab.inference.crf.mean_field import DenseCRF
from keras_deeplab.inference.crf.settings import Parameters
from keras_deeplab.metrics import ConfusionMatrix


@dataclass(frozen=True)
class Sample:
    """An image, its labels and the model's probabilities, the latter in a file."""

    image: np.ndarray
    truth: np.ndarray
    path: Path

    def probabilities(self) -> np.ndarray:
        return np.load(self.path)


def gathered(
    samples: Iterable[Mapping[str, Any]],
    probabilities: Callable[[np.ndarray], np.ndarray],
    folder: str | Path,
    progress: Progress | None = None,
) -> list[Sample]:
    """Runs the model once on each sample, {"image", "label", "name"}; probabilities are kept in `folder`, float32."""
    found = []
    for number, sample in enumerate(samples):
        path = Path(folder) / f"{number:06}.npy"
        try:
            np.save(path, probabilities(sample["image"]))
        except ValueError as error:
            raise ValueError(f"{sample['name']}: {error}") from error
        found.append(Sample(coloured(sample["image"]), sample["label"], path))
        if progress is not None:
            progress.update(number + 1)
    return found


def scored(
    samples: Sequence[Sample],
    candidates: Sequence[Parameters | None],
    matrix: Callable[[], ConfusionMatrix],
    advance: Callable[[], None] = lambda: None,
) -> list[ConfusionMatrix]:
    """The confusion matrix of each candidate, of None without a CRF. Filters are made once an image and deviations.

    Args:
        matrix: makes an empty one.
        advance: called after each image and candidate.
    """
    matrices = [matrix() for _ in candidates]
    # Those of equal standard deviations one after the other, so that the filters of one are the next one's.
    order = sorted(range(len(candidates)), key=lambda number: _deviations(candidates[number]))
    for sample in samples:
        probabilities = sample.probabilities()
        energies, crf = energies_of(probabilities), None
        for number in order:
            candidate, scores = candidates[number], probabilities
            if candidate is not None:
                crf = DenseCRF(sample.image, candidate, like=crf)
                scores = crf.marginals(energies)
            matrices[number].update(sample.truth, scores.argmax(-1))
            advance()
    return matrices


def _deviations(candidate: Parameters | None) -> tuple:
    if candidate is None:
        return ()
    return candidate.sigma_gamma, candidate.sigma_alpha, candidate.sigma_beta, candidate.normalisation


# The grid ---------------------------------------------------------------------------------------------------------

Point = tuple[int, ...]


def coarse_to_fine(
    axes: Sequence[Sequence[float]], score: Callable[[list[Point]], Mapping[Point, float]]
) -> dict[Point, float]:
    """Scores of some points of a grid: its corners and middles, then nearer and nearer around the best one so far.

    Args:
        axes: the values along each axis, ascending; points are their numbers.
        score: points to their scores; the greatest is the best.

    Returns:
        all points that were tried. The best one's neighbours on the grid are among them.
    """
    lengths = [len(axis) for axis in axes]
    tried: dict[Point, float] = {}

    def attempt(points: Iterator[Point]) -> Point:
        new = sorted(set(points) - tried.keys())
        if new:
            tried.update(score(new))
        return max(tried, key=lambda point: (tried[point], [-number for number in point]))

    best = attempt(itertools.product(*(sorted({0, (length - 1) // 2, length - 1}) for length in lengths)))
    strides = [max(1, length // 4) for length in lengths]
    while True:
        before, reached = best, strides
        around = [
            sorted({max(0, at - stride), at, min(length - 1, at + stride)})
            for at, stride, length in zip(best, strides, lengths, strict=True)
        ]
        best = attempt(itertools.product(*around))
        strides = [max(1, stride // 2) for stride in strides]
        if best == before and max(reached) == 1:
            return tried


def progressed(total: int) -> tuple[Progress, Callable[[], None]]:
    """A progress line of `total` steps, and what counts one."""
    line, counter = Progress(total, "tune-crf"), itertools.count(1)
    return line, lambda: line.update(next(counter))
