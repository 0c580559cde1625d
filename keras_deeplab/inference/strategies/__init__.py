"""How an image is put to a runtime: whole, or at several scales and mirrored. Scores in, scores out.

A strategy maps (runtime, images) to scores at the images' size, so that strategies can stand in each other's place and
answers don't depend on what runs. `STRATEGIES` names them.
"""

from collections.abc import Callable

from keras_deeplab.inference.strategies.base import Strategy, resized
from keras_deeplab.inference.strategies.scales import SeveralScales
from keras_deeplab.inference.strategies.whole import WholeImage

__all__ = ["STRATEGIES", "SeveralScales", "Strategy", "WholeImage", "resized"]

# Name -> function from (runtime, input_size, options) to a `Strategy`, options as keywords; another one is a row here.
STRATEGIES: dict[str, Callable[..., Strategy]] = {"whole": WholeImage, "scales": SeveralScales}
