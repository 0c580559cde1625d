"""Very many images through Apache Beam's local runner. Skipped without Beam, which the extra `beam` brings."""

import functools
import gzip
import json
import os
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from beam_fakes import CLASSES, ByRed, by_red, sample, store

from keras_deeplab.data.masks import decode_label_png, write_label_png
from keras_deeplab.data.source import indexed
from keras_deeplab.inference.answers import Answer
from keras_deeplab.inference.beam.settings import ManyOptions
from keras_deeplab.inference.evaluation import evaluate
from keras_deeplab.inference.files import encode_png
from keras_deeplab.inference.predictor import Predictor

# What Beam itself warns of is not ours.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def beam():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("apache_beam", reason="needs Apache Beam: pip install 'keras_deeplab[beam]'")


def segment(make, inputs, folder, **options):
    from keras_deeplab.inference.beam.pipeline import segment_many

    inputs = [str(each) for each in inputs]
    return segment_many(make, inputs, ManyOptions(output_dir=str(folder), **options), model={"name": "by red"})


def write_images(root, numbers, size=lambda number: (9 + number % 3, 12)):
    for folder in ("images", "masks"):
        (root / folder).mkdir(exist_ok=True)
    for number in numbers:
        image, truth, _ = sample(number, size(number))
        (root / f"images/{number}.png").write_bytes(encode_png(image))
        write_label_png(root / f"masks/{number}.png", truth)


def source(numbers, size=lambda number: (9 + number % 3, 12)):
    numbers = list(numbers)

    def read(index):
        image, truth, _ = sample(numbers[index], size(numbers[index]))
        return image, truth, str(numbers[index])

    return indexed("samples", CLASSES, len(numbers), read)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def asked(log):
    return sorted(map(int, log.read_text().split()))


# The handler ------------------------------------------------------------------------------------------------------


class Batches(ByRed):
    def __init__(self):
        super().__init__()
        self.shapes = []

    def scores(self, images):
        self.shapes.append(images.shape)
        return super().scores(images)


def test_images_of_one_size_are_run_at_once(beam):
    from keras_deeplab.inference.beam.handler import Loaded, SegmentationHandler

    runtime = Batches()
    images = [sample(number, size)[0] for number, size in enumerate([(9, 12), (7, 8), (9, 12), (13, 9), (13, 9)])]
    handler = SegmentationHandler(by_red, batch_size=5, errors="return")
    results = handler.run_inference(images, Loaded(Predictor(runtime)))
    assert runtime.shapes == [(2, 9, 12, 3), (1, 7, 8, 3), (2, 13, 9, 3), (1, 13, 9, 3), (1, 13, 9, 3)]
    for image, result in zip(images[:3], results[:3], strict=True):
        assert result.example is image
        np.testing.assert_array_equal(result.inference, image[..., 0] // 100)
    assert [result.inference for result in results[3:]] == ["RuntimeError: 13 rows bring bad luck"] * 2
    with pytest.raises(RuntimeError, match="bad luck"):
        SegmentationHandler(by_red).run_inference(images[3:], Loaded(Predictor(runtime)))


def test_a_model_is_asked_by_one_thread_at_a_time(beam):
    from keras_deeplab.inference.beam.handler import Loaded

    class Busy(ByRed):
        busy = False

        def scores(self, images):
            assert not self.busy
            self.busy = True
            time.sleep(0.01)
            self.busy = False
            return super().scores(images)

    loaded = Loaded(Predictor(Busy()))
    images = sample(1)[0][None]
    with ThreadPoolExecutor(4) as pool:
        asks = [pool.submit(ask, images) for ask in [loaded.labels, loaded.answer] * 4]
    assert all(ask.exception() is None for ask in asks)


def test_answers_have_probabilities(beam):
    from keras_deeplab.inference.beam.handler import SegmentationHandler

    handler = SegmentationHandler(by_red, answers=True)
    (result,) = handler.run_inference([sample(1)[0]], handler.load_model())
    assert isinstance(result.inference, Answer)
    assert result.inference.probabilities.shape == (9, 12, 3)
    assert result.inference.labels.shape == (9, 12)


def test_the_handler_refuses_what_it_cannot_send(beam):
    import keras

    from keras_deeplab.inference.beam.handler import SegmentationHandler

    inputs = keras.Input((None, None, 3))
    for model in (keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs)), None):
        with pytest.raises(ValueError, match="path of a model"):
            SegmentationHandler(model)
    with pytest.raises(ValueError, match="and input_size"):
        SegmentationHandler(by_red, input_size=9)
    with pytest.raises(ValueError, match="must make a Predictor; it made dict"):
        SegmentationHandler(dict).load_model()
    with pytest.raises(ValueError, match="batch_size"):
        SegmentationHandler(by_red, batch_size=0)


