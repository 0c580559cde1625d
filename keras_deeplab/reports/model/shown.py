"""The images that the page about a model shows in full: its best, its worst, and those between."""

from collections.abc import Sequence

import numpy as np

from keras_deeplab.reports.model import pictures, sections
from keras_deeplab.reports.model.measuring import Measured
from keras_deeplab.reports.page import Markup, Page, beside, figure

_SIDE = 250  # of a picture
_WORST, _OTHERS = 6, 3  # images of a kind
STYLE = """
.four, .three { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); }
.four img, .three img { width: 100%; }
.three { grid-template-columns: repeat(3, minmax(0, 1fr)); }
@media (max-width: 600px) { .four { grid-template-columns: repeat(2, minmax(0, 1fr)); } .three { gap: 6px; } }
"""


class Shown:
    """The images that are shown in full: photograph, truth, and the prediction and errors of each model.

    Attributes:
        places: of these images.
    """

    def __init__(self, models: Sequence[Measured]) -> None:
        self.models = models
        scores = models[0].images.mean_iou
        order = [place for place in np.argsort(scores, kind="stable").tolist() if not np.isnan(scores[place])]
        middle = max(0, len(order) // 2 - _OTHERS // 2)
        groups = {
            "Worst": order[:_WORST],
            "Median": order[middle : middle + _OTHERS],
            "Best": order[::-1][:_OTHERS],
        }
        self.groups = {"ranked": _once(groups), "differ": {}}
        if len(models) > 1:
            gains = scores - models[1].images.mean_iou
            order = [place for place in np.argsort(gains, kind="stable").tolist() if not np.isnan(gains[place])]
            lower = [place for place in order[:_OTHERS] if gains[place] < 0]
            higher = [place for place in order[::-1][:_OTHERS] if gains[place] > 0]
            self.groups["differ"] = {"Images where A is better": higher, "Images where B is better": lower}
        self.places = {place for parts in self.groups.values() for part in parts.values() for place in part}
        self._drawn: dict[int, tuple[Markup, Markup]] = {}

    def draw(self, index: int, image: np.ndarray, truth: np.ndarray) -> None:
        """Makes the pictures of an image, uint8 (H, W, 3), with its scored labels (H, W)."""
        first = self.models[0]
        palette, name = first.palette, first.names[index]
        scored = truth != first.matrix.ignore_label
        pairs = [
            figure(image, "image", _SIDE, alt=f"{name}: the image"),
            figure(palette[truth], "labels", _SIDE, True, f"{name}: its labels"),
        ]
        rows: list[list[Markup]] = []
        present = set(np.unique(truth[scored]).tolist())
        for model in self.models:
            labels = model.predictions[index]
            of = f" of {model.title}" if len(self.models) > 1 else ""
            told = f"prediction{of}: mean IoU {model.images.mean_iou[index]:.3f}"
            rows.append([figure(palette[labels], told, _SIDE, True, f"{name}: {told}")])
            told = f"errors{of}: {np.mean(labels[scored] != truth[scored]):.1%} of the pixels"
            wrong = pictures.errors(image, truth, labels, first.matrix.ignore_label)
            rows[-1].append(figure(wrong, told, _SIDE, alt=f"{name}: {told}, in red"))
            present |= set(np.unique(labels).tolist())
        # Of one model all in a row; of two, a row of each.
        parts = [*pairs, *rows[0]] if len(rows) == 1 else [pairs[0], *rows[0], pairs[1], *rows[1]]
        kind = "four" if len(rows) == 1 else "three"
        self._drawn[index] = (sections.legend(sorted(present), first.classes, palette), beside(parts, kind))

    def put(self, page: Page, kind: str) -> None:
        """Its images of a kind, `"ranked"` or `"differ"`, into a page."""
        for title, places in self.groups[kind].items():
            if not places:
                continue
            page.heading(title, 3)
            for place in places:
                legend, row = self._drawn[place]
                page.text(f"{self.models[0].names[place]}, {self._score(place)}")
                page.put(row)
                page.put(legend)
        if kind == "ranked":
            page.text(
                "By mean IoU of the image. Errors are red on the pale image; what is not scored is dark.", "muted"
            )

    def _score(self, place: int) -> str:
        scores = [f"{model.images.mean_iou[place]:.3f}" for model in self.models]
        return f"mean IoU {' and '.join(scores)}"


def _once(groups: dict[str, list[int]]) -> dict[str, list[int]]:
    """The same with each place in the first group alone that has it: of few images."""
    seen: set[int] = set()
    found = {}
    for title, places in groups.items():
        found[title] = [place for place in places if place not in seen]
        seen.update(places)
    return found
