"""What the client makes of answers: retries, limits, batches and errors, with a server that says what it is told."""

import base64
import contextlib
import io
import json
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from keras_deeplab.serving import Client, client
from keras_deeplab.serving.errors import NotServed, reason
from keras_deeplab.specs import Classes, FileSpec, ModelSpec

IMAGE = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
LABELS = np.arange(48, dtype=np.uint8).reshape(6, 8)


def png(array):
    from keras_deeplab._helpers.opencv import cv2

    return cv2.imencode(".png", array)[1].tobytes()


def answer(*labels):
    """A good answer to a request of so many images."""
    return 200, {"predictions": [{"b64": base64.b64encode(png(one)).decode()} for one in labels]}


class Server:
    """Gives its answers in turn, (status, reply) or (status, reply, headers), the last one again and again."""

    def __init__(self, *answers):
        self.answers, self.requests, self.connections = list(answers), [], 0
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                outer.connections += 1

            def log_message(self, *_):
                pass

            def do_GET(self):
                with lock:
                    body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                    outer.requests.append((self.path, json.loads(body) if body else None, dict(self.headers)))
                    reply = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                if callable(reply):
                    reply = reply(outer.requests[-1][1])
                if reply is None:
                    self.close_connection = True
                    return
                status, content, *headers = reply
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                for name, value in dict(*headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def serving(*answers, **settings):
    """A `Server` and a client of it."""
    with Server(*answers) as server, Client(server.address, "voc", **settings) as used:
        yield server, used


@pytest.fixture
def waits(monkeypatch):
    """The seconds that were waited between attempts, without the waiting."""
    waited = []
    monkeypatch.setattr(client.time, "sleep", waited.append)
    return waited


def test_rest_needs_neither_tensorflow_nor_grpc():
    code = """
import sys
import numpy as np
from keras_deeplab.serving import Client
with Client("http://127.0.0.1:9", "voc", retries=0) as client:
    try:
        client.segment(np.zeros((4, 5, 3), np.uint8))
    except ConnectionError as error:
        assert "can't be reached" in str(error), error
    else:
        sys.exit("no error")
assert not {"tensorflow", "keras", "grpc"} & set(sys.modules), set(sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr


def test_segment_sends_an_array_as_png_and_returns_labels():
    with Server(answer(LABELS)) as server, Client(server.address, "a b", version=3) as used:
        labels = used.segment(IMAGE)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, LABELS)
    path, body, _ = server.requests[0]
    assert path == "/v1/models/a%20b/versions/3:predict"
    assert body["signature_name"] == "encoded"
    from keras_deeplab.data.images import decode_image

    (instance,) = body["instances"]
    np.testing.assert_array_equal(decode_image(base64.b64decode(instance["b64"])), IMAGE)


def test_labels_of_more_than_256_classes_are_int32():
    many = LABELS.astype(np.uint16) * 1000
    with serving(answer(many)) as (_server, used):
        labels = used.segment(b"file")
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, many)


def test_files_go_as_they_are(tmp_path):
    (tmp_path / "image.jpg").write_bytes(b"\xff\xd8 bytes\0")
    with serving(answer(LABELS)) as (server, used):
        for image in (tmp_path / "image.jpg", str(tmp_path / "image.jpg"), b"\xff\xd8 bytes\0"):
            used.segment(image)
        with pytest.raises(FileNotFoundError):
            used.segment(tmp_path / "absent.jpg")
    assert [base64.b64decode(body["instances"][0]["b64"]) for _, body, _ in server.requests] == [
        b"\xff\xd8 bytes\0"
    ] * 3


def test_a_file_with_an_orientation_is_turned_upright_as_everywhere():
    from PIL import Image

    from keras_deeplab.data.images import decode_image

    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(IMAGE).save(file, "JPEG", exif=exif)
    with serving(answer(np.rot90(LABELS, -1))) as (server, used):
        assert used.segment(file.getvalue()).shape == IMAGE.shape[1::-1]
    sent = base64.b64decode(server.requests[0][1]["instances"][0]["b64"])
    np.testing.assert_array_equal(decode_image(sent), np.rot90(decode_image(file.getvalue(), upright=False), -1))


def echo(request):
    """Labels that tell which image they belong to: all pixels have the file's length."""
    lengths = [len(base64.b64decode(one["b64"])) for one in request["instances"]]
    return answer(*(np.full((2, 2), length, np.uint8) for length in lengths))


def test_batches_are_split_by_number_and_by_bytes_and_keep_their_order():
    lengths = [150, 90, 250, 120, 30, 60, 210]
    files = [bytes(length) for length in lengths]
    with serving(echo, max_batch=3) as (server, used):
        results = used.segment_batch(files)
        assert [int(labels[0, 0]) for labels in results] == lengths
        assert [len(body["instances"]) for _, body, _ in server.requests] == [3, 3, 1]
        server.requests.clear()
        with Client(server.address, "voc", max_message_bytes=500) as used:
            results = used.segment_batch(files)
        assert [int(labels[0, 0]) for labels in results] == lengths
        assert [len(body["instances"]) for _, body, _ in server.requests] == [2, 1, 3, 1]


def test_an_image_that_is_too_large_to_send_is_refused_here():
    with (
        serving(echo, max_message_bytes=1000) as (server, used),
        pytest.raises(ValueError, match=r"a request of 1\d\d\d bytes, more than max_message_bytes=1000"),
    ):
        used.segment(bytes(999))
    assert server.requests == []


def test_a_reply_that_is_too_large_is_not_read():
    with (
        serving((200, b" " * 5000), max_message_bytes=1000) as (server, used),
        pytest.raises(OSError, match=r"more than max_message_bytes=1000"),
    ):
        used.segment(b"x")
    assert len(server.requests) == 1


def test_what_is_refused_is_not_sent_again(waits):
    text = "assertion failed: [image_bytes[0] is empty: it has 0 bytes]\n\t [[{{node Assert/Assert}}]]"
    with (
        serving((400, {"error": text})) as (server, used),
        pytest.raises(ValueError, match=r"^the image is empty: it has 0 bytes$"),
    ):
        used.segment(b"")
    assert len(server.requests) == 1
    assert waits == []


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_busy_server_is_tried_again_after_growing_waits(waits, status):
    with serving((status, {"error": "full"}), (status, b"<html>"), answer(LABELS), backoff=0.5) as (server, used):
        np.testing.assert_array_equal(used.segment(b"x"), LABELS)
    assert len(server.requests) == 3
    assert len(waits) == 2
    assert 0 <= waits[0] <= 0.5
    assert 0 <= waits[1] <= 1.0


def test_waits_are_random_and_bounded(waits, monkeypatch):
    bounds = []
    monkeypatch.setattr(client.random, "uniform", lambda low, high: bounds.append((low, high)) or high)
    with (
        serving((503, {"error": "full"}), backoff=1.0, retries=5) as (_server, used),
        pytest.raises(ConnectionError, match=r"answered 503: full \(tried 6 times\)"),
    ):
        used.segment(b"x")
    assert bounds == [(0.0, 1.0), (0.0, 2.0), (0.0, 4.0), (0.0, 5.0), (0.0, 5.0), (0.0, 5.0)]
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_it_waits_as_long_as_the_server_asks_but_not_beyond_the_timeout(waits):
    with serving((503, {}, {"Retry-After": "7"}), answer(LABELS)) as (_server, used):
        used.segment(b"x")
    assert waits == [7.0]
    with (
        serving((503, {}, {"Retry-After": "7"}), timeout=5) as (_server, used),
        pytest.raises(ConnectionError, match="tried once"),
    ):
        used.segment(b"x")
    assert waits == [7.0]


def test_a_server_that_is_not_there_is_tried_again(waits):
    with Server(answer(LABELS)) as gone:
        pass
    with (
        Client(gone.address, "voc", retries=2) as used,
        pytest.raises(ConnectionError, match=r"can't be reached: ConnectionRefusedError.*\(tried 3 times\)"),
    ):
        used.segment(b"x")
    assert len(waits) == 2


@pytest.mark.parametrize(
    ("reply", "kind", "text"),
    [
        ((404, {"error": "Servable not found"}), NotServed, "answered 404: Servable not found"),
        ((413, b"too large"), ValueError, "answered 413: too large"),
        ((403, {"error": "no"}), PermissionError, "answered 403: no"),
        ((500, {"error": "out of memory"}), OSError, "answered 500: out of memory"),
        ((504, b""), TimeoutError, "answered 504: no reason was given"),
        ((200, b"<html>"), OSError, "something else than JSON"),
        ((200, {"outputs": []}), OSError, "without predictions"),
        ((200, {"predictions": []}), OSError, "returned 0 label maps for 1 images"),
        ((200, {"predictions": [{"b64": "AAAA"}]}), OSError, "label PNG is not a PNG file"),
        ((200, {"predictions": [{"labels": 1, "scores": 2}]}), OSError, "expected the output 'labels_png_bytes'"),
        ((307, b"elsewhere"), OSError, "answered 307: elsewhere"),
        ((500, {"error": {"text": ["x"]}}), OSError, r"answered 500: .*text"),
        ((200, b"[" * 100_000), OSError, "something else than JSON"),
        ((200, b'{"predictions": [%s]}' % (b"9" * 5000)), OSError, "something else than JSON"),
        ((200, b"\xff\xfe\xfd"), OSError, "something else than JSON"),
        ((200, {"predictions": {"b64": "AAAA"}}), OSError, "without predictions"),
        ((200, {"predictions": [{"b64": 5}]}), OSError, "no arrays"),
        ((200, {"predictions": [{"b64": "A"}]}), OSError, "no arrays"),
        ((200, {"predictions": [{"b64": "AAAA"}, 1]}), OSError, "no arrays"),
        ((200, {"predictions": [{"a": 1, "b": 1}, {"a": 1}]}), OSError, "no arrays: KeyError"),
        ((200, {"predictions": [{"a": 1, "b": 1}, None]}), OSError, "no arrays: TypeError"),
        ((200, {"predictions": [{}]}), OSError, "expected the output"),
        ((200, {"predictions": [[1, 2], [3]]}), OSError, "no arrays: ValueError"),
        ((200, {"predictions": [None]}), OSError, "no arrays: TypeError"),
        ((200, {"predictions": [1]}), OSError, "sent 1 where the bytes of a label PNG belong"),
        ((200, {"predictions": ["text"]}), OSError, "sent text where the bytes"),
        (
            (200, {"predictions": [{"b64": base64.b64encode(png(np.zeros((4, 4, 3)))).decode()}]}),
            OSError,
            r"\(4, 4, 3\)",
        ),
    ],
)
def test_other_troubles_are_told_and_not_tried_again(waits, reply, kind, text):
    with serving(reply) as (server, used), pytest.raises(kind, match=text):
        used.segment(b"x")
    assert len(server.requests) == 1
    assert waits == []


@pytest.mark.parametrize("wrong", [LABELS.T, LABELS[:5], LABELS[:, :7]])
def test_labels_of_another_size_than_the_image_are_refused(wrong):
    from keras_deeplab._helpers.opencv import cv2

    jpeg, bmp = (cv2.imencode(kind, IMAGE)[1].tobytes() for kind in (".jpg", ".bmp"))
    for image in (IMAGE, png(IMAGE), jpeg, bmp):
        with serving(answer(LABELS), answer(wrong)) as (server, used):
            assert used.segment(image).shape == (6, 8)
            with pytest.raises(OSError, match=r"returned labels of shape \(\d, \d\) for an image of \(6, 8\)"):
                used.segment(image)
            assert len(server.requests) == 2


def test_labels_of_another_size_are_not_even_decoded(monkeypatch):
    """A label PNG of a few kilobytes may ask for gigabytes."""
    decoded = []
    monkeypatch.setattr(
        "keras_deeplab.data.masks.decode_label_png", lambda data: decoded.append(data) or (LABELS, None)
    )
    with serving(answer(LABELS[:5]), answer(LABELS)) as (_server, used):
        with pytest.raises(OSError, match=r"returned labels of shape \(5, 8\) for an image of \(6, 8\)"):
            used.segment(IMAGE)
        assert decoded == []
        used.segment(IMAGE)
        assert len(decoded) == 1


def test_a_status_and_metadata_that_are_none_are_told():
    status = {"version": "1", "state": "AVAILABLE", "status": {}}
    replies = [None, 3, [], {"model_version_status": 3}, {"model_version_status": [{**status, "status": None}]}]
    replies += [{"model_version_status": [{**status, "version": 1e400}]}, {"model_version_status": [None]}]
    for reply in replies:
        with serving((200, reply)) as (_server, used), pytest.raises(OSError, match=r"TensorFlow Serving"):
            used.status()
    spec = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "2"}]}}
    for bad in (None, {}, {**spec, "dtype": 1}, {**spec, "tensor_shape": None}, {**spec, "tensor_shape": {"dim": [3]}}):
        one = {"inputs": {"images": bad}, "outputs": {"logits": spec}}
        reply = {"metadata": {"signature_def": {"signature_def": {"logits": one}}}}
        with (
            serving((200, reply)) as (_server, used),
            pytest.raises(OSError, match="no metadata of TensorFlow Serving"),
        ):
            used.metadata()


