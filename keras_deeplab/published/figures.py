"""What sources report of their networks: accuracies, and numbers of parameters and multiply-adds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Score:
    """An accuracy: mean IoU in percent, on which data, under which conditions beyond the row's (`""` for none)."""

    data: str
    mean_iou: str
    conditions: str = ""

    def __str__(self):
        conditions = f" ({self.conditions})" if self.conditions else ""
        return f"{self.mean_iou} {self.data}{conditions}"


@dataclass(frozen=True)
class Count:
    """A published number of parameters or multiply-adds, and the conditions that it belongs to.

    `quantity` is `"parameters"` or `"multiply-adds"`; `published` the figure as it is written, such as `"54.17B"`.
    `overrides` are arguments of the builder that it belongs to rather than the row's; `scales` the image scales that
    a multi-scale evaluation adds up, which `flip` doubles; `space_to_batch` as `keras_deeplab.multiply_adds` takes
    it; `remark` says why the figure differs from what the code counts, where it does.
    """

    quantity: str
    published: str
    source: str
    overrides: Mapping = field(default_factory=dict)
    input_size: tuple[int, int] = (513, 513)
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    space_to_batch: bool = False
    remark: str = ""

    @property
    def value(self) -> int:
        """The figure as a number.

        >>> Count("multiply-adds", "54.17B", "model_zoo.md").value
        54170000000
        """
        return round(float(self.published[:-1]) * {"M": 1e6, "B": 1e9, "G": 1e9}[self.published[-1]])

    def sizes(self) -> list[tuple[int, int]]:
        """The size of every image that is evaluated; a side of k + 1 pixels has scale * k + 1 of them.

        >>> Count("multiply-adds", "2.75B", "model_zoo.md", scales=(0.5, 1.0)).sizes()
        [(257, 257), (513, 513)]
        """
        height, width = self.input_size
        sizes = [
            (round((height - height % 2) * scale) + height % 2, round((width - width % 2) * scale) + width % 2)
            for scale in self.scales
        ]
        return sizes * (2 if self.flip else 1)

    def conditions(self) -> str:
        """What the figure belongs to, in words.

        >>> Count("multiply-adds", "177B", "", {"output_stride": 8}).conditions()
        '513x513, output stride 8'
        """
        words = [] if self.quantity == "parameters" else ["x".join(map(str, self.input_size))]
        words += [f"{key.replace('_', ' ')} {value}" for key, value in self.overrides.items()]
        if self.scales != (1.0,):
            words.append(f"scales {self.scales[0]:g} to {self.scales[-1]:g}")
        return ", ".join(words + ["flip"] * self.flip)


VOC, TEST, CITYSCAPES, ADE20K = "VOC 2012 val", "VOC 2012 test", "Cityscapes val", "ADE20K val"
MULTI_SCALE = "output stride 8, multi-scale, flip"
# Arguments of `Count` for an evaluation at several scales, mirrored too, and for one at output stride 8.
OS8 = {"overrides": MappingProxyType({"output_stride": 8})}
MS8 = {"scales": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75), "flip": True, **OS8}
CITYSCAPES_MS8 = {"scales": (0.75, 1.0, 1.25), "flip": True, "input_size": (1025, 2049), **OS8}


def parameter_count(figure: str, source: str, **conditions: Any) -> Count:
    return Count("parameters", figure, source, **conditions)


def multiply_add_count(figure: str, source: str, **conditions: Any) -> Count:
    return Count("multiply-adds", figure, source, **conditions)


def tf1_count(figure: str, source: str, **conditions: Any) -> Count:
    return Count("multiply-adds", figure, source, space_to_batch=True, **conditions)