def test_the_handler_in_a_pipeline_of_ones_own(beam, tmp_path):
    from apache_beam.ml.inference.base import KeyedModelHandler, RunInference

    from keras_deeplab.inference.beam.handler import SegmentationHandler
    from keras_deeplab.inference.beam.pipeline import LOCAL

    def write(keyed):
        (tmp_path / keyed[0]).write_text(str(int(keyed[1].inference.sum())))

    with beam.Pipeline(LOCAL) as pipeline:
        _ = (
            pipeline
            | beam.Create([(f"{number}", sample(number)[0]) for number in range(2)])
            | RunInference(KeyedModelHandler(SegmentationHandler(by_red)))
            | beam.Map(write)
        )
    assert [int((tmp_path / str(number)).read_text()) for number in range(2)] == [
        int(sample(number)[2].sum()) for number in range(2)
    ]


# Files ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_files_to_labels_rows_and_the_matrix_of_evaluate(tmp_path):
    write_images(tmp_path, range(7))
    image, truth, _ = sample(7, (13, 12))
    (tmp_path / "images/unlucky.png").write_bytes(encode_png(image))
    write_label_png(tmp_path / "masks/unlucky.png", truth)
    (tmp_path / "images/empty.png").write_bytes(b"")
    write_label_png(tmp_path / "masks/empty.png", np.zeros((9, 12), np.uint8))
    (tmp_path / "images/unmasked.png").write_bytes(encode_png(image))
    (tmp_path / "images/wide.png").write_bytes(encode_png(image[:9]))
    write_label_png(tmp_path / "masks/wide.png", truth)
    (tmp_path / "images/stray.png").write_bytes(encode_png(image[:9]))
    write_label_png(tmp_path / "masks/stray.png", np.full((9, 12), 5, np.uint8))
    os.mkfifo(tmp_path / "images/pipe.png")
    write_label_png(tmp_path / "masks/pipe.png", truth)
    (tmp_path / f"images/{'n' * 251}.png").write_bytes(encode_png(image[:9]))
    (tmp_path / f"masks/{'n' * 251}.png").write_bytes((tmp_path / "masks/0.png").read_bytes())
    run, log = tmp_path / "run", tmp_path / "log"

    # Two patterns that both match everything.
    inputs = [tmp_path / "images", tmp_path / "images/*.png"]
    make = functools.partial(by_red, str(log))
    summary = segment(make, inputs, run, masks=str(tmp_path / "masks"), probabilities=True)
    assert (summary.answered, summary.before, summary.failed) == (7, 0, 7)
    assert asked(log) == [*range(7), 7, 7]  # the unlucky one, and the one whose name has no room for an ending

    expected = evaluate(by_red(), source(range(7)), progress=False)
    np.testing.assert_array_equal(summary.matrix.matrix, expected.matrix)
    assert summary.matrix.table() == expected.table()
    assert json.loads((run / "confusion.json").read_text()) == expected.to_dict()
    rows = lines(run / "predictions.jsonl")
    assert [row["name"] for row in rows] == [f"{number}.png" for number in range(7)]
    for number, row in enumerate(rows):
        _, _, labels = sample(number, (9 + number % 3, 12))
        np.testing.assert_array_equal(decode_label_png((run / row["labels"]).read_bytes())[0], labels)
        with np.load(run / row["probabilities"]) as stored:
            np.testing.assert_array_equal(stored["probabilities"].argmax(-1), labels)
        assert (row["height"], row["width"]) == labels.shape

    reasons = {row["name"]: row["reason"] for row in lines(run / "failures.jsonl")}
    told = {
        "unlucky.png": "bad luck",
        "empty.png": "is empty",
        "unmasked.png": "there is no mask",
        "wide.png": "12x13 pixels, but its image is 12x9",
        "stray.png": "holds 5",
        "pipe.png": "named pipe",
        f"{'n' * 251}.png": "File name too long",
    }
    assert reasons.keys() == told.keys()
    assert all(words in reasons[name] for name, words in told.items()), reasons

    # Again: nothing is asked; one that has changed, one whose result is gone and one that is mended are done.
    log.write_text("")
    changed = sample(0, (9, 12))
    changed[0][0, 0, 1] = 50
    (tmp_path / "images/0.png").write_bytes(encode_png(changed[0]))
    (run / "labels/1.png.png").unlink()
    (tmp_path / "images/empty.png").write_bytes(encode_png(np.full((9, 12, 3), 60, np.uint8)))
    summary = segment(make, inputs, run, masks=str(tmp_path / "masks"), probabilities=True)
    assert (summary.answered, summary.before, summary.failed) == (8, 5, 6)
    assert asked(log) == [1, 7, 7, 50, 60]
    assert len(lines(run / "predictions.jsonl")) == 8


