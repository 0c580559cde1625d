"""TensorFlow Serving's REST interface by the standard library's http.client, over connections that are kept open."""

import base64
import http.client
import json
import ssl
import threading
import time
import urllib.parse

import numpy as np

from keras_deeplab.serving.errors import NotServed, Unavailable, reason

_BUSY = (429, 502, 503)
_LATE = (408, 504)


class RestTransport:
    """Calls of one server; may be used by several threads at once. See `GrpcTransport` for the same over gRPC.

    Args:
        address: http://host:port or https://host:port, perhaps with a path before /v1.
        max_message_bytes: size of the largest reply.
        headers: dict sent with each request.
    """

    tensors = False  # JSON has no bytes but in base64, so that images go as files

    def __init__(self, address, max_message_bytes, headers=None):
        self.address = address
        self._parts = urllib.parse.urlsplit(address)
        self._max_message_bytes = max_message_bytes
        self._headers = dict(headers or {})
        self._idle = []
        self._lock = threading.Lock()
        self._tls = ssl.create_default_context() if self._parts.scheme == "https" else None

    def predict(self, model, version, signature, inputs, timeout):
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
        return _from_rows(reply["predictions"])

    def request_bytes(self, payload):
        """The number of bytes that a file of `payload` bytes takes in a request."""
        return payload * 4 // 3 + 20

    def status(self, model, version, timeout):
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
        except (KeyError, TypeError, ValueError) as error:
            raise OSError(f"{self.address} replied {reply!r}, which is no status of TensorFlow Serving") from error

    def metadata(self, model, version, timeout):
        """The signatures of a model: {signature: {"inputs": {name: (dtype, shape)}, "outputs": ...}}."""
        reply = self._request("GET", f"{_path(model, version)}/metadata", None, timeout)
        try:
            signatures = reply["metadata"]["signature_def"]["signature_def"]
            return {
                name: {side: {key: _spec(spec) for key, spec in one[side].items()} for side in ("inputs", "outputs")}
                for name, one in signatures.items()
                if one.get("inputs") and one.get("outputs")
            }
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise OSError(f"{self.address} sent no metadata of TensorFlow Serving") from error

    def close(self):
        """Closes the connections; the next call opens one again."""
        with self._lock:
            connections, self._idle = self._idle, []
        for connection in connections:
            connection.close()

    def _request(self, method, path, body, timeout, fresh=False):
        deadline = time.monotonic() + timeout
        connection = self._connection(fresh)
        used = connection.sock is not None
        connection.timeout = timeout
        if used:
            connection.sock.settimeout(timeout)
        done = False
        try:
            headers = {"Accept": "application/json", **self._headers}
            if body is not None:
                headers["Content-Type"] = "application/json"
            connection.request(method, self._parts.path.rstrip("/") + path, body, headers)
            response = connection.getresponse()
            data = self._read(response, deadline)
            done = not response.will_close
        except TimeoutError as error:
            raise TimeoutError(f"{self.address} did not answer within {timeout:.3g} seconds") from error
        except _TooLarge:
            raise
        except ssl.SSLError as error:
            raise OSError(f"{self.address} can't be spoken to in TLS: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            if used and isinstance(error, (ConnectionResetError, BrokenPipeError)):
                # Servers close connections that were idle for long; that says nothing about the server now.
                return self._request(method, path, body, max(deadline - time.monotonic(), 1e-3), fresh=True)
            raise Unavailable(f"{self.address} can't be reached: {type(error).__name__} {error}".rstrip()) from error
        finally:
            if done:
                with self._lock:
                    self._idle.append(connection)
            else:
                connection.close()
        return self._judge(response, data)

    def _connection(self, fresh):
        with self._lock:
            if self._idle and not fresh:
                return self._idle.pop()
        if self._tls is None:
            return http.client.HTTPConnection(self._parts.hostname, self._parts.port)
        return http.client.HTTPSConnection(self._parts.hostname, self._parts.port, context=self._tls)

    def _read(self, response, deadline):
        data = bytearray()
        while chunk := response.read(1 << 16):
            data += chunk
            if len(data) > self._max_message_bytes:
                raise _TooLarge(
                    f"the reply of {self.address} has more than max_message_bytes={self._max_message_bytes} bytes"
                )
            if time.monotonic() > deadline:
                raise TimeoutError
        return bytes(data)

    def _judge(self, response, data):
        try:
            reply = json.loads(data)
        except ValueError:
            reply = None
        if response.status == 200:
            if reply is None:
                raise OSError(f"{self.address} replied with something else than JSON: {data[:80]!r}")
            return reply
        text = reply.get("error") if isinstance(reply, dict) else None
        text = reason(text if text is not None else data[:300].decode("utf-8", "replace"))
        answer = f"{self.address} answered {response.status}: {text}"
        if response.status in _BUSY:
            raise Unavailable(answer, _seconds(response.headers.get("Retry-After")))
        if response.status in _LATE:
            raise TimeoutError(answer)
        if response.status in (401, 403):
            raise PermissionError(answer)
        if response.status == 404:
            raise NotServed(answer)
        if response.status < 500:
            raise ValueError(text if response.status == 400 else answer)
        raise OSError(answer)


class _TooLarge(OSError):
    pass


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
    return np.asarray(values)


def _spec(spec):
    shape = spec["tensor_shape"]
    dimensions = None if shape.get("unknown_rank") else tuple(int(one["size"]) for one in shape.get("dim", ()))
    return spec["dtype"].removeprefix("DT_").lower(), dimensions


def _seconds(text):
    try:
        return max(0.0, float(text))
    except (TypeError, ValueError):
        return None
