"""What is made of an answer: pictures, numbers of each pixel, shapes, tables. One file a family, one row a kind.

A row makes the contents of files, `OUTPUTS[name].make(result) -> {ending: bytes}`, and writes nothing; whoever has the
bytes puts them where they belong, whole (`_helpers.files.write_whole`). Another kind is a row here.
"""

from keras_deeplab.inference.outputs.areas import AREAS
from keras_deeplab.inference.outputs.choice import Chosen, answering, choose
from keras_deeplab.inference.outputs.maps import CONFIDENCE, ENTROPY, PROBABILITIES
from keras_deeplab.inference.outputs.pictures import LABELS, OVERLAY
from keras_deeplab.inference.outputs.place import Place, place_of
from keras_deeplab.inference.outputs.polygons import COCO, POLYGONS
from keras_deeplab.inference.outputs.result import Collected, Legend, Output, Result
from keras_deeplab.registry import Registry

__all__ = ["OUTPUTS", "Chosen", "Collected", "Legend", "Output", "Place", "Result", "answering", "choose", "place_of"]

OUTPUTS: Registry[Output] = Registry(
    "output",
    {
        "labels": LABELS,
        "overlay": OVERLAY,
        "confidence": CONFIDENCE,
        "probabilities": PROBABILITIES,
        "entropy": ENTROPY,
        "polygons": POLYGONS,
        "coco": COCO,
        "areas": AREAS,
    },
)
