"""This package's own recipes, which adapt to the number of images, their size and classes, and to the device.

Each is a function from `Facts` to options of `TrainSettings`. What they share:

* *Crops* are as large as the images, up to a limit of the form 16 * k + 1, at which the strides of features nest.
  Context is what DeepLab lives on: v3 has 67.22 with crops of 321 and 77.21 with 513 on VOC (arXiv 1706.05587). The
  very size of the images, because a map of another size is stretched otherwise when it is enlarged: nine pictures of
  96x64 led to 0.96 mIoU on three others with crops of 64x96, and to 0.88 with 65x97.
* *The batch* is the largest power of two whose activations fit most of a GPU's memory or half of the machine's, up to
  16 as in the papers, and less on a CPU, which takes as long for each image however many there are.
* *Steps* are passes over the data, more of them for the larger networks and for more than 50 classes; never so few that
  the head, which starts from random values, isn't learnt, nor more than a limit, which is lower on a CPU. The fewest
  are more by the root of how much smaller the batch is than its limit, as steps are then smaller by that root.
* *The learning rate* rises in a short warm-up, and grows with the batch; accumulated gradients count as one batch.
* `mobile` is for short runs, on a CPU too: AdamW, cross-entropy and the Jaccard loss together, which brings classes of
  few pixels forward, and the mean of the weights over the last steps. On IDD-lite it has 0.598 mean IoU after 540 steps
  of 8 crops (benchmarks/idd_lite, docs/recipes.md). The rate is the one of that run, by the root of the batch.
* The two others take steps by SGD at v3's rate, 0.007 for 16 crops, in proportion to the batch. *Their head*, which
  starts from random values, learns ten times as fast as the backbone, as in VainF's and jfzhang95's recipes.
* *Augmentation* is stronger the fewer images there are: colours vary by up to 0.3 below 200 of them, and not from
  10,000 on, where the papers vary none. Other channels than red, green and blue are left alone.
* What is left to the settings' own defaults: how batch normalisation is treated at small batches, the loss, the decay.
"""

from dataclasses import dataclass
from typing import Any

from keras_deeplab.training.recipes.facts import Facts
from keras_deeplab.training.recipes.row import Recipe


@dataclass(frozen=True)
class _Scale:
    """How much a recipe takes; pairs are for a CPU and a GPU.

    Attributes:
        bytes_per_pixel: of activations and gradients in training, float32; about what was measured here for
            MobileNetV2 and ResNet-50 at output stride 16, without the logits.
        side: limit of a crop's sides.
        batch_size: limit.
        epochs, min_steps: passes over the data, and the fewest changes of the weights by batches of that limit.
        max_steps: limit.
    """

    bytes_per_pixel: int
    side: tuple[int, int]
    batch_size: tuple[int, int]
    epochs: float
    min_steps: int
    max_steps: tuple[int, int]


_MOBILE = _Scale(4000, (321, 513), (8, 16), 40.0, 400, (4000, 20000))
_BALANCED = _Scale(8000, (321, 513), (4, 16), 60.0, 500, (5000, 30000))
_ACCURATE = _Scale(14000, (385, 769), (4, 16), 90.0, 800, (10000, 60000))
_LOGITS = 16  # bytes a pixel and class: logits at full size, their softmax, gradient and a copy, float32
_SHARE = (0.5, 0.8)  # of the memory, of a CPU and a GPU: main memory is others' too
_UNKNOWN_MEMORY = 16 << 30  # of a device whose memory nothing tells


def mobile(facts: Facts) -> dict[str, Any]:
    """MobileNetV2 with v3+'s decoder: for phones and browsers, and for training without a graphics card.

    Small crops (up to 321 on a CPU, 513 on a GPU) and 40 passes, at least 400 steps.
    """
    options = _adapted(facts, _MOBILE)
    return options | {
        "optimizer": "adamw",
        "learning_rate": round(0.0008 * (_together(facts, options["batch_size"]) / 8) ** 0.5, 6),
        "loss": "cross_entropy+jaccard",
        "ema_momentum": max(0.9, round(1 - 10 / options["steps"], 6)),
    }


