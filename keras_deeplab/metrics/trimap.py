"""Intersection over union close to the borders of things, by how close: the trimap curve of DeepLab v1 to v3+."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_deeplab.metrics.confusion import ConfusionMatrix
from keras_deeplab.metrics.label_maps import check_like, maps, mean, plain, ratio

WIDTHS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40)
AROUND = ("labels", "ignored")


class TrimapCurve:
    """Counts of pixels by (label, prediction) within each of several bands around the borders of the labels.

    A scored pixel is in the band of width n where the nearest pixel that it is told apart from lies at most n pixels
    away, from middle to middle in a straight line. Ignored pixels are not scored. What it is told apart from:

    * `around="labels"`: pixels of any other label, the ignored one among them. A neighbour of another class is at 1.
    * `around="ignored"`: ignored pixels alone. That is the papers' band, for PASCAL VOC, where a rim of ignored pixels
      lies around every object: "mean IOU for those pixels that are within the dilated band of 'void' labels" (v3+,
      section 4.3; v2, section 4.1.4). They don't tell the shape that they dilate with; a disc is taken here.

    The end of the image is no border. Parts of a data set add up with `+`.

    Args:
        num_classes: number of classes; predictions must lie in 0..num_classes-1.
        widths: of the bands, whole numbers of pixels that grow.
        around: one of `AROUND`.
        ignore_label: the label that is not scored.

    Attributes:
        matrices: int64 (widths, num_classes, num_classes), the pixels of each band by label and prediction; a band
            holds the narrower ones.

    >>> curve = TrimapCurve(2, widths=(1, 2))
    >>> curve.update([[0, 0, 0, 1, 1]], [[1, 1, 0, 1, 1]])
    >>> curve.iou.round(3).tolist(), curve.num_pixels.tolist()
    ([[1.0, 1.0], [0.5, 0.667]], [2, 4])
    """

    def __init__(
        self, num_classes: int, widths: Sequence[int] = WIDTHS, around: str = "labels", ignore_label: int = 255
    ) -> None:
        whole = all(isinstance(width, (int, np.integer)) and width >= 1 for width in widths)
        if not widths or not whole or any(b <= a for a, b in itertools.pairwise(widths)):
            raise ValueError(f"widths must be whole numbers of pixels from 1 on that grow; received {tuple(widths)}")
        if around not in AROUND:
            raise ValueError(f"around must be one of {', '.join(AROUND)}; received {around!r}")
        self.num_classes = int(num_classes)
        self.widths = tuple(int(width) for width in widths)
        self.around = around
        self.ignore_label = int(ignore_label)
        self.matrices = np.zeros((len(self.widths), self.num_classes, self.num_classes), np.int64)

    def update(self, labels: Any, predictions: Any) -> None:
        """Counts integer labels and predictions (H, W), or (B, H, W) of several images.

        Raises:
            ValueError: as `ConfusionMatrix.update`, or they are no maps. Nothing is counted then.
        """
        classes, squares = self.num_classes, np.square(self.widths)
        for label, prediction, valid in maps(labels, predictions, classes, self.ignore_label):
            distance = self._distance(label)
            near = valid & (distance < self.widths[-1] + 0.5)
            # Squared distances are whole numbers, which a float32 root doesn't give exactly.
            band = np.searchsorted(squares, np.rint(np.square(distance[near])))
            inside = band < len(squares)
            flat = (band * classes + label[near]) * classes + prediction[near]
            counts = np.bincount(flat[inside], minlength=self.matrices.size).reshape(self.matrices.shape)
            self.matrices += np.cumsum(counts, axis=0)

    def _distance(self, label: np.ndarray) -> np.ndarray:
        """Float32 (H, W): from each pixel to the nearest that it is told apart from, infinite where there is none."""
        if self.around == "ignored":
            return _to_zero(label != self.ignore_label)
        found = np.full(label.shape, np.inf, np.float32)
        codes = np.unique(label)
        for code in codes[codes != self.ignore_label]:
            inside = label == code
            # The nearest other pixel touches the smallest rectangle around the label.
            rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
            part = np.s_[max(0, rows[0] - 1) : rows[-1] + 2, max(0, columns[0] - 1) : columns[-1] + 2]
            found[part][inside[part]] = _to_zero(inside[part])[inside[part]]
        return found

    def __add__(self, other: object) -> "TrimapCurve":
        if not isinstance(other, TrimapCurve):
            return NotImplemented
        check_like(self, other, "num_classes", "widths", "around", "ignore_label")
        total = TrimapCurve(self.num_classes, self.widths, self.around, self.ignore_label)
        total.matrices = self.matrices + other.matrices
        return total

    def within(self, width: int) -> ConfusionMatrix:
        """The pixels of one band, of a width in `widths`."""
        if width not in self.widths:
            raise ValueError(f"there is no band of width {width}; the widths are {', '.join(map(str, self.widths))}")
        found = ConfusionMatrix(self.num_classes, self.ignore_label)
        found.matrix = self.matrices[self.widths.index(width)].copy()
        return found

    @property
    def num_pixels(self) -> np.ndarray:
        """How many pixels each band has, int64 (widths,)."""
        return self.matrices.sum((1, 2))

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union in each band of each class, float64 (widths, num_classes); NaN where it has none."""
        intersection = np.diagonal(self.matrices, axis1=1, axis2=2)
        return ratio(intersection, self.matrices.sum(1) + self.matrices.sum(2) - intersection)

    @property
    def mean_iou(self) -> np.ndarray:
        """Mean of `iou` over the classes that occur in a band, float64 (widths,); NaN for a band without pixels."""
        return np.array([mean(iou) for iou in self.iou])

    def to_dict(self) -> dict[str, Any]:
        """Widths, scores and numbers of pixels as plain numbers and lists, for JSON; None stands for NaN."""
        return {
            "around": self.around,
            "widths": list(self.widths),
            "num_pixels": self.num_pixels.tolist(),
            "mean_iou": [plain(value) for value in self.mean_iou],
            "iou": [[plain(value) for value in row] for row in self.iou],
        }


def _to_zero(inside: np.ndarray) -> np.ndarray:
    """Bool (H, W) to the distance of each True to the nearest False, float32; infinite where there is none."""
    from keras_deeplab._helpers.opencv import cv2

    if inside.all():
        return np.full(inside.shape, np.inf, np.float32)
    return cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
