"""How an image is put to a runtime: whole, in windows, at several scales and mirrored. Scores in, scores out.

A strategy maps (runtime, images) to scores at the images' size, so that strategies can stand in each other's place and
around each other, and answers don't depend on what runs. `STRATEGIES` names those that put images to a runtime
themselves; `keras_deeplab.inference.composition` puts the others around them, as options ask for.
"""

from collections.abc import Callable

from keras_deeplab.inference.strategies.base import Around, Strategy, resized, told
from keras_deeplab.inference.strategies.padding import Padded
from keras_deeplab.inference.strategies.resizing import Resized
from keras_deeplab.inference.strategies.scales import SeveralScales
from keras_deeplab.inference.strategies.tiles import Tiles
from keras_deeplab.inference.strategies.whole import WholeImage
from keras_deeplab.inference.strategies.windows import Windows

__all__ = [
    "STRATEGIES",
    "Around",
    "Padded",
    "Resized",
    "SeveralScales",
    "Strategy",
    "Tiles",
    "WholeImage",
    "Windows",
    "resized",
    "told",
]

# Name -> function from (runtime, input_size) to a `Strategy`; another one is a row here.
STRATEGIES: dict[str, Callable[..., Strategy]] = {"whole": WholeImage, "tiles": Tiles}
