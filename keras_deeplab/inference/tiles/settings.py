"""How an image is cut into tiles: the options of `segment_raster`, of the strategy and of the command."""

from keras_deeplab.options import Options, Size, option, record


@record
class TileOptions(Options):
    """How an image is cut into tiles."""

    TITLE = "tiles"

    tile: Size | None = option(None, "height and width of a tile at most, by default 2048")
    halo: int | None = option(
        None,
        "pixels around a tile that it sees and doesn't answer for; by default what the model sees, where that leaves "
        "half of the tile, else an eighth of the tile",
        minimum=0,
    )
    image_means: str = option(
        "image",
        "of models that look at the mean of the image: image, that of the whole image, found in a first pass; or tile, "
        "each tile's own, in one pass",
        choices=("image", "tile"),
        metavar="WHAT",
    )
