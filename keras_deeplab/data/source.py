"""What every reader returns: a `Source`, one split of a data set with its classes, and its samples as tf.data."""

import atexit
import contextlib
import gc
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_deeplab.specs import IGNORED, Classes, checked_range

_LISTED = 10  # how many problems an error lists before it only counts


@atexit.register
def _free_iterators() -> None:
    """Frees the iterators over data that nothing uses any more, before the interpreter ends.

    Their threads call `Source._read`, so they wait for the interpreter, which at its very end waits for them: a program
    that was over would not end. What holds them is a circle of references, or the traceback of the error that was last
    printed.
    """
    for name in ("last_exc", "last_value", "last_traceback"):
        vars(sys).pop(name, None)
    gc.collect()


class Source:
    """One split of a data set: samples {"image": uint8 (H, W, channels), "label": uint8 (H, W), "name": string}.

    Readers build it with `indexed` (random access) or from two functions of their own.

    Attributes:
        name: what to call the split in messages.
        classes_spec: the record of its classes, a `keras_deeplab.specs.Classes`: names and colours where the data
            tells them, and the ignored label.
        num_classes: how many classes it has; a label is one of 0 to `num_classes` - 1, or `ignore_label`.
        channels: of its images; 3 are red, green and blue.
        image_range: the two numbers of images of more than 8 bits that are 0 and 255 here; None where none are given.
        classes, ignore_label, palette: of `classes_spec`: a list of a name for each class (`"class 0"` and so on where
            nothing tells them), 255, and (256, 3) uint8 colours for showing labels.
        num_examples: how many samples an epoch has; also `len(source)`.
        files: the (name, image file, mask file) of each sample in order, where they are such files; else ().
        notes: lines on what the reader took for granted or found odd; commands print them.

    Args:
        classes: a `Classes`, or a list of names.
        examples: `examples(shuffle_seed, epoch) -> tf.data.Dataset` of cheap, still undecoded tuples in the order of
            one epoch. `epoch` may be a scalar int64 tensor.
        read: `read(*example) -> (image, label, name)`, a Python function from a tuple's NumPy values to a uint8
            (H, W, channels) array, a uint8 (H, W) array and a string. Several threads call it at once. Where a sample
            can't be used it raises a ValueError that names the file.
        num_classes: where `classes` has no names.
    """

    def __init__(
        self,
        name: str,
        classes: Classes | Sequence[str],
        num_examples: int,
        examples: Callable[..., tf.data.Dataset],
        read: Callable[..., tuple[np.ndarray, np.ndarray, str]],
        *,
        num_classes: int | None = None,
        channels: int = 3,
        image_range: Sequence[float] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.name = name
        try:
            self.classes_spec = Classes.of(classes)
            if num_classes is None:
                num_classes = len(self.classes_spec.names or ())
            if not 0 < num_classes <= IGNORED:
                raise ValueError(f"{num_classes} classes; labels are 8-bit and 255 is ignored, so 1 to 255 fit")
            self.classes_spec.checked(num_classes, "the data")
            self.image_range = None if image_range is None else checked_range(image_range)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        self.num_classes = num_classes
        self.channels = channels
        self.num_examples = int(num_examples)
        self.files: Sequence[tuple[str, Path, Path | None]] = ()
        self.notes = list(notes)
        self._examples = examples
        self._read = read
        if self.num_examples < 1:
            raise ValueError(f"{name}: the split is empty")

    @property
    def classes(self) -> list[str]:
        return list(self.classes_spec.labels(self.num_classes))

    @property
    def ignore_label(self) -> int:
        return self.classes_spec.ignore_label

    @property
    def palette(self) -> np.ndarray:
        return np.array(self.classes_spec.palette(256), np.uint8)

    def __len__(self) -> int:
        return self.num_examples

    def __repr__(self) -> str:
        return f"<Source {self.name}: {self.num_examples} samples, {self.num_classes} classes>"

    def dataset(self, shuffle_seed: int | None = None, epoch: int = 0) -> tf.data.Dataset:
        """Map a seed and an epoch to a `tf.data.Dataset` of this split's samples, each once.

        Args:
            shuffle_seed: None for the split's own order, else an int: the order depends on it and `epoch` alone.
            epoch: int.
        """
        return self._examples(shuffle_seed, epoch).map(self._decode, tf.data.AUTOTUNE, deterministic=True)

    def numbered(
        self, shuffle_seed: int | None = None, start: int = 0, wanted: Callable[[tf.Tensor], tf.Tensor] | None = None
    ) -> tf.data.Dataset:
        """Map a seed to the endless `tf.data.Dataset` of epoch after epoch, of (a sample's number, the sample).

        Args:
            start: the number, a scalar int64, of the first; those before are skipped undecoded.
            wanted: maps a number to whether its sample is wanted, a scalar bool; others are skipped undecoded.
        """
        first_epoch, skipped = divmod(start, self.num_examples)

        def epoch_examples(epoch):
            examples = self._examples(shuffle_seed, epoch)
            return examples.skip(tf.where(epoch == first_epoch, tf.constant(skipped, tf.int64), 0))

        epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max)
        examples = epochs.flat_map(epoch_examples).enumerate(start)
        if wanted is not None:
            examples = examples.filter(lambda position, example: wanted(position))
        return examples.map(
            lambda position, example: (position, self._decode(*example)), tf.data.AUTOTUNE, deterministic=True
        )

    def check(self) -> np.ndarray:
        """Read every sample and return how many pixels have each label, (256,) int64; entry 255 counts the ignored.

        Raises:
            ValueError: some samples can't be read or don't fit the classes; it names the files and says why.
        """
        counts = np.zeros(256, np.int64)
        problems = []
        for found in self.survey(lambda index, image, label, name: np.bincount(label.reshape(-1), minlength=256)):
            if isinstance(found, Exception):
                problems.append(str(found))
            else:
                counts += found
        if problems:
            raise ValueError(
                f"{len(problems)} of the {self.num_examples} samples of {self.name} can't be used:\n{listing(problems)}"
            )
        return counts

    def sample(self, index: int) -> tuple[np.ndarray, np.ndarray, str]:
        """The image, label and name of the sample at a place in the split's own order.

        Raises:
            ValueError: it can't be read; the message names the file.
        """
        return self._read(*next(self._examples(None, 0).skip(index).as_numpy_iterator()))

    def survey(self, measure: Callable[[int, np.ndarray, np.ndarray, str], Any]) -> Iterator[Any]:
        """Read every sample once, several at a time, and yield in their own order what is measured of each.

        Args:
            measure: maps a sample's place, image, label and name to what is to be kept of it; of a sample that can't
                be read or doesn't fit the classes, the error that says so is yielded in its stead.
        """

        def measured(numbered):
            index, example = numbered
            try:
                image, label, name = self._read(*example)
            except (ValueError, OSError) as error:
                return error
            return measure(index, image, label, name)

        examples = enumerate(self._examples(None, 0).as_numpy_iterator())
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            # In pieces, so that a large split's images don't all wait in memory.
            while piece := list(itertools.islice(examples, 64)):
                yield from pool.map(measured, piece)

    def _decode(self, *example):
        image, label, name = tf.numpy_function(self._read, example, [tf.uint8, tf.uint8, tf.string])
        return {
            "image": tf.ensure_shape(image, [None, None, self.channels]),
            "label": tf.ensure_shape(label, [None, None]),
            "name": tf.ensure_shape(name, []),
        }


