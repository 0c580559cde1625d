"""The search for a smaller, faster file: which is taken of those measured, what is refused, and the command itself."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from randomise import randomise

import keras_deeplab
from keras_deeplab import data
from keras_deeplab.cli import main
from keras_deeplab.export import shrinking
from keras_deeplab.export.front import Choice, chart, chosen, front, nearest, table
from keras_deeplab.export.settings import ShrinkOptions
from keras_deeplab.options import OptionError
from keras_deeplab.reports.charts import Dot, Stroke, Words, shapes
from keras_deeplab.specs import Classes
from keras_deeplab.specs.model import with_spec

ONE = Choice("whole", 16, (257, 257), "float32", 0, 10**9, 0.0, 1000, 0.0, 0.0, "a.tflite")


def choices(*rows):
    """Of (milliseconds, mIoU), against a model of 0.8."""
    return [replace(ONE, milliseconds=ms, mean_iou=iou, drop=0.8 - iou) for ms, iou in rows]


FOUR = choices((30.0, 0.79), (10.0, 0.70), (20.0, 0.69), (15.0, 0.77))


def test_the_front_is_what_nothing_beats():
    assert front(FOUR) == [1, 3, 0]
    assert front(choices((5, 0.5), (5, 0.6), (5, 0.6))) == [1]
    small = [FOUR[0], replace(FOUR[0], bytes=10)]
    assert front(small) == [1]


@pytest.mark.parametrize(
    ("latency", "drop", "take"),
    [
        (None, 0.05, 3),  # the fastest that is good enough
        (None, 0.2, 1),
        (16.0, None, 3),  # the best that is fast enough
        (40.0, 0.05, 0),  # both: the best
        (12.0, 0.05, None),
        (5.0, None, None),
        (None, 0.001, None),
    ],
)
def test_which_is_taken(latency, drop, take):
    assert chosen(FOUR, latency, drop) == take


def test_nearest_tells_both_sides():
    fast, good = nearest(FOUR, 12.0, 0.05)
    assert fast.startswith("the best of those within 12 ms: 257x257")
    assert "10.0 ms" in fast
    assert good.startswith("the fastest of those that lose at most 0.05: ")
    assert "15.0 ms" in good
    assert "none takes 5 ms or less; the fastest:" in nearest(FOUR, 5.0, None)[0]
    assert "none loses 0.001 or less; the best:" in nearest(FOUR, None, 0.001)[0]


def test_table_and_chart_have_the_same_numbers():
    lines = table(FOUR, 0.8, take=3).splitlines()
    assert [line.split("|")[1].strip() for line in lines[3:]] == ["1 *", "2 * ->", "3", "4 *"]
    found = shapes(chart(FOUR, 0.8, 16.0))
    marks = {part[0]: word.at for word in found if isinstance(word, Words) for part in word.parts if len(part[0]) == 1}
    assert {"1", "2", "3", "4"} <= marks.keys()
    assert len([one for one in found if isinstance(one, Dot)]) == 4
    assert [len(one.points) for one in found if isinstance(one, Stroke) and one.role == "first"] == [3]
    assert not [one for one in found if isinstance(one, Stroke) and one.role == "second"]
    assert marks["4"][1] < marks["2"][1] < marks["1"][1]  # better is higher


def test_what_is_asked_for():
    with pytest.raises(OptionError, match="Give target_latency, max_miou_drop, or both"):
        ShrinkOptions(sizes=65)
    assert ShrinkOptions(sizes=65, max_miou_drop=0.1).sizes == ((65, 65),)
    assert ShrinkOptions(sizes=(65, 97), max_miou_drop=0.1).sizes == ((65, 97),)
    assert ShrinkOptions(sizes=[65, (33, 49)], max_miou_drop=0.1).sizes == ((65, 65), (33, 49))
    with pytest.raises(OptionError, match="each value once"):
        ShrinkOptions(sizes=[65, 65], max_miou_drop=0.1)
    with pytest.raises(OptionError, match="sizes must be N or"):
        ShrinkOptions(sizes="dynamic", max_miou_drop=0.1)


def small_model(num_classes, size=None):
    inputs = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(inputs)
    x = keras.layers.Conv2D(8, 3, 2, "same", activation="relu", name="first")(x)
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="second")(x)
    x = keras.layers.Conv2D(num_classes, 1, name="logits")(x)
    return randomise(keras.Model(inputs, keras_deeplab.layers.ResizeBilinear(name="upsample_logits")([x, inputs])))


def test_refusals_before_any_work(tmp_path):
    model, source = small_model(6), data.load("synthetic", split="val", num_examples=1, size=(40, 56))
    options = {"sizes": 33, "max_miou_drop": 0.5, "progress": False}
    out = tmp_path / "out.tflite"
    with pytest.raises(ValueError, match="pruned networks need labelled images"):
        shrinking.shrink(model, source, out, **options)
    with pytest.raises(ValueError, match="int8 needs images"):
        shrinking.shrink(model, source, out, multiply_adds=(1.0,), **options)
    with pytest.raises(ValueError, match="precision"):
        shrinking.shrink(model, source, out, training=source, precisions=("int4",), **options)
    with pytest.raises(ValueError, match="takes precision 'int8'; received 'float32'"):
        shrinking.shrink(model, source, out, training=source, target="edgetpu", **options)
    assert list(tmp_path.iterdir()) == []


def test_float_tensors_only_where_they_may_help():
    settings = ShrinkOptions(sizes=33, max_miou_drop=0.1, float_tensors=(4, 2, 0))
    assert shrinking._float_tensors(settings, [0.05, 0.3]) == (2, 4)
    assert shrinking._float_tensors(settings, []) == (2, 4)
    assert shrinking._float_tensors(settings, [0.2]) == ()  # lost in float32 too
    assert shrinking._float_tensors(settings.with_options(target="edgetpu"), [0.05]) == ()
    assert shrinking._float_tensors(ShrinkOptions(sizes=33, target_latency=1.0), [0.05]) == ()


def test_labels_are_scaled_back_to_the_image(tmp_path, monkeypatch):
    seen = []

    def predict(image):
        seen.append(image.shape)
        return (image[..., 0] > 127).astype("uint8")

    predict.spec = None
    monkeypatch.setattr(shrinking, "predictor", lambda path: predict)
    at = shrinking.at_size("file", (20, 32))
    image = np.zeros((40, 60, 3), "uint8")
    image[:, 30:] = 255
    labels = at(image)
    assert seen == [(20, 30, 3)]
    assert labels.shape == (40, 60)
    np.testing.assert_array_equal(labels, image[..., 0] // 255)
    assert at(image[:20, :32]).shape == (20, 32)
    assert seen[-1] == (20, 32, 3)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 255])
def test_one_class_and_as_many_as_masks_hold(tmp_path, count):
    from keras_deeplab.data.source import indexed

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (4, 33, 33, 3), "uint8")
    classes = ("off", "on") if count == 1 else tuple(f"c{i}" for i in range(count))
    model = small_model(count)
    truths = [keras_deeplab.predictor(model)(image).astype("uint8") for image in images]
    source = indexed("made", list(classes), 4, lambda i: (images[i], truths[i], str(i)))
    out = tmp_path / "out.tflite"
    options = {"sizes": 33, "max_miou_drop": 0.01, "precisions": ("float32",), "rounds": 1, "progress": False}
    found = shrinking.shrink(model, source, out, multiply_adds=(1.0,), log=lambda line: None, **options)
    assert found.take == 0
    assert out.is_file()
    assert found.mean_iou == pytest.approx(1.0)
    assert found.choices[0].drop == pytest.approx(0.0, abs=0.01)


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    source = data.load("synthetic", split="train", num_examples=4, size=(40, 56))
    from keras_deeplab._helpers.opencv import cv2
    from keras_deeplab.data.masks import write_label_png

    for sub in ("images", "masks", "splits"):
        (tmp_path / "data" / sub).mkdir(parents=True)
    names = []
    for sample in source.dataset().as_numpy_iterator():
        names.append(sample["name"].decode())
        cv2.imwrite(str(tmp_path / "data" / "images" / f"{names[-1]}.png"), sample["image"][..., ::-1])
        write_label_png(tmp_path / "data" / "masks" / f"{names[-1]}.png", sample["label"])
    (tmp_path / "data" / "splits" / "train.txt").write_text("\n".join(names[:2]))
    (tmp_path / "data" / "splits" / "val.txt").write_text("\n".join(names[2:]))
    (tmp_path / "data" / "classes.txt").write_text("\n".join(source.classes))
    model = small_model(source.num_classes)
    with_spec(model, classes=Classes(tuple(source.classes))).save(tmp_path / "model.keras")
    words = ["shrink", str(tmp_path / "model.keras"), str(tmp_path / "data"), str(tmp_path / "out.tflite")]
    words += ["--input-sizes", "40x56", "--multiply-adds", "1,0.6", "--rounds", "1", "--precisions", "int8,float32"]
    # Nothing is fast enough: the nearest is told, and no file stands under the name.
    assert main([*words, "--target-latency", "0.000001"]) == 1
    told = capsys.readouterr()
    assert "no file meets what was asked for" in told.err
    assert "none takes 1e-06 ms or less; the fastest:" in told.err
    assert not (tmp_path / "out.tflite").exists()
    folder = tmp_path / "out.choices"
    files = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tflite")}
    assert len(files) == 4
    assert (folder / "front.png").read_bytes().startswith(b"\x89PNG")
    # Again, with another wish: nothing is measured anew, and the file is one of those.
    assert main([*words, "--max-miou-drop", "1"]) == 0
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tflite")} == files
    written = json.loads((folder / "choices.json").read_text())
    assert (tmp_path / "out.tflite").read_bytes() == (folder / written["taken"]).read_bytes()
    assert written["images"] == 2
    assert len(written["choices"]) == 4
    scores = {one["path"]: one["mean_iou"] for one in written["choices"]}
    whole = keras_deeplab.evaluate(tmp_path / "model.keras", data.load(tmp_path / "data", split="val"), progress=False)
    assert scores["40x56_whole_float32.tflite"] == pytest.approx(whole.mean_iou, abs=1e-6)
    pruned = keras_deeplab.load(folder / "pruned-0.6.keras")
    assert pruned.spec.widths
    assert pruned.count_params() < model.count_params()
    # Other data's measurements aren't taken for these.
    assert main([*words, "--max-miou-drop", "1", "--limit", "1"]) == 1
    assert "holds measurements of something else (other limit)" in capsys.readouterr().err


@pytest.mark.slow
def test_prune_writes_a_file(tmp_path, capsys):
    model = small_model(6)
    model.save(tmp_path / "model.keras")
    words = ["prune", str(tmp_path / "model.keras"), "synthetic", str(tmp_path / "out.keras"), "--samples", "2"]
    assert main([*words, "--limit", "2", "--multiply-adds", "0.6", "--input-size", "40"]) == 0
    assert "multiply-adds at 40x40:" in capsys.readouterr().out
    assert keras_deeplab.load(tmp_path / "out.keras").spec.widths
    with pytest.raises(SystemExit):
        main(["prune", str(tmp_path / "model.keras"), "synthetic", str(tmp_path / "out.h5")])