@contextlib.contextmanager
def raw_server(talk):
    """The address of a server that reads the head of a request and does `talk(connection)`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=converse, args=(connection,), daemon=True).start()

        def converse(connection):
            with connection, contextlib.suppress(OSError):
                while b"\r\n\r\n" not in connection.recv(1 << 16):
                    pass
                talk(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def dripping(start, drop, ended):
    """Sends `start` and then `drop` again and again, until the client hangs up."""

    def talk(connection):
        try:
            connection.sendall(start)
            while True:
                connection.sendall(drop)
                time.sleep(0.05)
        finally:
            ended.set()

    return talk


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    ],
    ids=["status", "header", "continue", "body", "until closed", "chunks", "length of a chunk"],
)
def test_a_timeout_is_one_of_all_that_a_server_drips(start, drop):
    ended = threading.Event()
    with raw_server(dripping(start, drop, ended)) as address, Client(address, "voc", timeout=0.5) as used:
        begin = time.monotonic()
        with pytest.raises(TimeoutError, match=r"did not answer within 0\.\d+ seconds"):
            used.segment(b"x")
        assert 0.4 < time.monotonic() - begin < 1.5
        assert ended.wait(2)  # nobody goes on listening


def test_a_timeout_is_one_of_a_request_that_nobody_reads():
    def deaf(connection):
        time.sleep(3)

    with raw_server(deaf) as address, Client(address, "voc", timeout=0.5) as used:
        begin = time.monotonic()
        with pytest.raises(TimeoutError):
            used.segment(bytes(12 << 20))
        assert time.monotonic() - begin < 1.5


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\0" * 100,
        b"HTTP/1.1 nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nlong\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 100_000,
    ],
)
def test_replies_that_are_no_http_are_told(reply):
    with (
        raw_server(lambda connection: connection.sendall(reply)) as address,
        Client(address, "voc", retries=1, backoff=0.01) as used,
        pytest.raises(OSError, match=r"127\.0\.0\.1"),
    ):
        used.segment(b"x")


def test_a_call_after_closing_opens_a_connection_again():
    with serving(answer(LABELS)) as (server, used):
        used.segment(b"x")
        used.close()
        used.segment(b"x")
        assert server.connections == 2


def test_a_slow_server_runs_into_the_timeout_once():
    def slow(_):
        time.sleep(1.0)

    with serving(slow, timeout=0.2) as (server, used):
        begin = time.monotonic()
        with pytest.raises(TimeoutError, match=r"did not answer within 0\.\d+ seconds"):
            used.segment(b"x")
        assert time.monotonic() - begin < 0.9
        assert len(server.requests) == 1


def test_a_connection_is_kept_and_opened_again_where_the_server_closed_it(waits):
    with serving(answer(LABELS), answer(LABELS), None, answer(LABELS)) as (server, used):
        used.segment(b"x")
        used.segment(b"x")
        assert server.connections == 1
        used.segment(b"x")  # closed without an answer, as servers do to connections that were idle
    assert server.connections == 2
    assert len(server.requests) == 4
    assert waits == []


def bad_ones(request):
    """Refuses files that begin with !, and with them the whole request, as TensorFlow Serving does."""
    files = [base64.b64decode(one["b64"]) for one in request["instances"]]
    bad = [f"image_bytes[{index}] is bad" for index, file in enumerate(files) if file.startswith(b"!")]
    return (400, {"error": f"assertion failed: [{'; '.join(bad)}]"}) if bad else echo(request)


def test_one_bad_image_of_a_batch_does_not_lose_the_others(tmp_path):
    images = [b"12", b"!", tmp_path / "absent.jpg", b"1234", np.zeros((4, 4), np.uint8)]
    with serving(bad_ones) as (_server, used):
        good, bad, absent, other, flat = used.segment_batch(images, return_exceptions=True)
        assert (good[0, 0], other[0, 0]) == (2, 4)
        assert isinstance(bad, ValueError)
        assert str(bad) == "the image is bad"
        assert isinstance(absent, FileNotFoundError)
        assert "expected a uint8 image (H, W, 3)" in str(flat)
        with pytest.raises(ValueError, match=r"^images\[1\]: the image is bad$"):
            used.segment_batch([b"12", b"!"])
        assert used.segment_batch([]) == []


@pytest.mark.parametrize("reply", [(404, {"error": "no such model"}), (500, {"error": "broken"})])
def test_what_is_wrong_with_the_server_is_raised_in_any_case(reply):
    with serving(reply) as (server, used), pytest.raises((NotServed, OSError)):
        used.segment_batch([b"12", b"34"], return_exceptions=True)
    assert len(server.requests) == 1


def test_predict_takes_and_returns_any_signature():
    rows = [{"labels": [[1, 2]], "sizes": [1, 2]}, {"labels": [[3, 255]], "sizes": [1, 1]}]
    with serving(
        (200, {"predictions": rows}), (200, {"predictions": [[[0.25, 0.75]]]}), headers={"Authorization": "Bearer t"}
    ) as (server, used):
        outputs = used.predict({"image_bytes": [b"a\0", b"b\0\0"]}, "encoded_labels")
        assert outputs["labels"].tolist() == [[[1, 2]], [[3, 255]]]
        assert outputs["sizes"].tolist() == [[1, 2], [1, 1]]
        assert used.predict({"images": np.zeros((1, 1, 2, 3), np.uint8)}, "logits")[""].shape == (1, 1, 2)
    path, body, headers = server.requests[0]
    assert path == "/v1/models/voc:predict"
    assert [base64.b64decode(one["b64"]) for one in body["instances"]] == [b"a\0", b"b\0\0"]
    assert headers["Authorization"] == "Bearer t"
    assert server.requests[1][1]["instances"] == np.zeros((1, 1, 2, 3)).tolist()


def test_status_and_metadata():
    status = {"model_version_status": [{"version": "12", "state": "AVAILABLE", "status": {"error_message": ""}}]}
    spec = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "21"}], "unknown_rank": False}}
    one = {"inputs": {"images": {**spec, "dtype": "DT_UINT8"}}, "outputs": {"logits": spec}}
    definition = {"signature_def": {"logits": one, "__saved_model_init_op": {"outputs": {"x": spec}}}}
    replies = [(200, status), (200, {"metadata": {"signature_def": definition}}), (200, {"ready": True})]
    with Server(*replies) as server, Client(f"{server.address}/below/", "voc") as used:
        assert used.status() == [{"version": 12, "state": "AVAILABLE", "message": ""}]
        signature = {"inputs": {"images": ("uint8", (-1, 21))}, "outputs": {"logits": ("float", (-1, 21))}}
        assert used.metadata() == {"logits": signature}
        assert used.status()[0]["state"] == "AVAILABLE"
    assert [path for path, *_ in server.requests][:2] == ["/below/v1/models/voc", "/below/v1/models/voc/metadata"]
    with serving((200, {"hello": 1})) as (server, used):
        for method in (used.status, used.metadata):
            with pytest.raises(OSError, match="TensorFlow Serving"):
                method()


def definitions(**signatures):
    """What a server says of the inputs and outputs of signatures: {name: (inputs, outputs)}, each {name: shape}."""

    def side(shapes):
        return {
            name: {"dtype": "DT_UINT8", "tensor_shape": {"dim": [{"size": str(length)} for length in shape]}}
            for name, shape in shapes.items()
        }

    found = {name: {"inputs": side(taken), "outputs": side(given)} for name, (taken, given) in signatures.items()}
    return 200, {"metadata": {"signature_def": {"signature_def": found}}}


def test_the_record_is_asked_for_once():
    spec = FileSpec(ModelSpec(2, classes=Classes(("soil", "Blüte"), ((0, 0, 0), (1, 2, 3)))))
    one = definitions(record=({"query": (-1,)}, {"record": (-1,)}))
    with serving(one, (200, {"predictions": [spec.to_json()]})) as (server, used):
        assert used.spec == spec
        assert used.spec.model.labels == ("soil", "Blüte")
    assert len(server.requests) == 2
    assert server.requests[1][1] == {"signature_name": "record", "instances": [{"b64": ""}]}
    with serving(one, (200, {"predictions": ["{"]})) as (server, used), pytest.raises(ValueError, match="no JSON"):
        _ = used.spec
    without = definitions(serving_default=({"images": (-1, -1, -1, 3)}, {"labels": (-1, -1, -1)}))
    for reply in (without, (404, {"error": "no metadata here"})):
        with serving(reply) as (server, used):
            assert used.spec is used.spec is None
        assert len(server.requests) == 1


def test_images_of_other_channels_go_as_files_where_files_hold_them():
    grey, five = np.zeros((2, 3, 1), np.uint8), np.zeros((2, 3, 5), np.uint8)
    for image in (grey, five):
        takes = definitions(serving_default=({"images": (-1, -1, -1, image.shape[2])}, {"labels": (-1, -1, -1)}))
        labels = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
        reply = answer(labels) if image is grey else (200, {"predictions": [labels.tolist()]})
        with serving(takes, reply) as (server, used):
            np.testing.assert_array_equal(used.segment(image), labels)
            with pytest.raises(ValueError, match=rf"\(H, W, {image.shape[2]}\), the channels that the model takes"):
                used.segment(np.zeros((2, 3, 2), np.uint8))
        assert server.requests[1][1]["signature_name"] == ("encoded" if image is grey else "serving_default")
    fixed = definitions(serving_default=({"images": (-1, 8, 8, 5)}, {"labels": (-1, 8, 8)}))
    with serving(fixed) as (_, used), pytest.raises(ValueError, match=r"8x8 alone, received \(2, 3, 5\)"):
        used.segment(five)


def test_alpha_is_sent_last():
    from keras_deeplab._helpers.opencv import cv2

    image = np.array([[[1, 2, 3, 4]]], np.uint8)
    sent = client._encode_png(image)
    assert cv2.imdecode(np.frombuffer(sent, np.uint8), cv2.IMREAD_UNCHANGED).tolist() == [[[3, 2, 1, 4]]]


@pytest.mark.parametrize(
    ("server", "settings", "complaint"),
    [
        ("localhost:8500", {}, r"server must be grpc://host:8500 or http://host:8501"),
        ("ftp://host", {}, r"received 'ftp://host'"),
        ("http://", {}, r"server must be"),
        ("http://host:99999", {}, r"server must be"),
        ("grpc://host/path", {}, r"a gRPC address has no path"),
        ("http://host", {"timeout": 0}, r"timeout must be positive, received 0"),
        ("http://host", {"max_batch": -1}, r"max_batch must be positive"),
        ("http://host", {"retries": -1}, r"must not be negative"),
        ("http://host", {"model": ""}, r"model is the name of a model on the server"),
    ],
)
def test_arguments_that_cannot_be_are_refused(server, settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        Client(server, **{"model": "voc", **settings})


def test_addresses_have_the_usual_ports():
    assert Client("http://host", "voc").server == "http://host:8501"
    assert Client("https://host:443/models/", "voc").server == "https://host:443/models"
    assert client._address("grpc://host") == "grpc://host:8500"
    assert client._address("grpcs://[::1]:80") == "grpcs://[::1]:80"


def test_grpc_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    monkeypatch.delitem(sys.modules, "tensorflow_serving.apis", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'keras_deeplab\[serving\]'"):
        Client("grpc://localhost", "voc")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("assertion failed: [images of shape (1, 0) have no pixels] [[x]]\n\t [[{{node A}}]]", None),
        (
            "Graph execution error:\n\nDetected at node a/b defined at (most recent call last):\n"
            "<stack traces unavailable>\nInvalid PNG data, size 9\n\t [[{{node a/b}}]] [Op:f]",
            "Invalid PNG data, size 9",
        ),
        ("", "no reason was given"),
    ],
)
def test_reasons_are_without_tensorflows_own_affairs(text, expected):
    assert reason(text) == (expected or "images of shape (1, 0) have no pixels] [[x]")
