"""What the workers of a Beam pipeline do, without Beam: finding, records, reading, and what is finished."""

import gzip
import io
import json
import os
import socket
import subprocess
import sys
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from beam_fakes import CLASSES, sample

from keras_deeplab.data.masks import write_label_png
from keras_deeplab.data.settings import DataOptions
from keras_deeplab.inference.beam import places
from keras_deeplab.inference.beam.inputs import Failure, Inputs, Item, reason_of
from keras_deeplab.inference.beam.ledger import Ledger, fingerprint
from keras_deeplab.inference.beam.reading import Reading, Scoring, reading_of
from keras_deeplab.inference.files import encode_png
from keras_deeplab.metrics import ConfusionMatrix
from keras_deeplab.options import OptionError


def found(inputs, excluded="/nowhere", records=False):
    these = Inputs.of([str(each) for each in inputs], str(excluded), records)
    both = [each for pattern in these.patterns for each in these.found(pattern)]
    items = {each.name: each for each in both if isinstance(each, Item)}
    return items, {each.name: each.reason for each in both if isinstance(each, Failure)}


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


# Finding ----------------------------------------------------------------------------------------------------------


def test_names_are_paths_below_the_common_folder(tmp_path):
    touch(tmp_path / "a/x.jpg", tmp_path / "a/x.png", tmp_path / "b/deep/x.jpg", tmp_path / "b/.hidden.jpg")
    touch(tmp_path / "a/notes.txt", tmp_path / "a/val.tfrecord-00000-of-00002")
    items, failures = found([tmp_path / "a", tmp_path / "b/**/*.jpg"])
    assert set(items) == {"a/x.jpg", "a/x.png", "b/deep/x.jpg", "a/val.tfrecord-00000-of-00002"}
    assert failures == {}
    assert [name for name, item in items.items() if item.records] == ["a/val.tfrecord-00000-of-00002"]
    assert set(found([tmp_path / "a/x.jpg"])[0]) == {"x.jpg"}
    assert found([tmp_path / "a/x.*"], records=True)[0]["x.jpg"].records
    assert found([tmp_path / "*/x.jpg"])[0].keys() == {"a/x.jpg"}
    touch(tmp_path / "c/photo[1].jpg")
    assert set(found([tmp_path / "c/photo[1].jpg"])[0]) == {"photo[1].jpg"}


def test_what_is_no_file_is_told_and_never_opened(tmp_path):
    touch(tmp_path / "good.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "gone.jpg").symlink_to("nothing.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "circle").symlink_to(tmp_path, target_is_directory=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tmp_path / "socket.jpg"))
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    items, failures = found([tmp_path])
    assert set(items) == {"good.jpg"}
    told = {
        "pipe.jpg": "named pipe",
        "loop.jpg": "symbolic links",
        "gone.jpg": "isn't there",
        "folder.jpg": "is a folder",
        "socket.jpg": "is a socket",
        "caf\\udce9.jpg": "isn't in UTF-8",
    }
    assert failures.keys() == told.keys()
    assert all(words in failures[name] for name, words in told.items()), failures
    json.dumps(failures).encode("ascii")
    assert set(found([tmp_path / "**/*.jpg"])[0]) == {"good.jpg"}  # the link to itself isn't followed


def test_a_pattern_without_a_match_is_told(tmp_path):
    touch(tmp_path / "a.jpg")
    _, failures = found([tmp_path / "a.jpg", tmp_path / "b*.jpg", tmp_path / "none/c.jpg"])
    assert set(failures.values()) == {"matches no file"}
    assert len(failures) == 2


def test_results_are_no_inputs(tmp_path):
    touch(tmp_path / "a.png", tmp_path / "out/labels/a.png.png")
    assert set(found([tmp_path / "**/*.png"], tmp_path / "out")[0]) == {"a.png"}
    with pytest.raises(ValueError, match=r"out/labels/\*\.png is in the folder of the results"):
        found([tmp_path / "out/labels/*.png"], tmp_path / "out")


