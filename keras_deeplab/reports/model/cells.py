"""Which images are behind each cell of a confusion matrix, and the matrix as HTML whose cells open them.

No script: a cell is a link to a part of the page that is hidden until it is the one linked to. A photograph stands in
the page once, however many cells show it; what is marked in it lies over it as a picture of two colours.
"""

import html
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_deeplab._helpers.text import percent
from keras_deeplab.reports.model import pictures
from keras_deeplab.reports.page import Markup, Page, beside, held, wide

SIDE = 220  # of a photograph, in pixels
_OF_EACH = 3  # images behind a cell
_CLASSES = 32  # that a matrix is shown of
_MISTAKES = 8  # that are listed
STYLE = """
.matrix table { font-size: 0.75rem; } .matrix td { padding: 0; text-align: center; min-width: 2.4em; }
.matrix td.right { background: rgb(0 140 70 / calc(0.45 * var(--s))); }
.matrix td.wrong { background: rgb(224 40 60 / calc(0.55 * var(--s))); }
.matrix td a { display: block; padding: 4px 2px; color: var(--ink); text-decoration: none; }
.matrix td a:hover { text-decoration: underline; }
.matrix thead th { vertical-align: bottom; padding: 6px 2px; font-weight: 500; }
.matrix thead span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 9em; overflow-wrap: anywhere; }
.matrix tbody th { position: sticky; left: 0; background: var(--card); padding: 2px 8px; white-space: nowrap; }
@media (max-width: 600px) { .matrix tbody th { white-space: normal; padding: 2px 4px; } }
.cell { display: none; background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 0 12px 8px;
  margin: 0.5em 0; } .cell:target { display: block; } .cell svg { margin: 0; }
"""


class TopImages:
    """The images that have the most pixels of each cell of a confusion matrix.

    Attributes:
        counts: int64 (cells, 3), the most pixels of any image, the next, the third; 0 where there is none.
        images: int64 (cells, 3), the places of these images, the earlier first where they have as many; -1 for none.
        occurs: int64 (cells,), how many images have such pixels.
    """

    def __init__(self, num_classes: int, keep: int = _OF_EACH) -> None:
        self.counts = np.zeros((num_classes**2, keep), np.int64)
        self.images = np.full((num_classes**2, keep), -1, np.int64)
        self.occurs = np.zeros(num_classes**2, np.int64)

    def update(self, index: int, matrix: np.ndarray) -> None:
        """Looks at an image's own matrix, int64 (num_classes, num_classes)."""
        flat = matrix.reshape(-1)
        self.occurs += flat > 0
        cells = np.flatnonzero(flat > self.counts[:, -1])
        counts = np.concatenate([self.counts[cells], flat[cells, None]], 1)
        images = np.concatenate([self.images[cells], np.full((len(cells), 1), index)], 1)
        order = np.argsort(-counts, axis=1, kind="stable")[:, :-1]
        self.counts[cells] = np.take_along_axis(counts, order, 1)
        self.images[cells] = np.take_along_axis(images, order, 1)


def shown_classes(matrix: np.ndarray) -> list[int]:
    """The labels that the matrix is shown of: all that occur, or of many those with the most wrong pixels."""
    wrong = matrix.sum(0) + matrix.sum(1) - 2 * np.diagonal(matrix)
    occurs = np.flatnonzero(matrix.sum(0) + matrix.sum(1))
    return sorted(occurs[np.argsort(-wrong[occurs], kind="stable")][:_CLASSES].tolist())


