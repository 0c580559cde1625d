"""The client against a server process that holds exported models and speaks TensorFlow Serving's gRPC and REST."""

import importlib.util
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from export_models import photograph, small_model

from keras_deeplab.cli import main
from keras_deeplab.export.saved_model import export_saved_model
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.serving import Client
from keras_deeplab.serving.config import update_models_config, write_config
from keras_deeplab.serving.errors import NotServed

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


def benchmark():
    """benchmarks/serving_load.py as a module."""
    spec = importlib.util.spec_from_file_location("serving_load", ROOT / "benchmarks" / "serving_load.py")
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of models as a server reads it: one of any size, one of 64x64."""
    root = tmp_path_factory.mktemp("savedmodels")
    for name, size in (("small", None), ("fixed", 64)):
        export_saved_model(small_model(size), root / name / "1", warmup_size=64)
    write_config(root)
    return root


@pytest.fixture(scope="module")
def server(models):
    """A running server: its process and its addresses."""
    load = benchmark()
    process, addresses = load.start_server(models)
    yield process, addresses
    load.stop_server(process)


@pytest.fixture(params=["grpc", "rest"])
def address(request, server):
    if request.param == "grpc":
        pytest.importorskip("tensorflow_serving.apis.predict_pb2")
    return server[1][request.param]


@pytest.fixture(scope="module")
def labels_of(models):
    """An image or the bytes of a file to its labels, computed here."""
    return benchmark().local_labels(models / "small" / "1")


def jpeg(image):
    return tf.io.encode_jpeg(image).numpy()


def test_arrays_and_files_get_the_labels_of_the_model_here(address, labels_of, tmp_path):
    images = [photograph(40, 53, 1), jpeg(photograph(61, 48, 2)), photograph(40, 53, 3), photograph(1, 1, 4)]
    (tmp_path / "image.jpg").write_bytes(images[1])
    with Client(address, "small") as used:
        one = used.segment(images[0])
        several = used.segment_batch([*images, tmp_path / "image.jpg"])
        assert used.spec.model.num_classes == 5
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, labels_of(images[0]))
    for labels, image in zip(several, [*images, images[1]], strict=True):
        np.testing.assert_array_equal(labels, labels_of(image))
    assert len(np.unique(one)) > 1


def test_a_predictor_asks_the_server(address, labels_of, models):
    image = photograph(40, 53, 1)
    with Client(address, "small") as used:
        predict = predictor(used)
        assert predict.spec.num_classes == 5
        labels = predict(image)
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, labels_of(image))
        expected = tf.saved_model.load(str(models / "small" / "1")).signatures["probabilities"](
            images=tf.constant(image[None])
        )["probabilities"]
        np.testing.assert_allclose(predict.probabilities(image), expected[0], atol=1e-5)
        mirrored = predictor(used, flip=True)(np.concatenate([image, image[:, ::-1]], 1))
        np.testing.assert_array_equal(mirrored, mirrored[:, ::-1])
    with Client(address, "fixed") as used:
        assert predictor(used).input_size == (64, 64)
        assert predictor(used)(image).shape == (40, 53)


def test_a_model_of_one_size_takes_smaller_images(address, models):
    image = photograph(50, 64)
    padded = np.full((1, 64, 64, 3), 128, np.uint8)
    padded[0, :50] = image
    signature = tf.saved_model.load(str(models / "fixed" / "1")).signatures["serving_default"]
    expected = signature(images=tf.constant(padded))["labels"][0, :50].numpy()
    with Client(address, "fixed") as used:
        np.testing.assert_array_equal(used.segment(image), expected)
        assert used.segment(padded[0]).shape == (64, 64)
        with pytest.raises(ValueError, match=r"the image is 65x40 .*, larger than .* exported for, 64x64"):
            used.segment(photograph(65, 40))


def test_every_signature_answers(address):
    images = np.stack([photograph(20, 30, 1), photograph(20, 30, 2)])
    with Client(address, "small", version=1) as used:
        for name in ("logits", "probabilities"):
            (values,) = used.predict({"images": images}, name).values()
            assert values.shape == (2, 20, 30, 5)
        np.testing.assert_allclose(values.sum(-1), 1.0, atol=1e-5)
        outputs = used.predict({"image_bytes": [jpeg(images[0]), jpeg(images[1][:7])]}, "encoded_labels")
        assert outputs["labels"].shape == (2, 20, 30)
        assert outputs["sizes"].tolist() == [[20, 30], [7, 30]]


def test_both_protocols_tell_the_same_of_a_model(server):
    pytest.importorskip("tensorflow_serving.apis.predict_pb2")
    told = []
    for address in server[1].values():
        with Client(address, "fixed") as used:
            told.append((used.status(), used.metadata()))
    assert told[0] == told[1]
    status, metadata = told[0]
    assert status == [{"version": 1, "state": "AVAILABLE", "message": ""}]
    assert metadata["serving_default"]["inputs"] == {"images": ("uint8", (-1, 64, 64, 3))}
    assert metadata["encoded"]["outputs"] == {"labels_png_bytes": ("string", (-1,))}


def test_what_is_not_there_is_told(address):
    with Client(address, "other") as used, pytest.raises(NotServed, match=r"Servable not found"):
        used.segment(photograph(8, 8))
    with Client(address, "small", version=9) as used, pytest.raises(NotServed, match=r"small, 9"):
        used.status()
    with Client(address, "small") as used, pytest.raises(ValueError, match=r'key "nothing" not found'):
        used.predict({"images": np.zeros((1, 8, 8, 3), np.uint8)}, "nothing")


def test_a_busy_server_is_asked_again(address, labels_of):
    image = photograph(20, 20)
    with Client(address, "small", backoff=0.01, headers={"x-test-busy": f"{address}:2"}) as used:
        np.testing.assert_array_equal(used.segment(image), labels_of(image))
    with (
        Client(address, "small", backoff=0.01, retries=1, headers={"x-test-busy": f"{address} on:99"}) as used,
        pytest.raises(ConnectionError, match=r"queue is full \(tried 2 times\)"),
    ):
        used.segment(image)


def test_a_late_answer_is_not_waited_for(address):
    with Client(address, "small", timeout=0.3, headers={"x-test-delay": "1"}) as used:
        begin = time.monotonic()
        with pytest.raises(TimeoutError, match=r"did not answer within 0\.\d+ seconds"):
            used.status()
        assert time.monotonic() - begin < 0.9


def test_messages_over_grpcs_own_limit_pass_and_those_over_the_clients_do_not(server):
    pytest.importorskip("tensorflow_serving.apis.predict_pb2")
    image = np.zeros((1400, 1400, 3), np.uint8)  # 5.6 MiB, where gRPC's default is 4
    with Client(server[1]["grpc"], "small", timeout=120) as used:
        assert used.segment(image).shape == (1400, 1400)
    with Client(server[1]["grpc"], "small", max_message_bytes=10_000) as used:
        with pytest.raises(ValueError, match=r"more than max_message_bytes=10000"):
            used.segment(image)
        with pytest.raises(OSError, match=r"RESOURCE_EXHAUSTED"):  # the reply
            used.predict({"images": image[None, :40, :40]}, "logits")


def test_a_server_that_is_gone_is_told_over_grpc():
    pytest.importorskip("tensorflow_serving.apis.predict_pb2")
    with (
        Client("grpc://127.0.0.1:9", "small", retries=1, backoff=0.01) as used,
        pytest.raises(ConnectionError, match=r"UNAVAILABLE: .*\(tried 2 times\)"),
    ):
        used.segment(photograph(8, 8))


def test_good_and_malformed_requests_at_once(address, server, labels_of):
    load = benchmark()
    images = load.photographs(None, 6, 60, seed=0)
    requests = load.make_requests(images, labels_of, 60, 0.2, seed=0)
    pid = server[0].pid
    figures = load.load(address, "small", requests, 16, pid)
    assert figures["wrong"] == []
    assert figures["refused"] == 10
    assert figures["answered"] == 50
    assert set(figures["kinds"]) > {*load.COMPLAINTS, load.ONE_PIXEL}
    assert server[0].poll() is None


def test_the_load_test_sees_a_wrong_mask_and_a_wrong_complaint(server, labels_of):
    load = benchmark()
    images = load.photographs(None, 3, 40, seed=0)
    requests = load.make_requests(images, lambda image: 4 - labels_of(image), 6, 0.0, seed=0)
    requests.append(("text", lambda client: client.segment(b""), None))
    figures = load.load(server[1]["rest"], "small", requests, 2, server[0].pid)
    assert figures["answered"] + figures["refused"] == 0
    assert sum("another mask" in line for line in figures["wrong"]) == 6
    assert sum("text: not refused: ValueError('the image is empty" in line for line in figures["wrong"]) == 1


def test_a_version_and_a_model_are_added_while_it_serves(server, models):
    """As docs/serving.md has it: the version by renaming, the model by its line in models.config."""
    image = photograph(30, 40)
    load = benchmark()
    with Client(server[1]["rest"], "growing", retries=0) as used:
        with pytest.raises(NotServed):
            used.status()
        for version, name in ((1, "small"), (2, "fixed")):
            staged = models / "growing" / f".{version}"
            shutil.copytree(models / name / "1", staged)
            staged.rename(models / "growing" / str(version))
            if version == 1:
                assert update_models_config(models) == ["growing"]
            until = time.monotonic() + 30
            while time.monotonic() < until:
                try:
                    if used.status()[0]["version"] == version:
                        break
                except NotServed:
                    pass
                time.sleep(0.1)
            expected = load.local_labels(models / name / "1")(load.file_bytes(image, ".png"))
            np.testing.assert_array_equal(used.segment(image), expected)
            assert used.status()[0]["version"] == version


def test_segment_writes_what_predict_writes(address, models, tmp_path, capsys):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for seed in range(2):
        (folder / f"{seed}.jpg").write_bytes(jpeg(photograph(40, 50 + seed, seed)))
    (tmp_path / "classes.txt").write_text("background\na\nb\nc\nd\n")
    common = [str(folder), "--classes", str(tmp_path / "classes.txt"), "--output-dir"]
    remote, local = tmp_path / "remote", tmp_path / "local"
    assert main(["segment", "--server", address, "--model", "small", *common, str(remote)]) == 0
    assert "2 images segmented" in capsys.readouterr().out
    assert main(["predict", str(models / "small"), *common, str(local)]) == 0
    names = sorted(path.name for path in remote.iterdir())
    assert names == ["0.png", "0_overlay.png", "1.png", "1_overlay.png"]
    for name in ("0.png", "1.png"):
        assert (remote / name).read_bytes() == (local / name).read_bytes()


def test_segment_ends_with_an_error_where_it_cannot_work(address, tmp_path, capsys):
    (tmp_path / "good.png").write_bytes(tf.io.encode_png(photograph(20, 20)).numpy())
    (tmp_path / "bad.png").write_bytes(b"text")
    command = ["segment", "--model", "small", str(tmp_path), "--output-dir", str(tmp_path / "out"), "--server"]
    assert main([*command, address]) == 1
    captured = capsys.readouterr()
    assert "bad.png" in captured.out
    assert "1 images segmented" in captured.out
    assert "1 failed" in captured.err
    assert main([*command, "http://127.0.0.1:9", "--retries", "0"]) == 1
    assert "error: http://127.0.0.1:9 can't be reached" in capsys.readouterr().err
    assert main([*command, address, "--model", "other"]) == 1
    assert "Servable not found" in capsys.readouterr().err
    assert main([*command, "somewhere"]) == 1
    assert "server must be grpc://host:8500" in capsys.readouterr().err


def test_kserves_server_answers_the_same_rest(models, labels_of):
    """Needs KSERVE_PYTHON, the path of an interpreter that has kserve and tensorflow."""
    python = os.environ.get("KSERVE_PYTHON")
    if not python:
        pytest.skip("KSERVE_PYTHON names no interpreter with kserve and tensorflow")
    load = benchmark()
    process, addresses = load.start_server(models, python)
    try:
        requests = load.make_requests(load.photographs(None, 4, 60, seed=0), labels_of, 60, 0.2, seed=0)
        figures = load.load(addresses["rest"], "small", requests, 8, process.pid)
    finally:
        load.stop_server(process)
    assert figures["wrong"] == []
    assert (figures["answered"], figures["refused"]) == (50, 10)
