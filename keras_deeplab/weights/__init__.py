"""Checkpoints: what a file holds, whose it is, the record of its network, and every array in its place.

Nothing here builds a network: a source gives a record and arrays, `keras_deeplab.load` builds and fills.
"""

from keras_deeplab.weights.opening import opened
from keras_deeplab.weights.sources import SOURCES, recognise

__all__ = ["SOURCES", "opened", "recognise"]
