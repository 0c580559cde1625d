"""`keras-deeplab tiles`."""

from pathlib import Path
from typing import Any

from keras_deeplab.cli.shared import AnyModel
from keras_deeplab.data.settings import ImageOptions
from keras_deeplab.inference.tiles.settings import TileOptions
from keras_deeplab.options import Integers, OptionError, Options, Size, nested, option, record

HELP = "Segment an image of any size by tiles (write), or compare tiles with the image as a whole (verify)."


@record
class Arguments(Options):
    action: str = option(
        help="write: a GeoTIFF or PNG of labels; verify: the share of labels that tiles change",
        flag=None,
        choices=("write", "verify"),
        metavar="write|verify",
    )
    network: AnyModel = nested(AnyModel)
    image: str = option(
        help="GeoTIFF, TIFF, .npy, PNG, JPEG or another image file; GeoTIFF takes the extra geotiff",
        flag=None,
        metavar="IMAGE",
    )
    output: str | None = option(
        None,
        "of write: the file of labels, .tif or .png; by default IMAGE_labels.tif beside a TIFF file, else "
        "IMAGE_labels.png",
        metavar="FILE",
    )
    bands: Integers | None = option(
        None, "which bands of a TIFF file are the model's channels, from 1 on; by default all", minimum=1
    )
    crop: Size | None = option(
        None, "of verify: size of the image's middle that is compared; by default all of it up to 8 million pixels"
    )
    max_changed: float | None = option(
        None, "of verify: the share of changed labels above which the exit status is 1", minimum=0, maximum=1
    )
    tiles: TileOptions = nested(TileOptions)
    reading: ImageOptions = nested(ImageOptions)

    def checked(self) -> None:
        wrong = ["output"] if self.action == "verify" else ["crop", "max_changed"]
        for name in wrong:
            if getattr(self, name) is not None:
                other = "write" if self.action == "verify" else "verify"
                raise OptionError("{" + name + "} is of the action {other}", other=other)


def run(arguments: Arguments) -> int:
    from keras_deeplab.inference.tiles.raster import segment_raster, verify_raster

    predict = arguments.network.predictor()
    settings: dict[str, Any] = {"tiles": arguments.tiles, "reading": arguments.reading, "bands": arguments.bands}
    if arguments.action == "write":
        target = arguments.output or _beside(Path(arguments.image))
        try:
            written = segment_raster(predict, arguments.image, target, **settings)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("What is done is kept: the same command goes on there.") from None
        print(written.path)
        return 0
    found = verify_raster(predict, arguments.image, crop=arguments.crop, **settings)
    part = "the whole image" if found.whole else f"its part from row {found.corner[0]}, column {found.corner[1]} on"
    print(found.plan)
    print(
        f"{found.changed} of {found.size[0] * found.size[1]} labels changed ({100 * found.share:.4f} %), compared with "
        f"{part}, {found.size[0]}x{found.size[1]}, put to the model as one"
    )
    return 1 if arguments.max_changed is not None and found.share > arguments.max_changed else 0


def _beside(image: Path) -> Path:
    ending = ".tif" if image.suffix.lower() in (".tif", ".tiff") else ".png"
    return image.with_name(f"{image.stem}_labels{ending}")
