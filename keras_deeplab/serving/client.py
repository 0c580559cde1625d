"""Photographs to label maps by way of a TensorFlow Serving that holds a SavedModel of `export_saved_model`."""

import os
import random
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab._helpers import limits
from keras_deeplab._helpers.files import read_regular
from keras_deeplab.data.channels import keeps_channels, scaled
from keras_deeplab.data.images import decode_image, image_size
from keras_deeplab.data.orientation import orientation_of
from keras_deeplab.serving.errors import NotServed, Unavailable
from keras_deeplab.specs import FileSpec, ModelSpec

_PORTS = {"grpc": 8500, "grpcs": 8500, "http": 8501, "https": 8501}
# Channels of images that a PNG file holds.
_IN_FILES = (1, 3, 4)
_UNASKED = object()


class Client:
    """A model on a server; `segment` maps an image to labels (H, W) uint8.

    Threads may share a client, and should: it keeps its connections open.

    What fails because the server can't be reached or is too busy (gRPC UNAVAILABLE; HTTP 429, 502 and 503, refused
    and broken connections) is tried again; what the server refuses never is, nor what takes too long. Before the
    n-th new attempt it waits a random time of up to `backoff` x 2^(n - 1) seconds, at most 5, or as long as an HTTP
    server's Retry-After asks.

    Args:
        server: grpc://host:8500, grpcs://... for TLS, http://host:8501 or https://... gRPC needs the package
            tensorflow-serving-api, and TensorFlow with it; REST needs neither.
        model: the model's name on the server: that of its folder in savedmodels/.
        version: number of a version; None for the server's newest.
        timeout: seconds for a call of any method, all attempts and waits of one request included.
        retries: how often a request is tried again.
        backoff: seconds, see above.
        max_batch: the largest number of images in a request.
        max_message_bytes: size of the largest request and reply. Batches are split accordingly.
        headers: dict sent with each request, such as {"Authorization": "Bearer ..."}.

    Raises:
        ValueError: if an argument is none of these.
        ImportError: for gRPC without tensorflow-serving-api.
    """

    def __init__(
        self,
        server: str,
        model: str,
        *,
        version: int | None = None,
        timeout: float = limits.CALL_SECONDS,
        retries: int = 4,
        backoff: float = 0.1,
        max_batch: int = 8,
        max_message_bytes: int = limits.MESSAGE_BYTES,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        positive = {"timeout": timeout, "max_batch": max_batch, "max_message_bytes": max_message_bytes}
        for name, value in positive.items():
            if not value > 0:
                raise ValueError(f"{name} must be positive, received {value}")
        if retries < 0 or backoff < 0:
            raise ValueError(f"retries and backoff must not be negative, received {retries} and {backoff}")
        if not model:
            raise ValueError("model is the name of a model on the server, such as its folder's in savedmodels/")
        self.server = _address(server)
        self.model = model
        self.version = version
        self.timeout = timeout
        self.retries = retries
        self.backoff = backoff
        self.max_batch = max_batch
        self.max_message_bytes = max_message_bytes
        self._transport = _transport(self.server, max_message_bytes, headers)
        self._image_shape = None
        self._spec: Any = _UNASKED

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def segment(self, image: Any) -> np.ndarray:
        """An image to its labels, (H, W) uint8, or int32 where there are more than 256 classes.

        Args:
            image: uint8 array (H, W, 3), RGB, or of as many channels as the model takes; of other integers, where the
                model's record says which two of them are 0 and 255; or the bytes or the path of an image file. JPEG,
                PNG and BMP files are sent as they are and decoded by the server to the channels of its model. One with
                an EXIF orientation, which servers pass over, and TIFF and .npy files, which they don't read, are
                decoded here.

        Raises:
            ValueError: if the server refuses the image, with the reason; or the server has no such model.
            ConnectionError: if the server can't be reached, or stays too busy.
            TimeoutError: if it takes longer than `timeout`.
            OSError: if the server fails, or a file can't be read.
        """
        return self.segment_batch([image])[0]

    def segment_batch(self, images: Sequence[Any], return_exceptions: bool = False) -> list[Any]:
        """Images to the list of their labels, with up to `max_batch` of them in a request.

        Args:
            images: list of what `segment` takes; sizes may differ.
            return_exceptions: whether an image that can't be read or is refused has its ValueError or OSError in the
                list, in the place of labels. Else the first such error is raised. What is wrong with the server and
                not with an image is raised in any case.

        Returns:
            List of arrays as `segment` returns them, in the order of `images`.

        Raises:
            As `segment`.
        """
        results: list[Any] = [None] * len(images)
        groups: dict[Any, list[tuple[int, Any]]] = {}
        for index, image in enumerate(images):
            try:
                key, value = self._prepare(image)
            except (OSError, ValueError) as error:
                if not return_exceptions or isinstance(error, (NotServed, ConnectionError, TimeoutError)):
                    raise
                results[index] = error
                continue
            groups.setdefault(key, []).append((index, value))
        for (signature, _), items in groups.items():
            for part in self._parts(items):
                for (index, _), result in zip(part, self._segment_part(signature, part), strict=True):
                    if isinstance(result, ValueError) and not return_exceptions:
                        raise result if len(images) == 1 else ValueError(f"images[{index}]: {result}") from result
                    results[index] = result
        return results

    def predict(self, inputs: Mapping[str, Any] | Any, signature: str = "serving_default") -> dict[str, np.ndarray]:
        """Any signature of the model: a dict of arrays to the dict of its outputs' arrays.

        Args:
            inputs: dict from the inputs' names to arrays; strings are lists or object arrays of bytes.
            signature: which one; docs/export.md describes them.

        Returns:
            Dict of arrays. REST doesn't tell the name of an only output, which then is "", and has numbers as int64
            or float64, whatever they were.

        Raises:
            As `segment`.
        """
        arrays = {name: _array(value) for name, value in inputs.items()}
        return self._retrying(
            lambda seconds: self._transport.predict(self.model, self.version, signature, arrays, seconds)
        )

    def output(self, name: str, inputs: Any, signature: str = "serving_default") -> Any:
        """One output of any signature, an array: that of `predict` which is called so, or the only one.

        Raises:
            As `segment`; OSError where the signature has other outputs.
        """
        outputs = self.predict(inputs, signature)
        if name not in outputs and set(outputs) != {""}:
            raise OSError(
                f"expected the output {name!r}, received {sorted(outputs)}: the model is none of this package's"
            )
        return outputs.get(name, outputs.get(""))

    def status(self) -> list[dict[str, Any]]:
        """The model's versions on the server: a list of {"version": int, "state": "AVAILABLE", ..., "message": str}.

        Raises:
            As `segment`.
        """
        return self._retrying(lambda seconds: self._transport.status(self.model, self.version, seconds))

    def metadata(self) -> dict[str, Any]:
        """The model's signatures: {signature: {"inputs": {name: (dtype, shape)}, "outputs": ...}}; -1 is any length.

        Raises:
            As `segment`.
        """
        return self._retrying(lambda seconds: self._transport.metadata(self.model, self.version, seconds))

    @property
    def spec(self) -> FileSpec | None:
        """The model's record, asked for once; None where the server's model has none.

        Raises:
            As `segment`; ValueError where the record can't be understood.
        """
        if self._spec is _UNASKED:
            try:
                known = "record" in self.metadata()
            except NotServed:  # other servers than TensorFlow's tell no metadata
                known = False
            if known:
                (text,) = self.output("record", {"query": [b""]}, "record")
                self._spec = FileSpec.from_json(text, f"the model {self.model!r} on {self.server}")
            else:
                self._spec = None
        return self._spec

    def _prepare(self, image):
        """An image to ((signature, what images of a request have in common), what is sent)."""
        if isinstance(image, (str, os.PathLike)):
            image = read_regular(Path(image).expanduser())
        if isinstance(image, (bytes, bytearray, memoryview)):
            image = bytes(image)
            if not keeps_channels(image) and orientation_of(image) == 1:
                return self._fitting(("encoded", None), image)
            image = self._decoded(image)
        image = np.asarray(image)
        if image.dtype.kind in "ui" and image.dtype != np.uint8 and self._model_spec().image_range is not None:
            image = scaled(image, self._model_spec().image_range)
        if image.dtype != np.uint8 or image.ndim != 3 or 0 in image.shape:
            raise ValueError(
                f"expected a uint8 image (H, W, 3), or as many channels as the model takes, or integers of more bits "
                "where its record has an image_range, or the bytes or path of an image file; received "
                f"{image.dtype} {image.shape}"
            )
        channels = image.shape[2]
        in_files = channels in _IN_FILES
        # An RGB image goes as a file over REST, without another question.
        if self._transport.tensors or channels != 3:
            *size, taken = self._takes()
            if taken not in (-1, channels):
                raise ValueError(
                    f"expected a uint8 image (H, W, {taken}), the channels that the model takes; received {image.shape}"
                )
            fits = all(own in (-1, given) for own, given in zip(size, image.shape, strict=False))
            if fits and (self._transport.tensors or not in_files):
                return self._fitting(("serving_default", image.shape), image)
            if not in_files:
                raise ValueError(
                    f"the model takes images of {size[0]}x{size[1]} alone, received {image.shape}. The server pads "
                    f"files, which hold no {channels} channels: pad it to that size"
                )
        return self._fitting(("encoded", None), _encode_png(image))

    def _model_spec(self):
        """The model's record; where the server has none, that of a model of RGB images of 8 bits."""
        return ModelSpec(None) if self.spec is None else self.spec.model

    def _decoded(self, data):
        """The contents of an image file to its pixels, turned upright, as the model's record says."""
        # A photograph needs no question: the server makes grey of it, too.
        known = ModelSpec(None) if data.startswith(b"\xff\xd8") else self._model_spec()
        try:
            return decode_image(data, known.channels, image_range=known.image_range)
        except ValueError as error:
            raise ValueError(f"the image {error}") from error

    def _fitting(self, key, value):
        size = self._transport.request_bytes(len(value) if isinstance(value, bytes) else value.nbytes)
        if size > self.max_message_bytes:
            raise ValueError(
                f"the image makes a request of {size} bytes, more than max_message_bytes={self.max_message_bytes}: "
                "scale it down, send it as JPEG, or raise the limit"
            )
        return key, value

    def _takes(self):
        """(height, width, channels) of the tensors that the model takes, -1 for any; `encoded` pads to a fixed size."""
        if self._image_shape is None:
            inputs = self.metadata().get("serving_default", {}).get("inputs", {})
            self._image_shape = (inputs.get("images", (None, None))[1] or (-1,) * 4)[1:]
        return self._image_shape

    def _parts(self, items):
        """Splits a list of (index, value) into those of one request each."""
        part, size = [], 0
        for index, value in items:
            more = self._transport.request_bytes(len(value) if isinstance(value, bytes) else value.nbytes)
            if part and (len(part) == self.max_batch or size + more > self.max_message_bytes):
                yield part
                part, size = [], 0
            part.append((index, value))
            size += more
        if part:
            yield part

    def _segment_part(self, signature, part):
        """A request's (index, value) pairs to labels, or the ValueErrors of those that were refused."""
        values = [value for _, value in part]
        try:
            if signature == "encoded":
                labels = list(self.output("labels_png_bytes", {"image_bytes": values}, "encoded"))
            else:
                labels = list(self.output("labels", {"images": np.stack(values)}))
        except NotServed:
            raise
        except ValueError as error:
            if len(part) == 1:
                return [ValueError(str(error).replace("image_bytes[0]", "the image"))]
            # One bad image lets a request fail, so each is asked for by itself.
            return [result for one in part for result in self._segment_part(signature, [one])]
        if len(labels) != len(part):
            raise OSError(f"{self.server} returned {len(labels)} label maps for {len(part)} images")
        if signature == "encoded":
            labels = [_decode_png(data, _size(value)) for data, value in zip(labels, values, strict=True)]
        for value, one in zip(values, labels, strict=True):
            size = _size(value)
            if one.ndim != 2 or size not in (None, one.shape):
                raise OSError(f"{self.server} returned labels of shape {one.shape} for an image of {size}")
        return labels

    def _retrying(self, call):
        deadline = time.monotonic() + self.timeout
        attempt = 0
        while True:
            try:
                return call(max(deadline - time.monotonic(), 1e-3))
            except Unavailable as error:
                wait = random.uniform(0.0, min(self.backoff * 2**attempt, limits.RETRY_SECONDS))
                wait = max(wait, error.retry_after or 0.0)
                attempt += 1
                if attempt > self.retries or time.monotonic() + wait >= deadline:
                    tried = "once" if attempt == 1 else f"{attempt} times"
                    raise Unavailable(f"{error} (tried {tried})", error.retry_after) from error
                time.sleep(wait)


def _address(server):
    """`grpc://host` to `grpc://host:8500`, `http://host` to `http://host:8501`; ValueError for anything else."""
    parts = urllib.parse.urlsplit(str(server))
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in _PORTS or not parts.hostname or port == 0 or parts.query or parts.fragment:
        raise ValueError(
            f"server must be grpc://host:8500 or http://host:8501 (or grpcs://, https://), received {server!r}"
        )
    if parts.scheme.startswith("grpc") and parts.path.strip("/"):
        raise ValueError(f"a gRPC address has no path, received {server!r}")
    place = parts.netloc if port is not None else f"{parts.netloc}:{_PORTS[parts.scheme]}"
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}"


