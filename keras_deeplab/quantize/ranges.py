"""The range of each stored tensor: which values int8's 256 steps shall reach from, and to."""

from collections.abc import Sequence

import numpy as np

from keras_deeplab.quantize.statistics import Statistics

Ends = tuple[float, float]  # of a range: low, high

METHODS = ("minmax", "percentile", "mse")
_FRACTIONS = np.linspace(0.3, 1.0, 36)
_PERCENTILE = 99.99
_STEPS = 255


def nudged(low: float, high: float) -> Ends:
    """(low, high) to the nearest range that has 0 on one of its 256 steps, as TFLite stores it."""
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    if high - low < 1e-6:
        high = low + 1e-6
    scale = (high - low) / _STEPS
    zero = np.clip(np.round(-low / scale), 0, _STEPS)
    return float(-zero * scale), float((_STEPS - zero) * scale)


def rounded(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values as int8 in a range from `nudged` holds them."""
    scale = (high - low) / _STEPS
    return np.clip(np.round((values - low) / scale), 0, _STEPS) * scale + low


def search(statistics: Sequence[Statistics], method: str = "mse") -> Ends:
    """The range of a tensor, or of several that share one.

    Args:
        statistics: list of `Statistics`.
        method: `"minmax"`: all that was seen. `"percentile"`: without the outermost 0.01 % on either side. `"mse"`:
            the part of all that was seen whose mean squared rounding and cutting error is the least.

    Returns:
        (low, high), nudged.
    """
    if method not in METHODS:
        raise ValueError(f"the method of range search must be one of {', '.join(METHODS)}; received {method!r}")
    low = min(found.low.min() for found in statistics)
    high = max(found.high.max() for found in statistics)
    values = np.concatenate([found.values for found in statistics])
    if method == "percentile":
        low, high = np.percentile(values, [100 - _PERCENTILE, _PERCENTILE])
    if method != "mse":
        return nudged(low, high)

    def error(part):
        return np.mean((rounded(values, *nudged(*part)) - values) ** 2)

    # One end after the other: relu leaves one of them at 0.
    best = min(((low * fraction, high * fraction) for fraction in _FRACTIONS), key=error)
    best = min(((best[0], high * fraction) for fraction in _FRACTIONS), key=error)
    best = min(((low * fraction, best[1]) for fraction in _FRACTIONS), key=error)
    return nudged(*best)
