"""A small server that speaks TensorFlow Serving's REST and, with tensorflow-serving-api, its gRPC: run as a process.

python tests/serving_server.py FOLDER: loads the newest version of each model that FOLDER/models.config names, looks for
newer ones while it runs, prints {"pid": ..., "rest": port, "grpc": port or null} and serves until its input ends.

For tests of what a client does about a server's troubles, a request may carry headers: x-test-busy: KEY:N has the first
N requests of that KEY answered as by a busy server, x-test-delay: S has it wait for S seconds first.
"""

import base64
import collections
import contextlib
import json
import os
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import tensorflow as tf

try:
    import grpc
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_log_pb2,
        prediction_service_pb2_grpc,
    )
except ImportError:
    grpc = None

HTTP_STATUS = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "UNAVAILABLE": 503, "INTERNAL": 500}


class Problem(Exception):
    """An answer other than a result: the name of a gRPC status code, and text."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


def warm_up(model, file):
    """Answers the requests of a warm-up file, if TensorFlow Serving's messages are there to read it with."""
    if grpc is None or not file.exists():
        return
    for record in tf.data.TFRecordDataset(str(file)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
        model.signatures[request.model_spec.signature_name](**inputs)


class Models:
    """The models of a folder, each in its newest version."""

    def __init__(self, folder):
        self._folder = Path(folder)
        self._loaded = {}
        self._busy = collections.Counter()
        self.look()

    def look(self):
        """Loads what is new: highest numbers only, as TensorFlow Serving does by default."""
        text = (self._folder / "models.config").read_text("utf-8")
        for name in re.findall(r'^\s*name: "(.*)"$', text, re.MULTILINE):
            folder = self._folder / name
            versions = [int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()]
            if versions and max(versions) != self._loaded.get(name, (None,))[0]:
                model = tf.saved_model.load(str(folder / str(max(versions))))
                warm_up(model, folder / str(max(versions)) / "assets.extra" / "tf_serving_warmup_requests")
                self._loaded[name] = (max(versions), model)

    def keep_looking(self):
        """Looks five times a second, for ever."""
        while True:
            time.sleep(0.2)
            self.look()

    def find(self, name, version=None):
        """A model's (version, loaded SavedModel)."""
        if name not in self._loaded or version not in (None, self._loaded[name][0]):
            which = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise Problem("NOT_FOUND", f"Servable not found for request: {which}")
        return self._loaded[name]

    def obey(self, headers):
        """Does what the x-test headers of a request ask for."""
        key, _, count = headers.get("x-test-busy", ":0").rpartition(":")
        self._busy[key] += 1
        if self._busy[key] <= int(count):
            raise Problem("UNAVAILABLE", "the batch scheduling queue is full")
        time.sleep(float(headers.get("x-test-delay", 0)))

    def function(self, name, version, signature):
        """A signature of a model."""
        version, model = self.find(name, version)
        if signature not in model.signatures:
            raise Problem("INVALID_ARGUMENT", f'Serving signature key "{signature}" not found.')
        return version, model.signatures[signature]

    def predict(self, function, inputs):
        """Runs a signature on a dict of arrays."""
        specs = function.structured_input_signature[1]
        if set(inputs) != set(specs):
            raise Problem("INVALID_ARGUMENT", f"input names {sorted(inputs)}, expected {sorted(specs)}")
        tensors = {}
        for name, spec in specs.items():
            tensor = tf.constant(inputs[name])
            if tensor.dtype != spec.dtype or not spec.shape.is_compatible_with(tensor.shape):
                text = f"input {name} is {tensor.dtype.name} {tensor.shape}, expected {spec.dtype.name} {spec.shape}"
                raise Problem("INVALID_ARGUMENT", text)
            tensors[name] = tensor
        try:
            return {name: output.numpy() for name, output in function(**tensors).items()}
        except tf.errors.InvalidArgumentError as error:
            raise Problem("INVALID_ARGUMENT", error.message) from error
        except tf.errors.OpError as error:
            raise Problem("INTERNAL", error.message) from error


def from_json(instances, spec):
    """The instances of a JSON request to an array of a signature's type."""
    if spec.dtype == tf.string:
        strings = np.empty(len(instances), object)
        strings[:] = [base64.b64decode(one["b64"]) if isinstance(one, dict) else str(one).encode() for one in instances]
        return strings
    array = np.asarray(instances)
    if array.dtype.kind not in "iu" or (array.size and not 0 <= array.min() <= array.max() <= 255):
        raise Problem("INVALID_ARGUMENT", f"JSON Value: {array.ravel()[:1]} is not of expected type: {spec.dtype.name}")
    return array.astype(spec.dtype.as_numpy_dtype)


def to_json(name, values):
    if values.dtype == object:
        if name.endswith("_bytes"):
            return [{"b64": base64.b64encode(value).decode()} for value in values]
        return [value.decode() for value in values]
    return values.tolist()


def rest_handler(models):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_):
            pass

        def do_GET(self):
            self.answer(self.get)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(lambda: self.post(body))

        def answer(self, work):
            try:
                models.obey(self.headers)
                status, reply = 200, work()
            except Problem as problem:
                status, reply = HTTP_STATUS[problem.code], {"error": str(problem)}
            data = json.dumps(reply).encode()
            with contextlib.suppress(ConnectionError):  # of clients that don't wait
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        def parsed(self):
            match = re.fullmatch(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(/metadata|:predict)?", self.path)
            if not match:
                raise Problem("NOT_FOUND", f"Malformed request: {self.command} {self.path}")
            return match[1], int(match[2]) if match[2] else None, match[3]

        def get(self):
            name, version, what = self.parsed()
            version, model = models.find(name, version)
            if what is None:
                status = {"error_code": "OK", "error_message": ""}
                return {"model_version_status": [{"version": str(version), "state": "AVAILABLE", "status": status}]}
            return {
                "model_spec": {"name": name, "signature_name": "", "version": str(version)},
                "metadata": {"signature_def": {"signature_def": signature_definitions(model)}},
            }

        def post(self, body):
            name, version, _ = self.parsed()
            try:
                request = json.loads(body)
            except ValueError as error:
                raise Problem("INVALID_ARGUMENT", f"JSON Parse error: {error}") from error
            _, function = models.function(name, version, request.get("signature_name", "serving_default"))
            ((key, spec),) = function.structured_input_signature[1].items()
            try:
                inputs = {key: from_json(request["instances"], spec)}
            except (KeyError, TypeError, ValueError) as error:
                raise Problem("INVALID_ARGUMENT", f"malformed instances: {error}") from error
            outputs = models.predict(function, inputs)
            columns = {output: to_json(output, values) for output, values in outputs.items()}
            if len(columns) == 1:
                return {"predictions": next(iter(columns.values()))}
            rows = zip(*columns.values(), strict=True)
            return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}

    return Handler


