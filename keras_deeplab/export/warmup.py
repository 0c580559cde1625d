"""Requests that TensorFlow Serving answers for itself while it loads a version, before it lets clients in."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

FILE = "tf_serving_warmup_requests"


def write_warmup_requests(folder: Path, model_name: str, requests: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Requests to the file `assets.extra/tf_serving_warmup_requests` of the SavedModel `folder`.

    The file is a TFRecord of `tensorflow.serving.PredictionLog` messages. They are put together here field by field,
    so that exporting doesn't need the package tensorflow-serving-api.

    Args:
        folder: pathlib.Path of a SavedModel that nobody serves yet.
        model_name: what the server calls the model.
        requests: list of (signature, {input's name: its TensorProto}).
    """
    (folder / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / "assets.extra" / FILE)) as writer:
        for signature, inputs in requests:
            writer.write(_prediction_log(model_name, signature, inputs))


def _prediction_log(model_name, signature, inputs):
    # The numbers are those of prediction_log.proto, predict.proto and model.proto.
    spec = _field(1, model_name.encode()) + _field(3, signature.encode())
    request = _field(1, spec)
    for name, tensor in inputs.items():
        request += _field(2, _field(1, name.encode()) + _field(2, tensor.SerializeToString()))
    return _field(6, _field(1, request))


def _field(number, payload):
    """A protocol buffer's length-delimited field."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value):
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes(data + bytes([value]))