def test_inputs_of_two_file_systems_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"2 file systems \(gs, this machine\)"):
        Inputs.of([str(tmp_path), "gs://bucket/*.jpg"], "/out")
    with pytest.raises(ValueError, match="no input"):
        Inputs.of([], "/out")
    these = Inputs.of(["gs://bucket/a/*.jpg", "gs://bucket/b/*.jpg"], "gs://bucket/out")
    assert (these.root, these._name("gs://bucket/b/x.jpg")) == ("gs://bucket", "b/x.jpg")


def test_reasons_are_one_line():
    assert reason_of(ValueError("is\n empty")) == "is empty"
    assert reason_of(KeyError("x")) == "KeyError: 'x'"
    assert reason_of(MemoryError()) == "MemoryError"
    assert len(reason_of(ValueError("x" * 900))) == 500


# Records ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def records():
    pytest.importorskip("google_crc32c", reason="TFRecords are read with google-crc32c, of the extra `beam`")
    from keras_deeplab.inference.beam import records

    return records


def read(records, data):
    return [each if isinstance(each, bytes) else str(each) for each in records.records(io.BytesIO(data))]


def test_records_are_tensorflows(records, tmp_path):
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(tmp_path / "x.tfrecord")) as writer:
        for data in (b"one", b"", b"three" * 1000):
            writer.write(data)
    written = (tmp_path / "x.tfrecord").read_bytes()
    assert read(records, written) == [b"one", b"", b"three" * 1000]
    assert b"".join(map(records.framed, (b"one", b"", b"three" * 1000))) == written
    (tmp_path / "x.tfrecord.gz").write_bytes(gzip.compress(written))
    with places.opened(str(tmp_path / "x.tfrecord.gz")) as file:
        assert len(list(records.records(file))) == 3


def test_a_damaged_record_costs_itself_alone(records):
    first, second, third = map(records.framed, (b"first", b"second", b"third"))
    damaged = second[:14] + b"#" + second[15:]
    assert read(records, first + damaged + third) == [
        b"first",
        "the checksum of the record at byte 21 is wrong",
        b"third",
    ]
    (one, lost) = read(records, first + b"#" + second[1:] + third)
    assert (one, "at byte 21 is wrong" in lost, "the rest of the file is lost" in lost) == (b"first", True, True)
    assert "cut short within the record at byte 21" in read(records, first + second[:-1])[1]
    assert "cut short at byte 21" in read(records, first + second[:5])[1]
    assert "no TFRecord file" in read(records, b"\x89PNG, say, or any other file")[0]


def example(**features):
    import tensorflow as tf

    return tf.train.Example(
        features=tf.train.Features(
            feature={
                key: tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
                if isinstance(value, int)
                else tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                for key, value in features.items()
            }
        )
    ).SerializeToString()


def test_keys_of_deeplab_and_of_tfds(records):
    official = {"image/encoded": b"I", "image/segmentation/class/encoded": b"M", "image/filename": b"2007", "x": 1}
    assert records.encoded(example(**official)) == (b"I", b"M", "2007")
    pets = {"image": b"I", "segmentation_mask": b"M", "file_name": b"cat.jpg", "label": 3}
    assert records.encoded(example(**pets)) == (b"I", b"M", "cat.jpg")
    assert records.encoded(example(image=b"I", label=3)) == (b"I", None, "")
    own = example(photo=b"I", truth=b"M")
    assert records.encoded(own, "photo", "truth") == (b"I", b"M", "")
    with pytest.raises(ValueError, match=r"image_key= \(--image-key\).*It has photo, truth"):
        records.encoded(own)
    with pytest.raises(ValueError, match=r"no bytes under mask; label_key="):
        records.encoded(own, "photo", "mask")
    with pytest.raises(ValueError, match=r"no tf\.train\.Example"):
        records.encoded(b"\xff\xff\xff")


# Reading ----------------------------------------------------------------------------------------------------------