def signature_definitions(model):
    def described(spec):
        dimensions = [{"size": str(-1 if side is None else side), "name": ""} for side in spec.shape]
        shape = {"dim": dimensions, "unknown_rank": False}
        return {"dtype": f"DT_{spec.dtype.name.upper()}", "tensor_shape": shape, "name": f"{spec.name}:0"}

    return {
        name: {
            "inputs": {key: described(spec) for key, spec in function.structured_input_signature[1].items()},
            "outputs": {key: described(spec) for key, spec in function.structured_outputs.items()},
            "method_name": "tensorflow/serving/predict",
        }
        for name, function in model.signatures.items()
    }


def start_grpc(models, threads):
    """Serves TensorFlow Serving's gRPC services; returns the server and its port."""

    def answer(context, work):
        try:
            models.obey(dict(context.invocation_metadata()))
            return work()
        except Problem as problem:
            return context.abort(grpc.StatusCode[problem.code], str(problem))

    def version_of(spec):
        return spec.version.value if spec.HasField("version") else None

    class Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            def work():
                spec = request.model_spec
                signature = spec.signature_name or "serving_default"
                version, function = models.function(spec.name, version_of(spec), signature)
                inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
                reply = predict_pb2.PredictResponse()
                reply.model_spec.name = spec.name
                reply.model_spec.version.value = version
                for name, values in models.predict(function, inputs).items():
                    reply.outputs[name].CopyFrom(tf.make_tensor_proto(values))
                return reply

            return answer(context, work)

        def GetModelMetadata(self, request, context):
            def work():
                spec = request.model_spec
                version, model = models.find(spec.name, version_of(spec))
                definitions = get_model_metadata_pb2.SignatureDefMap()
                for name, one in signature_definitions(model).items():
                    for side in ("inputs", "outputs"):
                        for key, described in one[side].items():
                            tensor = getattr(definitions.signature_def[name], side)[key]
                            tensor.name = described["name"]
                            tensor.dtype = getattr(tf.dtypes, described["dtype"][3:].lower()).as_datatype_enum
                            for dimension in described["tensor_shape"]["dim"]:
                                tensor.tensor_shape.dim.add(size=int(dimension["size"]))
                reply = get_model_metadata_pb2.GetModelMetadataResponse()
                reply.model_spec.name = spec.name
                reply.model_spec.version.value = version
                reply.metadata["signature_def"].Pack(definitions)
                return reply

            return answer(context, work)

    class ModelStates(model_service_pb2_grpc.ModelServiceServicer):
        def GetModelStatus(self, request, context):
            def work():
                version, _ = models.find(request.model_spec.name, version_of(request.model_spec))
                available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
                reply = get_model_status_pb2.GetModelStatusResponse()
                reply.model_version_status.add(version=version, state=available)
                return reply

            return answer(context, work)

    options = [("grpc.max_receive_message_length", 1 << 30), ("grpc.max_send_message_length", 1 << 30)]
    server = grpc.server(ThreadPoolExecutor(threads), options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Predictions(), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelStates(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def main(folder):
    models = Models(folder)
    threading.Thread(target=models.keep_looking, daemon=True).start()
    rest = ThreadingHTTPServer(("127.0.0.1", 0), rest_handler(models))
    rest.daemon_threads = True
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    _server, port = start_grpc(models, 16) if grpc is not None else (None, None)
    print(json.dumps({"pid": os.getpid(), "rest": rest.server_port, "grpc": port}), flush=True)
    sys.stdin.read()  # its end is the end of whoever started this process
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
