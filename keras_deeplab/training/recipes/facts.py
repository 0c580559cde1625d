"""What recipes that adapt look at: how many images there are and how large, and what computes."""

import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

_SAMPLES = 16  # images whose sizes are looked at


@dataclass(frozen=True)
class Facts:
    """A data set and the device, as far as recipes adapt to them.

    Attributes:
        num_examples: images to train on.
        image_size: (height, width), the middle of their sizes.
        num_classes: of the data.
        channels: of the images.
        device: `"cpu"` or `"gpu"`.
        memory: bytes that it has; None where nothing tells.
        batch_size, crop_size, steps, epochs: what is asked for; None leaves it to the recipe.
        gradient_accumulation_steps: batches whose gradients make one change of the weights.
    """

    num_examples: int
    image_size: tuple[int, int]
    num_classes: int
    channels: int = 3
    device: str = "cpu"
    memory: int | None = None
    batch_size: int | None = None
    crop_size: tuple[int, int] | None = None
    steps: int | None = None
    epochs: float | None = None
    gradient_accumulation_steps: int = 1


def facts_of(source: Any, **asked: Any) -> Facts:
    """A data set and the device that the backend computes on; `Facts` are left as they are, except for `asked`."""
    if isinstance(source, Facts):
        return replace(source, **asked)
    kind, memory = device()
    size = image_size(source)
    return Facts(source.num_examples, size, source.num_classes, source.channels, kind, memory, **asked)


def image_size(source: Any) -> tuple[int, int]:
    """A data set to the middle height and the middle width of its first images; the same on every call."""
    sizes = [sample["image"].shape[:2] for sample in source.dataset().take(_SAMPLES).as_numpy_iterator()]
    height, width = (sorted(sides)[len(sizes) // 2] for sides in zip(*sizes, strict=True))
    return int(height), int(width)


def device() -> tuple[str, int | None]:
    """`"gpu"` or `"cpu"`, whatever the backend computes on, and its memory in bytes, None where nothing tells.

    All that it has, not what is free just now: a run that goes on has to find the same.
    """
    import keras

    if keras.backend.backend() == "jax":
        import jax

        first = jax.devices()[0]
        if first.platform != "cpu":
            return "gpu", (first.memory_stats() or {}).get("bytes_limit")
    else:
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            return "gpu", None
    return "cpu", _main_memory()


def _main_memory() -> int | None:
    """The machine's, or the container's where that is less."""
    found = []
    with contextlib.suppress(AttributeError, OSError, ValueError):  # Windows
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" for none
            found.append(int(Path(limit).read_text("ascii")))
    return min(found, default=None)
