"""The record in an ONNX file's metadata."""

import json

from keras_deeplab.specs import Classes, FileSpec, ModelSpec

KEY = "keras_deeplab"


def spec_from(text):
    facts = json.loads(text)
    colors = None if facts["palette"] is None else tuple(map(tuple, facts["palette"]))
    names = None if facts["classes"] is None else tuple(facts["classes"])
    spec = ModelSpec(facts["num_classes"], classes=Classes(names, colors), resize=facts["resize"])
    return FileSpec(spec, facts["output"], facts["upsampled"])


def read_spec(path):
    return None
