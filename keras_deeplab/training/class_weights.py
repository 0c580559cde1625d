"""Weights of classes from how many pixels they have."""

import math
from collections.abc import Sequence
from typing import Any


def balanced(counts: Sequence[int]) -> tuple[float, ...]:
    """Pixels of each class to a weight for each, greater for rarer ones, whose mean over all pixels is 1.

    `1 / ln(1.02 + share of the pixels)`, which stays between 1.4 and 50.5 (Paszke et al. 2016, "ENet", section 5.2),
    divided by its mean over the pixels: so the loss keeps its size, and the learning rate its meaning. A class without
    pixels has the weight of the rarest, and no effect.

    Raises:
        ValueError: there are no pixels at all.

    >>> balanced([900, 90, 10])
    (0.594088, 3.713478, 13.110769)
    """
    total = sum(int(count) for count in counts)
    if not total:
        raise ValueError("class_weights='auto' follows the pixels of each class, and no pixel of the data has a class")
    shares = [int(count) / total for count in counts]
    weights = [1.0 / math.log(1.02 + share) for share in shares]
    mean = sum(weight * share for weight, share in zip(weights, shares, strict=True))
    # Few digits, for they are read in the configuration of a run.
    return tuple(round(weight / mean, 6) for weight in weights)


def with_class_weights(settings: Any, source: Any, counts: Any = None) -> Any:
    """The settings of a training with numbers in place of `class_weights="auto"`; others as they are.

    Args:
        settings: a `keras_deeplab.training.settings.TrainSettings`.
        source: the `keras_deeplab.data` source that it learns from; its masks are read where no counts are given.
        counts: pixels of each label, as `source.check()` returns them.
    """
    if settings.loss.class_weights != "auto":
        return settings
    counts = source.check() if counts is None else counts
    return settings.with_options(class_weights=balanced([int(count) for count in counts[: source.num_classes]]))