class Cells:
    """The pictures behind the cells of a measured model's matrix.

    Args:
        measured: a `Measured`.

    Attributes:
        wanted: {place of an image: the cells (label, prediction) that it stands behind}.
    """

    def __init__(self, measured: Any) -> None:
        self.measured = measured
        self.labels = shown_classes(measured.matrix.matrix)
        self._classes = measured.matrix.num_classes
        self.wanted: dict[int, list[tuple[int, int]]] = {}
        self._photographs: dict[int, tuple[bytes, tuple[int, int]]] = {}
        self._marks: dict[tuple[int, int, int], bytes] = {}
        for cell in self._cells():
            for index in self._images(cell):
                self.wanted.setdefault(index, []).append(cell)

    def _cells(self) -> list[tuple[int, int]]:
        """All that have pixels, those with the most first."""
        matrix = self.measured.matrix.matrix
        found = [(label, other) for label in self.labels for other in self.labels if matrix[label, other]]
        return sorted(found, key=lambda cell: -matrix[cell])

    def _images(self, cell: tuple[int, int]) -> list[int]:
        return [index for index in self.measured.cells.images[cell[0] * self._classes + cell[1]].tolist() if index >= 0]

    def draw(self, index: int, image: np.ndarray, truth: np.ndarray) -> None:
        """Makes the pictures of an image, uint8 (H, W, 3), with its scored labels (H, W)."""
        prediction = self.measured.predictions[index]
        self._photographs[index] = pictures.thumbnail(image, SIDE)
        for label, other in self.wanted[index]:
            mask = (truth == label) & (prediction == other)
            self._marks[label, other, index] = pictures.marks(mask, SIDE)

    def put(self, page: Page, budget: int) -> None:
        """The matrix, what it opens, and the photographs, of at most `budget` bytes, into a page."""
        kept = self._within(budget)
        page.put(Markup(f'<div class="matrix" id="matrix">{wide(self._rows(), self._caption())}</div>'))
        for cell in self._cells():
            page.put(self._section(cell, kept))
        page.put(self._store({index for _, index in kept}))

    def put_mistakes(self, page: Page) -> None:
        """The most frequent mistakes, as links to the images behind them, into a page."""
        names, matrix = self.measured.classes, self.measured.matrix.matrix
        wrong = [cell for cell in self._cells() if cell[0] != cell[1]][:_MISTAKES]
        total = max(1, int(matrix.sum() - np.trace(matrix)))
        items = "".join(
            f'<li><a href="#c{label}-{other}">{html.escape(names[label])} taken for {html.escape(names[other])}</a>, '
            f"{percent(matrix[label, other] / total)} of the wrong pixels</li>"
            for label, other in wrong
        )
        if items:
            page.heading("The most frequent mistakes", 3)
            page.put(Markup(f"<ol>{items}</ol>"))

    def _within(self, budget: int) -> set[tuple[tuple[int, int], int]]:
        """Which pictures are shown: first one of every cell, then a second, as long as they fit."""
        kept, photographs, used = set(), set(), 0
        for place in range(_OF_EACH):
            for cell in self._cells():
                for index in self._images(cell)[place : place + 1]:
                    cost = 4 * len(self._marks[(*cell, index)]) // 3 + 700
                    if index not in photographs:
                        cost += 4 * len(self._photographs[index][0]) // 3 + 200
                    if used + cost <= budget:
                        used += cost
                        kept.add((cell, index))
                        photographs.add(index)
        return kept

    def _caption(self) -> str:
        told = (
            "Of the pixels of a class (a row), the % that are predicted to be of another (a column). "
            "A cell opens the images with the most such pixels, below the matrix."
        )
        occurs = np.count_nonzero(self.measured.matrix.matrix.sum(0) + self.measured.matrix.matrix.sum(1))
        if len(self.labels) < occurs:
            told += f" Shown are the {len(self.labels)} of {occurs} classes with the most wrong pixels."
        return told

    def _rows(self) -> str:
        names, matrix = self.measured.classes, self.measured.matrix.matrix
        head = "".join(f'<th scope="col"><span>{html.escape(names[other])}</span></th>' for other in self.labels)
        lines = [f'<thead><tr><th scope="col">class</th>{head}</tr></thead><tbody>']
        for label in self.labels:
            total = max(1, int(matrix[label].sum()))
            cells = "".join(self._cell(label, other, matrix[label, other] / total) for other in self.labels)
            lines.append(f'<tr><th scope="row">{html.escape(names[label])}</th>{cells}</tr>')
        return "\n".join([*lines, "</tbody>"])

    def _cell(self, label: int, other: int, share: float) -> str:
        if not self.measured.matrix.matrix[label, other]:
            return "<td></td>"
        kind = "right" if label == other else "wrong"
        # Square root: what is rare is what one looks for.
        return (
            f'<td class="{kind}" style="--s:{np.sqrt(share):.2f}"><a id="m{label}-{other}" href="#c{label}-{other}" '
            f'title="{html.escape(self._told(label, other))}" '
            f'aria-label="{html.escape(self._told(label, other))}: show images">{_short(share)}</a></td>'
        )

    def _told(self, label: int, other: int) -> str:
        names, matrix = self.measured.classes, self.measured.matrix.matrix
        what = f"{names[label]} predicted as {names[other]}" if label != other else f"{names[label]} predicted right"
        return f"{what}, {percent(matrix[label, other] / matrix[label].sum())}"

    def _section(self, cell: tuple[int, int], kept: Iterable[Any]) -> Markup:
        label, other = cell
        place, matrix = label * self._classes + other, self.measured.matrix.matrix
        occurs, shown, unseen = int(self.measured.cells.occurs[place]), [], []
        for index, count in zip(self._images(cell), self.measured.cells.counts[place].tolist(), strict=False):
            told = f"{self.measured.names[index]}: {count:,} pixels"
            if (cell, index) in kept:
                shown.append(self._figure(cell, index, told))
            else:
                unseen.append(told)
        also = f"<p>Without a picture, to keep the page small: {html.escape('; '.join(unseen))}</p>" if unseen else ""
        return Markup(
            f'<section class="cell" id="c{label}-{other}" tabindex="-1" aria-labelledby="h{label}-{other}">'
            f'<h3 id="h{label}-{other}">{html.escape(self._told(label, other))}</h3>'
            f"<p>{matrix[cell]:,} pixels in {occurs:,} image{'s' * (occurs > 1)}; those with the most, marked:</p>"
            f'{beside(shown)}{also}<p><a href="#m{label}-{other}">Back to the matrix</a></p></section>'
        )

    def _figure(self, cell: tuple[int, int], index: int, told: str) -> str:
        height, width = self._photographs[index][1]
        box = f'width="{width}" height="{height}"'
        return (
            f'<figure><svg viewBox="0 0 {width} {height}" {box} role="img" aria-label="{html.escape(told)}, marked">'
            f'<use href="#i{index}" {box}/><image href="{held(self._marks[(*cell, index)], "png")}" {box}/></svg>'
            f"<figcaption>{html.escape(told)}</figcaption></figure>"
        )

    def _store(self, shown: Iterable[int]) -> Markup:
        parts = []
        for index in sorted(shown):
            data, (height, width) = self._photographs[index]
            parts.append(
                f'<symbol id="i{index}" viewBox="0 0 {width} {height}"><image href="{held(data, "jpeg")}" '
                f'width="{width}" height="{height}"/></symbol>'
            )
        # Not display: none, which some browsers take for what refers to it too.
        return Markup(f'<svg width="0" height="0" style="position:absolute" aria-hidden="true">{"".join(parts)}</svg>')


def _short(share: float) -> str:
    """A share in % in at most three letters.

    >>> _short(0.966), _short(0.034), _short(0.0002)
    ('97', '3.4', '<.1')
    """
    value = 100 * share
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.095 else "<.1"
