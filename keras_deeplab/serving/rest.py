"""TensorFlow Serving's REST interface by urllib3, over connections that are kept open."""

import base64
import concurrent.futures
import contextlib
import json
import reprlib
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

import numpy as np
import urllib3

from keras_deeplab._helpers import limits
from keras_deeplab._helpers.values import from_json
from keras_deeplab.serving.errors import NotServed, Unavailable, reason

_BUSY = (429, 502, 503)
_LATE = (408, 504)
# What comes of taking a reply apart that isn't what it should be.
_MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class RestTransport:
    """Calls of one server; may be used by several threads at once. See `GrpcTransport` for the same over gRPC.

    Args:
        address: http://host:port or https://host:port, perhaps with a path before /v1.
        max_message_bytes: size of the largest reply.
        headers: dict sent with each request.
    """

    tensors = False  # JSON has no bytes but in base64, so that images go as files

    def __init__(self, address: str, max_message_bytes: int, headers: Mapping[str, str] | None = None) -> None:
        self.address = address
        self._parts = urllib.parse.urlsplit(address)
        self._max_message_bytes = max_message_bytes
        self._headers = dict(headers or {})
        self._pool = self._new_pool()

    def predict(
        self, model: str, version: int | None, signature: str, inputs: Any, timeout: float
    ) -> dict[str, np.ndarray]:
        """Inputs, a dict of arrays with a first dimension in common, to the outputs, a dict of arrays.

        Strings are object arrays of bytes. Numbers come back as JSON has them, int64 or float64.
        """
        columns = {name: _to_json(values) for name, values in inputs.items()}
        if len(columns) == 1:
            (instances,) = columns.values()
        else:
            instances = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        body = json.dumps({"signature_name": signature, "instances": instances}).encode()
        reply = self._request("POST", f"{_path(model, version)}:predict", body, timeout)
        if not isinstance(reply, dict) or not isinstance(reply.get("predictions"), list):
            raise OSError(f"{self.address} replied without predictions: it doesn't speak TensorFlow Serving's REST")
        try:
            return _from_rows(reply["predictions"])
        except _MALFORMED as error:
            raise OSError(
                f"{self.address} sent predictions that are no arrays: {type(error).__name__} {str(error)[:200]}"
            ) from error

    def request_bytes(self, payload: int) -> int:
        """The number of bytes that a file of `payload` bytes takes in a request."""
        return payload * 4 // 3 + 20

    def status(self, model: str, version: int | None, timeout: float) -> list[dict[str, Any]]:
        """The versions of a model: a list of dicts with version, state and message."""
        reply = self._request("GET", _path(model, version), None, timeout)
        if isinstance(reply, dict) and "ready" in reply:  # KServe
            return [{"version": None, "state": "AVAILABLE" if reply["ready"] else "LOADING", "message": ""}]
        try:
            return [
                {
                    "version": int(entry["version"]),
                    "state": entry["state"],
                    "message": entry.get("status", {}).get("error_message", ""),
                }
                for entry in reply["model_version_status"]
            ]
        except _MALFORMED as error:
            shown = reprlib.repr(reply)
            raise OSError(f"{self.address} replied {shown}, which is no status of TensorFlow Serving") from error

    def metadata(self, model: str, version: int | None, timeout: float) -> dict[str, Any]:
        """The signatures of a model: {signature: {"inputs": {name: (dtype, shape)}, "outputs": ...}}."""
        reply = self._request("GET", f"{_path(model, version)}/metadata", None, timeout)
        try:
            signatures = reply["metadata"]["signature_def"]["signature_def"]
            return {
                name: {side: {key: _spec(spec) for key, spec in one[side].items()} for side in ("inputs", "outputs")}
                for name, one in signatures.items()
                if one.get("inputs") and one.get("outputs")
            }
        except _MALFORMED as error:
            raise OSError(f"{self.address} sent no metadata of TensorFlow Serving") from error

    def close(self) -> None:
        """Closes the connections; the next call opens one again."""
        pool, self._pool = self._pool, self._new_pool()
        pool.close()

    def _new_pool(self):
        if self._parts.scheme == "https":
            kind, settings = urllib3.HTTPSConnectionPool, {"ssl_context": ssl.create_default_context()}
        else:
            kind, settings = urllib3.HTTPConnectionPool, {}
        pool = kind(self._parts.hostname, self._parts.port, maxsize=limits.CONNECTIONS, **settings)
        pool.ConnectionCls = _HTTPSConnection if self._parts.scheme == "https" else _HTTPConnection
        return pool

    def _request(self, method, path, body, timeout):
        """A request to the JSON of its reply; no part of it, taken together, lasts longer than the timeout."""
        deadline = time.monotonic() + timeout
        while True:
            call = _Call()
            try:
                answer = call.run(lambda: self._exchange(method, path, body, deadline), deadline)
            except urllib3.exceptions.NewConnectionError as error:
                raise self._unreachable(_cause(error)) from error
            except (TimeoutError, urllib3.exceptions.TimeoutError) as error:
                raise TimeoutError(f"{self.address} did not answer within {timeout:.3g} seconds") from error
            except urllib3.exceptions.SSLError as error:
                raise OSError(f"{self.address} can't be spoken to in TLS: {error}") from error
            except urllib3.exceptions.HTTPError as error:
                cause = _cause(error)
                # Servers close connections that were idle for long; that says nothing about the server now.
                if call.opened or not isinstance(cause, (ConnectionResetError, BrokenPipeError)):
                    raise self._unreachable(cause) from error
            else:
                return self._judge(*answer)

    def _unreachable(self, error):
        return Unavailable(f"{self.address} can't be reached: {type(error).__name__} {error}".rstrip())

    def _exchange(self, method, path, body, deadline):
        """(status, headers, bytes) of a reply. The timeout given to urllib3 is one of each wait, not of all."""
        headers = {"Accept": "application/json", **self._headers}
        if body is not None:
            headers["Content-Type"] = "application/json"
        response = self._pool.urlopen(
            method,
            self._parts.path.rstrip("/") + path,
            body,
            headers,
            retries=False,
            timeout=max(deadline - time.monotonic(), 1e-3),
            preload_content=False,
            decode_content=False,
        )
        data = bytearray()
        try:
            # urllib3's own stream() takes the lines of a chunked reply at any length.
            while chunk := response.read(1 << 16):
                data += chunk
                if len(data) > self._max_message_bytes:
                    raise OSError(
                        f"the reply of {self.address} has more than max_message_bytes={self._max_message_bytes} bytes"
                    )
        except ValueError as error:  # http.client, of a chunk of less than no bytes
            raise urllib3.exceptions.ProtocolError(f"a chunk of the reply is damaged: {error}") from error
        finally:
            if not response.closed:
                response.close()
        return response.status, response.headers, bytes(data)

    def _judge(self, status, headers, data):
        try:
            reply = from_json(data)
        except ValueError as error:
            if status == 200:
                raise OSError(f"{self.address} replied with something else than JSON: {data[:80]!r}") from error
            reply = None
        if status == 200:
            return reply
        text = reply.get("error") if isinstance(reply, dict) else None
        text = reason(text if isinstance(text, str) else data[:300].decode("utf-8", "replace"))
        answer = f"{self.address} answered {status}: {text}"
        if status in _BUSY:
            raise Unavailable(answer, _seconds(headers.get("Retry-After")))
        if status in _LATE:
            raise TimeoutError(answer)
        if status in (401, 403):
            raise PermissionError(answer)
        if status == 404:
            raise NotServed(answer)
        if 400 <= status < 500:
            raise ValueError(text if status == 400 else answer)
        raise OSError(answer)


