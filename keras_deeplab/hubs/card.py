"""The model card of a preset: README.md with what is known of the model, and where nothing is, that."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keras_deeplab.backbones.preprocessing import told
from keras_deeplab.specs import ModelSpec

UNKNOWN = "not stated"


@dataclass(frozen=True)
class Card:
    """What a record doesn't tell and only the author of a model can.

    Attributes:
        data: what it was trained on, such as `"Cityscapes, train"`.
        evaluated_on: what the metrics were measured on, such as `"Cityscapes, val"`.
        metrics: numbers by name, such as `{"mean_iou": 0.713}`.
        protocol: how they were measured: scales, flips, windows, sizes. It goes with metrics.
        license: of the weights, as the hub names it, such as `"apache-2.0"`.
        description: a sentence or two on what it is for.
        limits: what it must not be used for, what it is known to do badly.

    Raises:
        ValueError: metrics without the data and the protocol that they were measured by, or that aren't finite numbers.
    """

    data: str | None = None
    evaluated_on: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    protocol: str | None = None
    license: str | None = None
    description: str | None = None
    limits: str | None = None

    def __post_init__(self) -> None:
        for name, value in self.metrics.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
                raise ValueError(f"metrics must be finite numbers by name; received {name}={value!r}")
        if self.metrics and not (self.evaluated_on and self.protocol):
            raise ValueError(
                f"metrics ({', '.join(self.metrics)}) mean nothing without evaluated_on= (which data) and protocol= "
                "(scales, flips, windows, image size): give both"
            )


def text(spec: ModelSpec, card: Card, name: str, parameters: int, handle: str | None = None) -> str:
    """The README.md of a model: metadata in front, as YAML, then what it is, for readers.

    Args:
        spec: the model's record.
        card: what its author tells.
        name: of the model.
        parameters: how many it has.
        handle: where it goes, for the example; None for a folder.
    """
    return f"---\n{_front(spec, card, name)}---\n\n{_body(spec, card, name, parameters, handle)}"


def _front(spec, card, name):
    """YAML of the subset that JSON shares, a line a key."""
    lines: dict[str, Any] = {
        "library_name": "keras",
        "pipeline_tag": "image-segmentation",
        "tags": ["keras_deeplab", "semantic-segmentation", "deeplab"],
    }
    if card.license:
        lines["license"] = card.license
    if card.metrics:
        kind = re.sub(r"[^a-z0-9]+", "-", card.evaluated_on.lower()).strip("-")
        measured = [{"type": key, "name": key, "value": value} for key, value in card.metrics.items()]
        result = {
            "task": {"type": "image-segmentation", "name": "Semantic segmentation"},
            "dataset": {"type": kind or "data", "name": card.evaluated_on},
            "metrics": measured,
        }
        lines["model-index"] = [{"name": name, "results": [result]}]
    return "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in lines.items())


def _body(spec, card, name, parameters, handle):
    names = spec.classes.names
    facts = [
        ("architecture", " on ".join(filter(None, (spec.builder, spec.backbone))) or UNKNOWN),
        ("flavour", spec.flavour or UNKNOWN),
        ("output stride", spec.output_stride or UNKNOWN),
        ("parameters", f"{parameters:,}"),
        (
            "input",
            f"(B, H, W, {spec.channels}), pixels in 0..255 where it normalises them, of any size it was built for",
        ),
        ("normalisation inside", told(spec.preprocessing)),
        ("output", f"(B, H, W, {spec.num_classes}), {spec.activation or 'logits'}"),
        ("resize convention", spec.resize),
        ("ignored label", spec.classes.ignore_label),
    ]
    table = "\n".join(f"| {title} | {value} |" for title, value in facts)
    if names is None:
        classes = f"{spec.num_classes}, whose names are {UNKNOWN}."
    else:
        classes = "\n".join(f"{label}. {each}" for label, each in enumerate(names))
    measured = f"Metrics are {UNKNOWN}."
    if card.metrics:
        rows = "\n".join(f"| {key} | {value:g} |" for key, value in card.metrics.items())
        measured = f"On {card.evaluated_on}, by this protocol: {card.protocol}\n\n| metric | value |\n|---|---|\n{rows}"
    sections = [
        f"# {name}",
        card.description or f"A semantic segmentation model. Its purpose is {UNKNOWN}.",
        f"| | |\n|---|---|\n{table}",
        f"## Classes\n\n{classes}",
        f"## Training data\n\n{_stated(card.data)}",
        f"## Evaluation\n\n{measured}",
        f"## Limits\n\n{_stated(card.limits)}",
        f"## License\n\n{_stated(card.license)}",
        f"## Use\n\n{_example(spec, handle)}",
    ]
    return "\n\n".join(sections) + "\n"


def _stated(value):
    return value or f"{UNKNOWN[0].upper()}{UNKNOWN[1:]}."


def _example(spec, handle):
    place = handle or "path/of/this/folder"
    answer = "model.predict(images).argmax(-1)"
    if spec.num_classes == 1:
        answer = f"model.predict(images)[..., 0] > {0.5 if spec.activation else 0}"
    return (
        "```python\n"
        "import numpy as np\n"
        f"import keras_deeplab{'  # with the extra hub' if handle else ''}\n\n"
        f"model = keras_deeplab.from_preset({place!r})\n"
        f"images = np.zeros((1, 513, 513, {spec.channels}), 'uint8')  # yours, (B, H, W, channels)\n"
        f"labels = {answer}\n"
        "```"
    )