def test_masks_are_found_by_the_names_of_images():
    reading = Reading(masks="/masks")
    assert reading.mask_place("a/b/photo.1.jpg") == "/masks/a/b/photo.1.png"
    assert reading.mask_place("photo") == "/masks/photo.png"
    assert Reading(masks="record").mask_place("photo") is None
    assert Reading().mask_place("photo") is None


def test_a_large_image_is_refused_by_its_header():
    data = encode_png(np.zeros((30, 40, 3), np.uint8))
    assert Reading(max_pixels=1200).image(data, "x.png").shape == (30, 40, 3)
    with pytest.raises(ValueError, match=r"x\.png has 40x30 pixels, 1200 in all.*1199: max_pixels="):
        Reading(max_pixels=1199).image(data, "x.png")
    # Nothing of it is decoded: the header is all that there is.
    header = b"IHDR" + (30000).to_bytes(4, "big") * 2 + data[24:29]
    with pytest.raises(ValueError, match="30000x30000"):
        Reading().image(data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:], "x.png")


def test_masks_are_read_as_asked_and_of_the_images_size(tmp_path):
    image, truth, _ = sample(1)
    write_label_png(tmp_path / "m.png", np.where(truth == 255, 255, truth + 1))
    mask = (tmp_path / "m.png").read_bytes()
    reading = reading_of(DataOptions(label_offset=-1), 3, 3, "/masks")
    np.testing.assert_array_equal(reading.truth(mask, "m.png", b"", image), truth)
    with pytest.raises(ValueError, match=r"^m\.png is 12x9 pixels, but its image is 11x9"):
        reading.truth(mask, "m.png", b"", image[:, 1:])
    with pytest.raises(ValueError, match=r"^m\.png holds 3"):
        reading_of(DataOptions(), 3, 3, "/masks").truth(mask, "m.png", b"", image)


def test_options_without_a_meaning_are_refused():
    with pytest.raises(OptionError, match="val_share is of a data set's layout"):
        reading_of(DataOptions(val_share=0.3), 3, 3, "/masks")
    with pytest.raises(OptionError, match="label_offset is about masks: give masks"):
        reading_of(DataOptions(label_offset=-1), 3, 3, None)
    with pytest.raises(OptionError, match="num_classes does"):
        reading_of(DataOptions(), 3, None, "/masks")


def test_counts_of_images_add_up_to_the_matrix():
    scoring = Scoring(3, 255, CLASSES)
    expected = ConfusionMatrix(3)
    counts = []
    for number in range(4):
        _, truth, labels = sample(number)
        expected.update(truth, labels)
        counts.append(scoring.counts(truth, labels))
    np.testing.assert_array_equal(scoring.total(counts).matrix, expected.matrix)
    assert all(pixels > 0 for each in counts for _, _, pixels in each)


# What is finished -------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(str(tmp_path / "run"))
    made.begin({"model": {"sha256": "1"}})
    return made


def test_an_image_is_finished_with_its_label_file_and_row(ledger, tmp_path):
    stamp, mask = (10, 1.5), (20, 2.5)
    labels = np.ones((2, 3), np.uint8)
    row = {"name": "a/x.jpg", "stamp": stamp, "mask_stamp": mask}
    assert ledger.finished("a/x.jpg", stamp, mask) is None
    written = ledger.commit("a/x.jpg", row, labels, None)
    assert written["labels"] == "labels/a/x.jpg.png"
    assert ledger.finished("a/x.jpg", stamp, mask) == json.loads(json.dumps(written))
    # Changed images and masks are done again, and so is what somebody has removed.
    assert ledger.finished("a/x.jpg", (11, 1.5), mask) is None
    assert ledger.finished("a/x.jpg", stamp, (20, 2.6)) is None
    assert ledger.finished("a/x.jpg", stamp, None) is None
    (tmp_path / "run/labels/a/x.jpg.png").unlink()
    assert ledger.finished("a/x.jpg", stamp, mask) is None
    ledger.commit("a/x.jpg", row, labels, None)
    (tmp_path / "run/rows/a/x.jpg.json").write_text('{"name": "a/')
    assert ledger.finished("a/x.jpg", stamp, mask) is None


