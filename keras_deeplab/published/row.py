"""A published network, and a table of a source to the rows of it."""

from dataclasses import dataclass, replace
from typing import Any

from keras_deeplab.networks import network
from keras_deeplab.published.classifiers import CLASSIFIERS
from keras_deeplab.published.figures import Count, Score
from keras_deeplab.published.files import IMAGENET, Weights
from keras_deeplab.specs import ModelSpec


@dataclass(frozen=True)
class PublishedModel:
    """A published network: its record, what its source reports, and the weights that it published.

    `source` is the repository or paper. `counts` are published figures to compare with. `weights` are the files that
    have a name here; `keras_deeplab.load` reads those of most sources, wherever they come from.
    `keras_deeplab.build(model.name)` makes it, fresh.
    """

    name: str
    spec: ModelSpec
    scores: tuple[Score, ...]
    counts: tuple[Count, ...]
    source: str
    weights: tuple[Weights, ...] = ()

    @property
    def imagenet(self) -> Weights | None:
        """The ImageNet weights of its backbone, to start training from; None where none are published."""
        return next((row for row in CLASSIFIERS if row.name == IMAGENET and self.spec.backbone in row.backbones), None)


# name, builder, backbone, output stride, settings, scores, counts, and weights where there are any
Row = tuple[Any, ...]


def models(prefix: str, source: str, table: Any, **settings: Any) -> Any:
    """Rows of (name, builder, backbone, output stride, settings, scores, counts, weights or none) of one source."""
    for name, builder, backbone, output_stride, own, scores, counts, *weights in table:
        arguments = {"num_classes": 21, "output_stride": output_stride, **settings, **own}
        yield PublishedModel(
            name=f"{prefix}_{name}",
            spec=network(builder, backbone, **arguments),
            scores=tuple(Score(*score) for score in scores),
            counts=tuple(counts),
            source=source,
            weights=tuple(replace(row, family=builder, backbones=(backbone,)) for row in weights),
        )
