"""Boundary IoU: the intersection over union of the rims of masks (Cheng et al., CVPR 2021)."""

from typing import Any

import numpy as np

from keras_deeplab.metrics.label_maps import check_like, maps, mean, plain, ratio

RATIO = 0.02  # of the diagonal, the authors' choice for COCO and LVIS


class BoundaryIoU:
    """Pixels that lie near the outline of a class, in labels and in predictions: how many both have, and either.

    Of the mask of a class, its rim are the pixels at most d steps from one outside, a step being to any of the eight
    neighbours, and outside being whatever lies beyond the image too; d is `ratio` times the image's diagonal, rounded,
    and at least 1. Boundary IoU is the intersection of the label's rim and the prediction's over their union. This is
    the authors' definition and their code's (erosion by a 3x3 square d times). They have single masks; here the counts
    of all images add up for each class, as for `ConfusionMatrix`, and parts of a data set with `+`.

    Ignored pixels belong to no mask, neither of the labels nor of the predictions: labels that are predicted as they
    are score 1.

    Args:
        num_classes: number of classes; predictions must lie in 0..num_classes-1.
        ratio: width of the rim as a share of the image's diagonal.
        ignore_label: the label that is not scored.

    Attributes:
        intersections, unions: int64 (num_classes,), numbers of pixels.

    >>> score = BoundaryIoU(2)
    >>> score.update(np.eye(3, dtype=int), np.zeros((3, 3), int))
    >>> score.iou.round(3).tolist(), score.mean_iou
    ([0.75, 0.0], 0.375)
    """

    def __init__(self, num_classes: int, ratio: float = RATIO, ignore_label: int = 255) -> None:
        if not 0.0 < ratio < 1.0:
            raise ValueError(f"ratio must be a share of the diagonal between 0 and 1; received {ratio}")
        self.num_classes = int(num_classes)
        self.ratio = float(ratio)
        self.ignore_label = int(ignore_label)
        self.intersections = np.zeros(self.num_classes, np.int64)
        self.unions = np.zeros(self.num_classes, np.int64)

    def update(self, labels: Any, predictions: Any) -> None:
        """Counts integer labels and predictions (H, W), or (B, H, W) of several images.

        Raises:
            ValueError: as `ConfusionMatrix.update`, or they are no maps. Nothing is counted then.
        """
        for label, prediction, valid in maps(labels, predictions, self.num_classes, self.ignore_label):
            steps = max(1, round(self.ratio * float(np.hypot(*label.shape))))
            pairs = label[valid].astype(np.int64), prediction[valid].astype(np.int64)
            occurs = sum(np.bincount(each, minlength=self.num_classes) for each in pairs) > 0
            for index in np.flatnonzero(occurs):
                truth, found = (label == index) & valid, (prediction == index) & valid
                # Beyond the smallest rectangle around both there is nothing but outside.
                rows, columns = (np.flatnonzero((truth | found).any(axis)) for axis in (1, 0))
                part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                truth, found = rim(truth[part], steps), rim(found[part], steps)
                self.intersections[index] += np.count_nonzero(truth & found)
                self.unions[index] += np.count_nonzero(truth | found)

    def __add__(self, other: object) -> "BoundaryIoU":
        if not isinstance(other, BoundaryIoU):
            return NotImplemented
        check_like(self, other, "num_classes", "ratio", "ignore_label")
        total = BoundaryIoU(self.num_classes, self.ratio, self.ignore_label)
        total.intersections = self.intersections + other.intersections
        total.unions = self.unions + other.unions
        return total

    @property
    def iou(self) -> np.ndarray:
        """Boundary IoU of each class, float64 (num_classes,); NaN for a class that never occurs."""
        return ratio(self.intersections, self.unions)

    @property
    def mean_iou(self) -> float:
        """Mean of `iou` over the classes that occur in labels or predictions; NaN when no pixel was scored."""
        return mean(self.iou)

    def to_dict(self) -> dict[str, Any]:
        """The scores as plain numbers and lists, for JSON; None stands for NaN."""
        return {
            "ratio": self.ratio,
            "mean_iou": plain(self.mean_iou),
            "iou": [plain(value) for value in self.iou],
        }


def rim(mask: np.ndarray, steps: int) -> np.ndarray:
    """Bool (H, W) to those of its pixels from which at most `steps` steps lead out of the mask, or of the array."""
    from keras_deeplab._helpers.opencv import cv2

    padded = np.pad(mask.astype(np.uint8), 1)
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=steps)
    return mask & (inner[1:-1, 1:-1] == 0)