@pytest.mark.slow
def test_killed_and_restarted(tmp_path):
    write_images(tmp_path, range(10))
    killed, whole, log = tmp_path / "killed", tmp_path / "whole", tmp_path / "log"
    code = (
        "import functools, sys\n"
        f"sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "from beam_fakes import by_red\n"
        "from test_inference_beam import segment\n"
        f"make = functools.partial(by_red, {str(log)!r}, stop_after=4)\n"
        f"segment(make, [{str(tmp_path / 'images')!r}], {str(killed)!r}, masks={str(tmp_path / 'masks')!r})\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, timeout=600, check=False)
    assert done.returncode == 9, done.stderr.decode()[-2000:]
    before = asked(log)
    assert len(before) == 4
    assert not (killed / "predictions.jsonl").exists()

    masks = str(tmp_path / "masks")
    summary = segment(functools.partial(by_red, str(log)), [tmp_path / "images"], killed, masks=masks)
    assert asked(log) == [*range(10)]  # none of them twice
    assert (summary.answered, summary.before, summary.failed) == (10, 4, 0)
    segment(by_red, [tmp_path / "images"], whole, masks=masks)
    there, expected = (
        {file.relative_to(run): file.read_bytes() for file in run.rglob("*") if file.is_file()}
        for run in (killed, whole)
    )
    assert json.loads(there.pop(Path("summary.json")))["before"] == 4
    assert json.loads(expected.pop(Path("summary.json")))["before"] == 0
    assert there == expected


def test_settings_that_differ_are_refused_before_anything_runs(tmp_path):
    write_images(tmp_path, [1])
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text("{}")
    with pytest.raises(ValueError, match="begun with other settings"):
        segment(by_red, [tmp_path / "images"], tmp_path / "run")
    from keras_deeplab.inference.beam.pipeline import segment_many

    options = ManyOptions(output_dir=str(tmp_path / "other"))
    with pytest.raises(ValueError, match="no option --runer: did you mean 'runner'"):
        segment_many(by_red, [str(tmp_path / "images")], options, model={}, pipeline_options=["--runer=Flink"])
    assert not (tmp_path / "other").exists()


def test_masks_of_0_and_255_are_asked_about(tmp_path):
    write_images(tmp_path, [1])
    write_label_png(tmp_path / "masks/1.png", np.full((10, 12), 255, np.uint8))
    with pytest.raises(ValueError, match=r"hold 0 and 255 alone.*mask_encoding"):
        segment(by_red, [tmp_path / "images"], tmp_path / "run", masks=str(tmp_path / "masks"))
    assert not (tmp_path / "run").exists()


# Records and stores -----------------------------------------------------------------------------------------------


@pytest.fixture
def held(beam):
    objects, _ = store()
    objects.clear()
    return objects


def shard(numbers, damage=()):
    """A TFRecord file of samples as research/deeplab writes them, some records damaged."""
    import tensorflow as tf

    from keras_deeplab.inference.beam.records import framed

    parts = []
    for number in numbers:
        image, truth, _ = sample(number)
        features = {
            "image/encoded": encode_png(image),
            "image/filename": f"photo{number}.png".encode(),
            "image/segmentation/class/encoded": encode_png(truth),
        }
        feature = {
            key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for key, value in features.items()
        }
        data = framed(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
        parts.append(data[:-1] + bytes([data[-1] ^ 1]) if number in damage else data)
    return b"".join(parts)


@pytest.mark.slow
def test_records_at_addresses(held, tmp_path):
    held["held://bucket/val/a.tfrecord"] = (shard(range(4), damage=[2]), 1.0)
    held["held://bucket/val/b.tfrecord.gz"] = (gzip.compress(shard(range(4, 6)) + b"cut"), 2.0)
    held["held://bucket/val/c.tfrecord"] = (b"no records, but more than twelve bytes", 3.0)
    held["held://bucket/val/d.png"] = (encode_png(sample(1)[0]), 4.0)
    log = tmp_path / "log"
    make = functools.partial(by_red, str(log))
    summary = segment(make, ["held://bucket/val/*"], "held://bucket/run", masks="record")
    numbers = [0, 1, 3, 4, 5]
    assert (summary.answered, summary.failed) == (5, 4)
    expected = evaluate(by_red(), source(numbers, lambda number: (9, 12)), progress=False)
    np.testing.assert_array_equal(summary.matrix.matrix, expected.matrix)
    rows = [json.loads(line) for line in held["held://bucket/run/predictions.jsonl"][0].splitlines()]
    assert [(row["name"], row["filename"]) for row in rows] == [
        ("a.tfrecord/000000", "photo0.png"),
        ("a.tfrecord/000001", "photo1.png"),
        ("a.tfrecord/000003", "photo3.png"),
        ("b.tfrecord.gz/000000", "photo4.png"),
        ("b.tfrecord.gz/000001", "photo5.png"),
    ]
    labels, _ = decode_label_png(held["held://bucket/run/labels/a.tfrecord/000003.png"][0])
    np.testing.assert_array_equal(labels, sample(3)[2])
    reasons = {
        row["name"]: row["reason"] for row in map(json.loads, held["held://bucket/run/failures.jsonl"][0].splitlines())
    }
    assert "checksum of the record" in reasons.pop("a.tfrecord/000002")
    assert "cut short" in reasons.pop("b.tfrecord.gz/000002")
    assert "no TFRecord file" in reasons.pop("c.tfrecord/000000")
    assert "is no TFRecord file, and masks are looked for in records" in reasons.pop("d.png")
    assert not reasons
    again = segment(make, ["held://bucket/val/*"], "held://bucket/run", masks="record")
    assert (again.answered, again.before) == (5, 5)
    assert asked(log) == numbers


def test_models_are_fetched(held):
    from keras_deeplab.inference.beam import places

    held["held://bucket/m.tflite"] = (b"model", 1.0)
    held["held://bucket/saved/variables/v.data"] = (b"weights", 1.0)
    with places.fetched("held://bucket/m.tflite") as path:
        assert path.endswith("m.tflite")
        assert Path(path).read_bytes() == b"model"
    with places.fetched("held://bucket/saved/") as path:
        assert Path(path, "variables/v.data").read_bytes() == b"weights"
    with pytest.raises(FileNotFoundError, match="held://bucket/none"), places.fetched("held://bucket/none"):
        pass
    places.write("held://bucket/x.txt", b"one")
    places.write("held://bucket/x.txt", b"two")
    assert places.read("held://bucket/x.txt") == b"two"
    assert sorted(held) == ["held://bucket/m.tflite", "held://bucket/saved/variables/v.data", "held://bucket/x.txt"]
    assert places.stamp("held://bucket/x[1].txt") is None