def balanced(facts: Facts) -> dict[str, Any]:
    """ResNet-50 with v3+'s decoder at output stride 16: between the two in accuracy, time and memory.

    Crops as of `mobile`; twice the activations, so half the batch on a CPU; 60 passes, at least 500 steps.
    """
    return _by_sgd(facts, _BALANCED)


def accurate(facts: Facts) -> dict[str, Any]:
    """Xception-65 with v3+'s decoder at output stride 16, the papers' best network: where time and memory allow.

    It trains at output stride 16, as the papers do: on VOC v3 has 78.51 when it is trained at 16 and scored at 8, 75.62
    when it is trained at 8 too (arXiv 1706.05587). Crops up to 385 on a CPU and 769 on a GPU; 90 passes, at least 800
    steps.
    """
    return _by_sgd(facts, _ACCURATE)


def _by_sgd(facts: Facts, scale: _Scale) -> dict[str, Any]:
    options = _adapted(facts, scale)
    return options | {
        "learning_rate": round(0.007 * _together(facts, options["batch_size"]) / 16, 6),
        "head_multiplier": 10.0,
    }


def _adapted(facts: Facts, scale: _Scale) -> dict[str, Any]:
    gpu = facts.device == "gpu"
    crop = facts.crop_size or tuple(_side(side, scale.side[gpu]) for side in facts.image_size)
    batch = facts.batch_size or _batch(facts, crop, scale)
    steps = facts.steps or _steps(facts, batch, scale)
    options = {
        "crop_size": crop,
        "batch_size": batch,
        "steps": steps,
        "warmup_steps": min(500, steps // 20),
    }
    if facts.channels == 3:
        options |= dict.fromkeys(("brightness", "contrast", "saturation"), _colours(facts.num_examples))
    return options


def _together(facts: Facts, batch: int) -> int:
    """Crops in one change of the weights."""
    return batch * facts.gradient_accumulation_steps


def _side(side: int, limit: int) -> int:
    """A side of the images, between 33 and the limit.

    >>> [_side(side, 321) for side in (10, 64, 227, 1024)]
    [33, 64, 227, 321]
    """
    return min(max(side, 33), limit)


def _batch(facts: Facts, crop: tuple[int, ...], scale: _Scale) -> int:
    """The largest power of two within the limits whose activations the memory holds."""
    gpu = facts.device == "gpu"
    memory = (facts.memory or _UNKNOWN_MEMORY) * _SHARE[gpu]
    image = crop[0] * crop[1] * (scale.bytes_per_pixel + _LOGITS * facts.num_classes)
    most = min(int(memory / image), scale.batch_size[gpu], facts.num_examples)
    return 1 << (max(1, most).bit_length() - 1)


def _steps(facts: Facts, batch: int, scale: _Scale) -> int:
    """The passes that are asked for, or the recipe's within its limits, in whole changes of the weights."""
    passes = facts.epochs or scale.epochs * (1.5 if facts.num_classes > 50 else 1.0)
    steps, accumulated = round(passes * facts.num_examples / batch), facts.gradient_accumulation_steps
    if not facts.epochs:
        gpu = facts.device == "gpu"
        smaller = max(1.0, scale.batch_size[gpu] / _together(facts, batch))
        least = round(scale.min_steps * accumulated * smaller**0.5)
        steps = min(max(steps, least), scale.max_steps[gpu])
    return max(1, round(steps / accumulated)) * accumulated


def _colours(num_examples: int) -> float:
    return next((share for limit, share in ((200, 0.3), (2000, 0.2), (10000, 0.1)) if num_examples < limit), 0.0)


_ROWS = [
    # function, backbone, what it takes
    (mobile, "mobilenet_v2", _MOBILE),
    (balanced, "resnet50", _BALANCED),
    (accurate, "xception_65", _ACCURATE),
]
ROWS = [
    Recipe(
        function.__name__,
        {"model": "deeplabv3plus", "backbone": backbone},
        # Until the data is known.
        {"epochs": scale.epochs},
        None,
        "",
        "",
        "this package, training/recipes/own.py",
        adapt=function,
    )
    for function, backbone, scale in _ROWS
]
