"""Image files of any size to files of labels, by tiles; and tiles' labels beside those of the whole image."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab._helpers.files import in_a_folder
from keras_deeplab._helpers.progress import Progress
from keras_deeplab.data.settings import AS_VIEWED, ImageOptions
from keras_deeplab.inference.rasters.base import Pixels, Raster, Rolling
from keras_deeplab.inference.rasters.reading import open_raster
from keras_deeplab.inference.rasters.writing import WRITERS, write_label_raster
from keras_deeplab.inference.strategies import Resized, Tiles, WholeImage
from keras_deeplab.inference.tiles.journal import Journal, fingerprint
from keras_deeplab.inference.tiles.settings import TileOptions
from keras_deeplab.inference.tiles.sources import source_of
from keras_deeplab.inference.tiles.tiling import Tiling, labels_by
from keras_deeplab.specs import Classes

CROP = 2896  # side of the part of a larger image that is put to the model whole for a comparison: 8 million pixels


@dataclass(frozen=True)
class SegmentedRaster:
    """A file of labels that was written.

    Attributes:
        path: the file.
        size: (height, width) of the image.
        plan: the tiles in words.
        exact: whether labels are those of the whole image, but for the rounding of numbers.
        resumed_rows: how many of its rows an earlier run had left.
    """

    path: Path
    size: tuple[int, int]
    plan: str
    exact: bool
    resumed_rows: int


@dataclass(frozen=True)
class VerifiedTiles:
    """Labels by tiles beside those of the image as a whole.

    Attributes:
        size: (height, width) of what was compared.
        corner: (top, left) of it in the image.
        whole: whether it is the whole image.
        changed: how many pixels have another label.
        plan: the tiles in words.
    """

    size: tuple[int, int]
    corner: tuple[int, int]
    whole: bool
    changed: int
    plan: str

    @property
    def share(self) -> float:
        """Changed pixels of all, in 0..1."""
        return self.changed / (self.size[0] * self.size[1])


def segment_raster(
    predictor: Any,
    path: str | os.PathLike,
    target: str | os.PathLike,
    *,
    tiles: TileOptions | None = None,
    classes: Classes | None = None,
    reading: ImageOptions = AS_VIEWED,
    bands: Sequence[int] | None = None,
    progress: bool = True,
    log: Callable[[str], object] = print,
) -> SegmentedRaster:
    """An image file of any size to a file of its labels, by tiles: memory follows the width and a tile.

    Pixels without data, such as a GeoTIFF's nodata, are shown to the model as its padding, 127.5, and get the ignored
    label. What is done lies beside the target until all of it is: whoever is killed and starts the same again goes on
    there, and the file has the same bytes in the end. It then takes its place in one step.

    Args:
        predictor: what `keras_deeplab.predictor` returns.
        path: TIFF or GeoTIFF (with rasterio in bands, of any size), .npy, PNG, JPEG and the others that
            `rasters.reading.open_raster` knows.
        target: a GeoTIFF (.tif), with the image's georeference where it has one, or a PNG file.
        tiles: how the image is cut; None for the usual way.
        classes: names, colours and ignored label; None for those of the predictor's record.
        reading: how files become pixels; their range is that of the predictor's record where none is given.
        bands: which of a TIFF file's bands are the model's channels, from 1 on; None for all.
        progress: whether to show how far it is.
        log: called with each line of text to print.

    Raises:
        FileNotFoundError: there is no such image, or no folder for the target.
        ValueError: the image can't be read or the target not be written so.
        ImportError: a package that it takes isn't installed.
        OSError: another process is writing the target.
    """
    image, goal = Path(path).expanduser(), in_a_folder(Path(target).expanduser())
    if goal.suffix.lower() not in WRITERS:
        raise ValueError(f"labels are written as {', '.join(WRITERS)}; received {goal}")
    if goal.exists() and image.exists() and goal.samefile(image):
        raise ValueError(f"the labels of {image} would replace it: give another target")
    spec = predictor.spec
    reading = reading.of_model(spec)
    classes = classes or (spec.classes if spec is not None else Classes())
    count = max((spec and spec.num_labels) or 0, len(classes.names or ()))
    dtype = np.uint8 if count <= 256 else np.uint16
    nodata = classes.ignore_label if classes.ignore_label >= count else None
    with open_raster(image, predictor.channels, reading, bands) as raster:
        tiling = tiling_of(predictor, raster.height, raster.width, tiles)
        log(f"{image}: {raster.width}x{raster.height} pixels (width x height), {tiling.described()}")
        facts = {**_facts(predictor, image, reading, bands), "tiles": tiling.described()}
        with Journal(goal, facts, raster.width, dtype) as journal:
            if journal.rows:
                log(f"{image}: going on at row {journal.rows} of {raster.height}, which an earlier run came to")
            _fill(tiling, raster, journal, nodata, image, progress)
            write_label_raster(
                goal,
                journal.labels,
                raster.height,
                raster.width,
                dtype=dtype,
                palette=np.asarray(classes.palette(256), np.uint8),
                nodata=nodata,
                origin=raster.origin,
            )
            journal.remove()
        return SegmentedRaster(goal, (raster.height, raster.width), tiling.described(), tiling.exact, journal.resumed)


def verify_raster(
    predictor: Any,
    path: str | os.PathLike,
    *,
    tiles: TileOptions | None = None,
    reading: ImageOptions = AS_VIEWED,
    bands: Sequence[int] | None = None,
    crop: tuple[int, int] | None = None,
) -> VerifiedTiles:
    """How many labels tiles change, compared with the image as a whole, or with its middle where it is too large.

    Args:
        predictor, path, tiles, reading, bands: as `segment_raster` takes them.
        crop: (height, width) of the middle that is compared; None for the whole image up to 8 million pixels, else
            2896x2896.

    Raises:
        ValueError: what is compared is one tile, so that nothing is compared; and as `segment_raster`.
    """
    with open_raster(path, predictor.channels, reading.of_model(predictor.spec), bands) as raster:
        size = (raster.height, raster.width)
        if crop is None:
            crop = size if size[0] * size[1] <= CROP * CROP else (CROP, CROP)
        height, width = (min(pair) for pair in zip(crop, size, strict=True))
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        pixels = raster.read(top, top + height)
    image = np.ascontiguousarray(pixels.images[:, left : left + width])
    tiling = tiling_of(predictor, height, width, tiles)
    if len(tiling.rows) * len(tiling.columns) == 1:
        raise ValueError(
            f"{path}: the {height}x{width} pixels that are compared are one tile, so there is nothing to compare: give "
            "a smaller tile (--tile)" + (", or a larger crop (--crop)" if (height, width) != size else "")
        )
    found = tiling.all(lambda first, last: Pixels(image[first:last], None))
    expected = predictor.in_one_piece(image)  # a call would make tiles of it too
    return VerifiedTiles(
        (height, width), (top, left), (height, width) == size, int((found != expected).sum()), tiling.described()
    )


def tiling_of(predictor: Any, height: int, width: int, tiles: TileOptions | None = None) -> Tiling:
    """The tiles of an image for a predictor.

    Raises:
        ValueError: a tile is all halo, or the predictor's strategy needs the whole image.
    """
    strategy = predictor.strategy
    if isinstance(strategy, Tiles):
        tiles, strategy = tiles or strategy.tiles, WholeImage(predictor.runtime)
    tiles = tiles or TileOptions.of()
    inner = strategy
    while inner is not None:
        if isinstance(inner, Resized):
            raise ValueError(
                "a shorter side (--shorter-side) is asked for: it is the whole image's, and each tile would be scaled "
                "to it. Leave it out"
            )
        inner = getattr(inner, "inner", None)
    source = source_of(predictor.runtime, strategy, type(strategy) is WholeImage, tiles.image_means)
    return Tiling(source, height, width, labels_by(predictor.spec, predictor.threshold), tiles.tile, tiles.halo)


def _fill(tiling: Tiling, raster: Raster, journal: Journal, nodata: int | None, path: Path, progress: bool) -> None:
    """Makes the rows of labels that the journal doesn't have."""
    if journal.rows >= raster.height:
        return
    a_pass = len(tiling.rows) * len(tiling.columns)
    sums = journal.sums if tiling.passes > 1 else None
    start = journal.tiles if tiling.passes == 1 or sums is not None else 0
    done = start * len(tiling.columns) + a_pass * (sums is not None)
    with Progress(tiling.passes * a_pass, "tiles", enabled=progress, start=done) as bar:

        def tick() -> None:
            nonlocal done
            done += 1
            bar.update(min(done, tiling.passes * a_pass))

        if sums is not None:
            tiling.resume(sums)
        elif tiling.passes > 1:
            journal.keep(tiling.means(Rolling(raster.read, ask=False), tick) or ())
        rolling = Rolling(raster.read)
        for rows, top, labels in tiling.labels(rolling, start, tick):
            valid = rolling.valid(top, top + len(labels))
            if valid is not None and not valid.all():
                if nodata is None:
                    raise ValueError(f"{path} has pixels without data, and every label is a class: there is none left")
                labels = np.where(valid, labels, np.asarray(nodata, labels.dtype))
            journal.add(rows, labels)


def _facts(predictor: Any, path: Path, reading: ImageOptions, bands: Sequence[int] | None) -> dict[str, Any]:
    """What labels depend on beside the tiles."""
    status = path.stat()
    return {
        "format": 1,
        "image": [str(path.resolve()), status.st_size, status.st_mtime_ns],
        "model": fingerprint(predictor.runtime),
        "protocol": [type(predictor.strategy).__name__, predictor.protocol],
        "threshold": predictor.threshold,
        "reading": reading.to_json(),
        "bands": list(bands) if bands is not None else None,
    }