def test_the_row_is_written_last(ledger, monkeypatch):
    order = []
    monkeypatch.setattr(places, "replacing", _noting(order, places.replacing))
    ledger.probabilities = True
    ledger.commit("x", {}, np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3), np.float32))
    assert order == ["x.npz", "x.png", "x.json"]


def _noting(order, replacing):
    def noted(place):
        order.append(os.path.basename(place))
        return replacing(place)

    return noted


def test_other_settings_are_refused(ledger, tmp_path):
    again = Ledger(str(tmp_path / "run"))
    assert again.begin({"model": {"sha256": "1"}, "masks": None})
    with pytest.raises(
        ValueError, match=r'other settings: model\.sha256 was "1" and is "2"; masks was null and is "m"'
    ):
        again.begin({"model": {"sha256": "2"}, "masks": "m"})
    touch(tmp_path / "other/file.txt")
    with pytest.raises(ValueError, match=r"holds other files and no run\.json"):
        Ledger(str(tmp_path / "other")).begin({})


def test_many_classes_are_16_bits(ledger, tmp_path):
    from keras_deeplab.data.masks import decode_label_png

    ledger.commit("x", {}, np.full((2, 2), 300, np.int32), None)
    assert decode_label_png((tmp_path / "run/labels/x.png").read_bytes())[0].tolist() == [[300, 300], [300, 300]]


def test_a_fingerprint_changes_with_the_files(tmp_path):
    touch(tmp_path / "m.tflite", tmp_path / "saved/a", tmp_path / "saved/b/c", tmp_path / "ckpt.index")
    kept = {name: fingerprint(str(tmp_path / name)) for name in ("m.tflite", "saved", "ckpt")}
    assert len(set(kept.values())) == 3
    assert None not in kept.values()
    for file in ("m.tflite", "saved/b/c", "ckpt.index"):
        (tmp_path / file).write_bytes(b"y")
    assert all(fingerprint(str(tmp_path / name)) != before for name, before in kept.items())
    assert fingerprint("deeplabv3_mobilenet_v2_voc") is None


# The command ------------------------------------------------------------------------------------------------------


def test_words_after_dashes_are_handed_on(monkeypatch):
    from keras_deeplab.cli import COMMANDS, beam, main

    seen = []
    monkeypatch.setitem(COMMANDS, "beam", SimpleNamespace(**{**vars(beam), "run": seen.append}))
    assert (
        main(["beam", "m.tflite", "a.jpg", "b.jpg", "--flip", "--", "--runner=FlinkRunner", "--output-dir", "x"]) == 0
    )
    (arguments,) = seen
    assert arguments.inputs == ("a.jpg", "b.jpg")
    assert arguments.pipeline_options == ("--runner=FlinkRunner", "--output-dir", "x")
    assert (arguments.network.settings.flip, arguments.many.output_dir) == (True, "predictions")
    assert main(["beam", "m.tflite", "a.jpg"]) == 0
    assert seen[1].pipeline_options is None


def test_a_key_of_labels_needs_masks_in_records(capsys):
    from keras_deeplab.cli import main

    with pytest.raises(SystemExit):
        main(["beam", "m.tflite", "a.tfrecord", "--label-key", "x"])
    assert "--label-key is of masks in records: give --masks record" in capsys.readouterr().err


def test_the_command_is_light_and_says_what_it_needs():
    code = (
        "import sys\n"
        "sys.modules['apache_beam'] = None\n"
        "from keras_deeplab.cli import main\n"
        "import keras_deeplab.cli.beam\n"
        "assert not {'numpy', 'keras', 'tensorflow'} & set(sys.modules)\n"
        "sys.exit(main(['beam', 'm.tflite', 'a.jpg']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "pip install 'keras_deeplab[beam]'" in done.stderr
