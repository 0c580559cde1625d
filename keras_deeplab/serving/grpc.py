"""TensorFlow Serving's gRPC interface, by Google's own stubs from the package tensorflow-serving-api."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_deeplab.serving.errors import NotServed, Unavailable, reason


class GrpcTransport:
    """Calls of one server over one channel; may be used by several threads at once.

    Args:
        address: grpc://host:port, or grpcs://host:port for TLS.
        max_message_bytes: size of the largest request and reply.
        headers: dict sent with each request, as gRPC metadata.

    Raises:
        ImportError: if tensorflow-serving-api isn't installed.
    """

    tensors = True

    def __init__(self, address: str, max_message_bytes: int, headers: Mapping[str, str] | None = None) -> None:
        try:
            import grpc
            from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
        except ImportError as error:
            raise ImportError(
                f"speaking gRPC needs the package tensorflow-serving-api: pip install 'keras_deeplab[serving]', or use "
                f"the server's REST address, http://host:8501 ({error})"
            ) from error
        self.address = address
        self._grpc = grpc
        self._headers = tuple((name.lower(), value) for name, value in (headers or {}).items())
        scheme, target = address.split("://", 1)
        options = [
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.max_receive_message_length", max_message_bytes),
            # One policy for what is tried again, and when: the client's.
            ("grpc.enable_retries", 0),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        if scheme == "grpcs":
            self._channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
        else:
            self._channel = grpc.insecure_channel(target, options)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(
        self, model: str, version: int | None, signature: str, inputs: Any, timeout: float
    ) -> dict[str, np.ndarray]:
        """Inputs, a dict of arrays, to the outputs, a dict of arrays. Strings are object arrays of bytes."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        _fill(request.model_spec, model, version)
        request.model_spec.signature_name = signature
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(np.asarray(values)))
        reply = self._call(self._predictions.Predict, request, timeout)
        return {name: tf.make_ndarray(tensor) for name, tensor in reply.outputs.items()}

    def request_bytes(self, payload: int) -> int:
        """The number of bytes that a file or tensor of `payload` bytes takes in a request."""
        return payload + 20

    def status(self, model: str, version: int | None, timeout: float) -> list[dict[str, Any]]:
        """The versions of a model: a list of dicts with version, state and message."""
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        _fill(request.model_spec, model, version)
        reply = self._call(self._models.GetModelStatus, request, timeout)
        return [
            {
                "version": entry.version,
                "state": get_model_status_pb2.ModelVersionStatus.State.Name(entry.state),
                "message": entry.status.error_message,
            }
            for entry in reply.model_version_status
        ]

    def metadata(self, model: str, version: int | None, timeout: float) -> dict[str, Any]:
        """The signatures of a model: {signature: {"inputs": {name: (dtype, shape)}, "outputs": ...}}."""
        import tensorflow as tf
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        _fill(request.model_spec, model, version)
        reply = self._call(self._predictions.GetModelMetadata, request, timeout)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        reply.metadata["signature_def"].Unpack(signatures)

        def spec(tensor):
            shape = tensor.tensor_shape
            dimensions = None if shape.unknown_rank else tuple(one.size for one in shape.dim)
            return tf.dtypes.as_dtype(tensor.dtype).name, dimensions

        return {
            name: {
                side: {key: spec(tensor) for key, tensor in getattr(one, side).items()}
                for side in ("inputs", "outputs")
            }
            for name, one in signatures.signature_def.items()
            if one.inputs and one.outputs
        }

    def close(self) -> None:
        """Closes the channel, for good."""
        self._channel.close()

    def _call(self, method, request, timeout):
        try:
            return method(request, timeout=timeout, metadata=self._headers)
        except self._grpc.RpcError as error:
            code, codes = error.code(), self._grpc.StatusCode
            text = reason(error.details())
            answer = f"{self.address} answered {code.name}: {text}"
            if code == codes.UNAVAILABLE:
                raise Unavailable(answer) from error
            if code == codes.DEADLINE_EXCEEDED:
                raise TimeoutError(f"{self.address} did not answer within {timeout:.3g} seconds") from error
            if code in (codes.UNAUTHENTICATED, codes.PERMISSION_DENIED):
                raise PermissionError(answer) from error
            if code == codes.INVALID_ARGUMENT:
                raise ValueError(text) from error
            if code == codes.NOT_FOUND:
                raise NotServed(answer) from error
            if code in (codes.FAILED_PRECONDITION, codes.OUT_OF_RANGE):
                raise ValueError(answer) from error
            raise OSError(answer) from error


def _fill(spec, model, version):
    spec.name = model
    if version is not None:
        spec.version.value = version