class _Call:
    """A request that runs in a thread of its own and is left when its time is up, whatever it waits for then.

    No timeout of a socket does that: each byte of a slow reply begins it anew.
    """

    _here = threading.local()

    def __init__(self):
        self.opened = False  # whether a connection was opened for it
        self._left = False
        self._socket = None

    def run(self, work, deadline):
        """What `work()` returns or raises; TimeoutError at the deadline."""
        result = concurrent.futures.Future()

        def target():
            self._here.call = self
            try:
                result.set_result(work())
            except BaseException as error:
                result.set_exception(error)

        threading.Thread(target=target, name="keras_deeplab REST", daemon=True).start()
        try:
            return result.result(max(deadline - time.monotonic(), 0.0))
        finally:
            if not result.done():
                self._leave()

    def _leave(self):
        self._left = True
        if self._socket is not None:
            with contextlib.suppress(OSError):  # of a connection that has ended, or is in its TLS handshake
                self._socket.shutdown(socket.SHUT_RDWR)

    @classmethod
    def uses(cls, connection, opened=False):
        """Notes the connection of the call of this thread."""
        call = cls._here.call
        call.opened |= opened
        call._socket = connection.sock
        if call._left:
            connection.close()
            raise TimeoutError


class _Noted:
    """A connection that tells the call which uses it."""

    def connect(self):
        super().connect()
        _Call.uses(self, opened=True)

    def request(self, *args, **settings):
        _Call.uses(self)
        super().request(*args, **settings)


class _HTTPConnection(_Noted, urllib3.connection.HTTPConnection):
    pass


class _HTTPSConnection(_Noted, urllib3.connection.HTTPSConnection):
    pass


def _cause(error):
    """What an error of urllib3 came from."""
    return error.__cause__ or error.__context__ or error


def _path(model, version):
    path = f"/v1/models/{urllib.parse.quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{version}"


def _to_json(values):
    values = np.asarray(values)
    if values.dtype == object:
        return [{"b64": base64.b64encode(value).decode("ascii")} for value in values]
    return values.tolist()


def _from_rows(rows):
    """`predictions`: rows, or dicts of several outputs, to a dict of arrays; "" is the name of an only output."""
    if rows and isinstance(rows[0], dict) and set(rows[0]) != {"b64"}:
        return {name: _from_json([row[name] for row in rows]) for name in rows[0]}
    return {"": _from_json(rows)}


def _from_json(values):
    if values and isinstance(values[0], dict):
        strings = np.empty(len(values), object)
        strings[:] = [base64.b64decode(value["b64"]) for value in values]
        return strings
    array = np.asarray(values)
    if array.dtype == object:
        raise TypeError("values that are neither all numbers nor all strings")
    return array


def _spec(spec):
    shape = spec["tensor_shape"]
    dimensions = None if shape.get("unknown_rank") else tuple(int(one["size"]) for one in shape.get("dim", ()))
    return spec["dtype"].removeprefix("DT_").lower(), dimensions


def _seconds(text):
    try:
        return max(0.0, float(text))
    except (TypeError, ValueError):
        return None
