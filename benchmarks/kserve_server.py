"""python kserve_server.py FOLDER PORT: KServe's model server with the SavedModels of FOLDER/<name>/<version>.

Its V1 protocol is TensorFlow Serving's REST. Needs kserve and tensorflow, best in an environment of their own, since
kserve asks for an older protobuf than TensorFlow takes; nothing of keras_deeplab.
"""

import argparse
import asyncio
import base64
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import kserve
import tensorflow as tf
from kserve.errors import InvalidInput


class SavedModel(kserve.Model):
    """The newest version of a model."""

    def __init__(self, folder):
        super().__init__(folder.name)
        version = max(
            (entry for entry in folder.iterdir() if entry.name.isdecimal()), key=lambda entry: int(entry.name)
        )
        self._loaded = tf.saved_model.load(str(version))
        self.ready = True

    async def predict(self, payload, headers=None, response_headers=None):
        return await asyncio.to_thread(self._predict, payload)

    def _predict(self, payload):
        name = payload.get("signature_name", "serving_default")
        if name not in self._loaded.signatures:
            raise InvalidInput(f'Serving signature key "{name}" not found.')
        function = self._loaded.signatures[name]
        ((key, spec),) = function.structured_input_signature[1].items()
        instances = payload["instances"]
        try:
            if spec.dtype == tf.string:
                values = tf.constant([base64.b64decode(one["b64"]) for one in instances], tf.string)
            else:
                values = tf.constant(instances, spec.dtype)
            outputs = {output: tensor.numpy() for output, tensor in function(**{key: values}).items()}
        except (tf.errors.InvalidArgumentError, TypeError, ValueError) as error:
            raise InvalidInput(str(error)) from error
        columns = {output: _to_json(values) for output, values in outputs.items()}
        if len(columns) == 1:
            return {"predictions": next(iter(columns.values()))}
        return {"predictions": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]}


def _to_json(values):
    if values.dtype == object:
        return [{"b64": base64.b64encode(value).decode("ascii")} for value in values]
    return values.tolist()


def main():
    """Serves until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    folders = {entry.parent.parent for entry in options.folder.glob("*/[0-9]*/saved_model.pb")}
    server = kserve.ModelServer(http_port=options.port, enable_grpc=False, workers=1)
    server.start([SavedModel(folder) for folder in sorted(folders)])


if __name__ == "__main__":
    main()