def _transport(address, max_message_bytes, headers):
    if address.startswith("grpc"):
        from keras_deeplab.serving.grpc import GrpcTransport

        return GrpcTransport(address, max_message_bytes, headers)
    from keras_deeplab.serving.rest import RestTransport

    return RestTransport(address, max_message_bytes, headers)


def _array(value):
    """An array as it is; lists of bytes to object arrays, which numpy would strip of zeros at the end."""
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], bytes):
        strings = np.empty(len(value), object)
        strings[:] = value
        return strings
    return np.asarray(value)


def _encode_png(image):
    from keras_deeplab._helpers.opencv import cv2

    # OpenCV has blue first; alpha stays last. The fastest level: what is saved in bytes beyond it costs more time than
    # a local network takes.
    stored = image if image.shape[2] == 1 else image[..., [2, 1, 0, *range(3, image.shape[2])]]
    return cv2.imencode(".png", stored, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def _size(value):
    """(height, width) of an image or of the contents of a file; None where those don't tell."""
    return image_size(value) if isinstance(value, bytes) else value.shape[:2]


def _decode_png(data, size):
    """The bytes of a label PNG to labels; one of another size than its image's isn't decoded, which may be huge."""
    from keras_deeplab.data.images import image_size
    from keras_deeplab.data.masks import decode_label_png

    if not isinstance(data, bytes):
        raise OSError(f"the server sent {str(data)[:80]} where the bytes of a label PNG belong")
    told = image_size(data)
    if told is not None and (told != size if size else told[0] * told[1] > limits.MAX_PIXELS):
        raise OSError(f"the server returned labels of shape {told} for an image of {size or 'no size that is known'}")
    try:
        labels, _ = decode_label_png(data)
    except ValueError as error:
        raise OSError(f"the server's label PNG {error}") from error
    return labels if labels.dtype == np.uint8 else labels.astype(np.int32)