def indexed(
    name: str,
    classes: Classes | Sequence[str],
    num_examples: int,
    read: Callable[[int], tuple[np.ndarray, np.ndarray, str]],
    *,
    num_classes: int | None = None,
    channels: int = 3,
    image_range: Sequence[float] | None = None,
    notes: Sequence[str] = (),
) -> Source:
    """Map a function `read(index) -> (image, label, name)` to a `Source` whose every epoch is a true permutation.

    Args:
        name: what to call the split in messages.
        classes: a `Classes`, or a list of class names.
        num_examples: int; `read` gets 0 to `num_examples` - 1, from several threads at once.
        read: returns a uint8 (H, W, channels) array, a uint8 (H, W) array and a string, or raises ValueError.
        num_classes: where `classes` has no names.
        channels: of the images.
        image_range, notes: see `Source`.
    """

    def order(seed, epoch):
        return np.random.default_rng((int(seed) % 2**63, int(epoch))).permutation(num_examples)

    def examples(shuffle_seed, epoch):
        if shuffle_seed is None:
            return tf.data.Dataset.range(num_examples).map(lambda index: (index,))
        indices = tf.numpy_function(order, [np.int64(shuffle_seed), tf.cast(epoch, tf.int64)], tf.int64)
        return tf.data.Dataset.from_tensor_slices((tf.ensure_shape(indices, [num_examples]),))

    return Source(
        name,
        classes,
        num_examples,
        examples,
        lambda index: read(int(index)),
        num_classes=num_classes,
        channels=channels,
        image_range=image_range,
        notes=notes,
    )


def listing(problems: Sequence[Any]) -> str:
    """The first ten of a list of strings, one a line, and how many more there are."""
    lines = [f"  {problem}" for problem in problems[:_LISTED]]
    if len(problems) > _LISTED:
        lines.append(f"  ... and {len(problems) - _LISTED} more")
    return "\n".join(lines)


@contextlib.contextmanager
def readable_errors() -> Iterator[None]:
    """A context in which a reader's error inside tf.data arrives as the ValueError it was, naming the file.

    tf.data turns what a reader raises into an `InvalidArgumentError` (or `UnknownError`) whose message buries the
    reader's own between graph nodes and a traceback.
    """
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.UnknownError) as error:
        found = re.search(
            r"(ValueError|FileNotFoundError|ImportError|OSError): (.*?)\n+Traceback \(most recent call last\)",
            str(error),
            re.DOTALL,
        )
        if not found:
            raise
        kind = {"FileNotFoundError": FileNotFoundError, "ImportError": ImportError}.get(found[1], ValueError)
        raise kind(found[2]) from None
