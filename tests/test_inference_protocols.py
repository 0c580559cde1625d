"""Protocols by name: what is scored, by which options, and the line that says so."""

import json
import re

import keras
import numpy as np
import pytest
from randomise import randomise

import keras_deeplab
from keras_deeplab.backbones import BACKBONES, Backbone
from keras_deeplab.cli import main
from keras_deeplab.data.source import indexed
from keras_deeplab.inference.evaluation import evaluate
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.inference.protocols import PROTOCOLS, EvaluationOptions, Protocol, ScoringOptions
from keras_deeplab.inference.runtimes import Runtime
from keras_deeplab.inference.samples import centre, scaled_sample
from keras_deeplab.metrics import ConfusionMatrix
from keras_deeplab.models.strides import with_output_stride
from keras_deeplab.options import options
from keras_deeplab.specs import Classes, ModelSpec
from keras_deeplab.specs.model import with_spec


class Brightness(Runtime):
    """Two classes: dark and bright."""

    name = "the brightness"

    def __init__(self, stride=16):
        self.spec, self.fed = ModelSpec(2, output_stride=stride), []

    def scores(self, images):
        self.fed.append(images.shape[1:3])
        bright = images.mean(-1) / 255
        return np.stack([1 - bright, bright], -1)


def sample(index):
    rng = np.random.default_rng(index)
    label = rng.integers(0, 2, (30 + index, 40)).astype(np.uint8)
    image = np.repeat((label * 200)[..., None], 3, -1).astype(np.uint8)
    label[:3] = 255
    return image, label, f"sample {index}"


SOURCE = indexed("three", ["dark", "bright"], 3, sample)


def test_every_protocol_is_one_that_can_be_asked_for():
    known = options(EvaluationOptions)
    for name, row in PROTOCOLS.items():
        assert row.source, name
        assert "protocol" not in row.options, name
        settings = EvaluationOptions.of(ScoringOptions.preset_for({"protocol": name}), protocol=name)
        for option, value in row.options.items():
            assert settings.values()[option] == known[option].check(value) != known[option].usual(), (name, option)
        assert settings.name == name


def test_scores_say_how_they_came_about():
    runtime = Brightness()
    matrix = evaluate(runtime, SOURCE, progress=False)
    assert matrix.protocol == "whole image, output stride 16"
    assert matrix.table().splitlines()[-1] == f"protocol: {matrix.protocol}"
    matrix = evaluate(runtime, SOURCE, protocol="tf1_voc", limit=2, progress=False)
    assert matrix.protocol == "tf1_voc: whole image, padded to 513x513, output stride 16, first 2 of 3 images"
    assert set(runtime.fed[-2:]) == {(513, 513)}
    assert matrix.to_dict()["protocol"] == matrix.protocol
    matrix = evaluate(runtime, SOURCE, protocol="tf1_voc", input_size=64, flip=True, progress=False)
    assert matrix.protocol.startswith("tf1_voc, changed (input_size, flip): whole image, padded to 64x64, mirrored too")
    ready = predictor(runtime, 64)
    assert evaluate(ready, SOURCE, progress=False).protocol == "whole image, padded to 64x64, output stride 16"
    crop = evaluate(ready, SOURCE, centre_crop=5, progress=False)
    assert crop.protocol == "cut to its centre of 5x5 (mask too), whole image, padded to 64x64, output stride 16"
    assert crop.num_pixels == 3 * 25
    function = evaluate(lambda image: image[..., 0] // 200, SOURCE, progress=False)
    assert function.protocol == "a function that predicts, whole image"


def test_parts_of_a_set_add_up_and_say_both_protocols():
    one, other = ConfusionMatrix(2), ConfusionMatrix(2)
    one.protocol, other.protocol = "a", "a"
    assert (one + other).protocol == "a"
    other.protocol = "b"
    assert (one + other).protocol == "a | b"
    assert (ConfusionMatrix(2) + ConfusionMatrix(2)).protocol is None
    assert "protocol" not in ConfusionMatrix(2).table()


def test_a_predictor_keeps_the_options_that_it_was_made_with():
    runtime = Brightness()
    ready = predictor(runtime, 64, flip=True)
    for protocol, told in (("tf1_voc", r"output_stride=16.* with output_stride=None"), ("whole", "input_size=None")):
        with pytest.raises(ValueError, match=rf"protocol='{protocol}' is of a predictor with {told}.*give the model"):
            evaluate(ready, SOURCE, protocol=protocol, progress=False)
    with pytest.raises(ValueError, match="scales can't be chosen for a Predictor that is already made"):
        evaluate(ready, SOURCE, average="max", flip=True, scales=(1.0, 2.0), progress=False)
    with pytest.raises(ValueError, match="input_size can't be chosen for a function that predicts"):
        evaluate(lambda image: image[..., 0], SOURCE, protocol="tf1_voc", output_stride=None, progress=False)
    with pytest.raises(ValueError, match="flip can't be chosen for a function that predicts"):
        evaluate(lambda image: image[..., 0], SOURCE, flip=True, progress=False)
    # The same options again are no others.
    assert evaluate(ready, SOURCE, input_size=64, flip=True, progress=False).mean_iou > 0
    with pytest.raises(ValueError, match="Unknown protocol 'torchvison': did you mean 'torchvision'"):
        evaluate(runtime, SOURCE, protocol="torchvison", progress=False)


def test_a_fixed_graph_has_the_output_stride_that_it_tells():
    assert predictor(Brightness(8), output_stride=8).spec.output_stride == 8
    with pytest.raises(ValueError, match=r"output_stride=8 can't be chosen .*at output stride 16.*\.keras file or"):
        predictor(Brightness(), output_stride=8)
    with pytest.raises(ValueError, match="nothing tells its output stride"):
        evaluate(Brightness(None), SOURCE, protocol="tf1_voc", progress=False)


# What is scored ---------------------------------------------------------------------------------------------------


def test_the_centre_of_vainf_is_scored():
    """Image and mask scaled to the crop's side, then cut in the middle; masks hold nothing new."""
    runtime = Brightness()
    scoring = ScoringOptions(sample_side=20, centre_crop=(20, 20))
    expected = ConfusionMatrix(2)
    for index in range(3):
        image, label, _ = sample(index)
        scaled, mask = scaled_sample(image, label, 20)
        left = round((scaled.shape[1] - 20) / 2)
        assert left in (2, 3)
        scaled, mask = scaled[:, left : left + 20], mask[:, left : left + 20]
        assert set(np.unique(mask)) == {0, 1, 255}
        for found, wanted in zip(scoring.sample(image, label), (scaled, mask), strict=True):
            np.testing.assert_array_equal(found, wanted)
        expected.update(mask, (scaled.mean(-1) > 127.5).astype(int))
    found = evaluate(runtime, SOURCE, sample_side=20, centre_crop=20, progress=False)
    np.testing.assert_array_equal(found.matrix, expected.matrix)
    assert set(runtime.fed) == {(20, 20)}


@pytest.mark.parametrize(("size", "shorter"), [((37, 50), 51), ((50, 37), 52), ((37, 50), 20), ((31, 64), 7)])
def test_samples_are_scaled_as_pil_does(size, shorter):
    image_of = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    label = rng.integers(0, 21, size).astype(np.uint8)
    scaled, mask = scaled_sample(image, label, shorter)
    height, width = scaled.shape[:2]
    assert min(height, width) == shorter
    assert max(height, width) == int(shorter * max(size) / min(size))
    expected = image_of.fromarray(image).resize((width, height), image_of.Resampling.BILINEAR)
    assert np.abs(scaled.astype(int) - np.asarray(expected)).max() <= 1
    nearest = image_of.fromarray(label).resize((width, height), image_of.Resampling.NEAREST)
    np.testing.assert_array_equal(mask, nearest)


def test_a_sample_of_that_size_is_left_alone_and_a_centre_is_no_padding():
    image, label, _ = sample(0)
    assert scaled_sample(image, label, 30)[0] is image
    np.testing.assert_array_equal(centre(label, (30, 3)), label[:, 18:21])
    np.testing.assert_array_equal(centre(label, (50, 40)), label)


# Output stride ----------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch):
    """The name of a backbone of five convolutions."""

    def build(input_shape=(None, None, 3)):
        x = inputs = keras.Input(input_shape)
        for stage in range(1, 6):
            x = keras.layers.Conv2D(4 * stage, 3, 2, padding="same", activation="relu", name=f"stage{stage}")(x)
        return keras.Model(inputs, x, name="tiny")

    monkeypatch.setitem(BACKBONES, "tiny", Backbone(build, low_level="stage2", preprocessing="tf"))
    return "tiny"


@pytest.mark.parametrize(
    ("builder", "settings", "rates"),
    [
        ("DeepLabV3", {"filters": 8}, (12, 24, 36)),
        pytest.param("DeepLabV3Plus", {"filters": 8, "atrous_rates": (2, 3)}, (4, 6), marks=pytest.mark.slow),
    ],
)
def test_a_model_at_another_output_stride_has_its_weights_and_twice_its_rates(tiny, builder, settings, rates):
    classes = Classes(("a", "b", "c"))
    model = randomise(getattr(keras_deeplab, builder)(tiny, num_classes=3, classes=classes, **settings))
    other = with_output_stride(model, 8)
    assert (other.spec.output_stride, other.spec.classes, other.name) == (8, classes, model.name)
    dilations = [layer.dilation_rate for layer in other.layers if re.fullmatch(r"aspp[1-9](_depthwise)?", layer.name)]
    assert dilations == [(rate, rate) for rate in rates]
    for mine, its in zip(model.weights, other.weights, strict=True):
        assert mine.path == its.path
        np.testing.assert_array_equal(mine, its)
    assert with_output_stride(model, 16) is model
    (image, _, _) = sample(0)
    predict = predictor(model, output_stride=8)
    assert predict.protocol == "whole image, output stride 8"
    np.testing.assert_array_equal(predict.probabilities(image), predictor(other).probabilities(image))
    assert np.abs(predict.probabilities(image) - predictor(model).probabilities(image)).max() > 1e-3


def test_other_output_strides_are_refused_where_nothing_tells_how_the_model_was_built(tiny):
    inputs = keras.Input((None, None, 3))
    plain = keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs))
    with pytest.raises(ValueError, match=r"doesn't tell how it was built.*build it with output_stride=8"):
        predictor(plain, output_stride=8)
    # A record of another network than the layers are.
    record = keras_deeplab.DeepLabV3(tiny, num_classes=2, filters=8).spec
    with pytest.raises(ValueError, match="has other layers than its record tells of"):
        predictor(with_spec(plain, record), output_stride=8)


# The command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A data set of three samples, and the model that tells their labels."""
    cv2 = pytest.importorskip("cv2")
    for name in ("images", "masks", "splits"):
        (tmp_path / name).mkdir()
    for index in range(3):
        image, label, _ = sample(index)
        cv2.imwrite(str(tmp_path / "images" / f"{index}.png"), image)
        cv2.imwrite(str(tmp_path / "masks" / f"{index}.png"), label)
    (tmp_path / "splits" / "val.txt").write_text("0\n1\n2\n")
    (tmp_path / "classes.txt").write_text("dark\nbright\n")
    inputs = keras.Input((None, None, 3))
    layer = keras.layers.Conv2D(2, 1)
    model = keras.Model(inputs, layer(inputs))
    kernel = np.zeros((1, 1, 3, 2), np.float32)
    kernel[..., 0, 1] = 1
    layer.set_weights([kernel, np.array([0, -100], np.float32)])
    with_spec(model, classes=Classes(("dark", "bright"))).save(tmp_path / "model.keras")
    return tmp_path


def test_the_command_scores_by_protocol(folder, capsys):
    words = ["evaluate", str(folder / "model.keras"), str(folder), "--json", str(folder / "scores.json")]
    assert main([*words, "--protocol", "mmseg_voc", "--shorter-side", "30", "--limit", "2"]) == 0
    line = (
        "mmseg_voc, changed (shorter_side): whole image, shorter side scaled to 30, longer 2048 at most, first 2 of 3 "
        "images"
    )
    assert capsys.readouterr().out.splitlines()[-1] == f"protocol: {line}"
    assert json.loads((folder / "scores.json").read_text())["protocol"] == line
    assert main([*words, "--windows", "16", "--flip", "--average", "max", "--centre-crop", "20"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "protocol: cut to its centre of 20x20 (mask too), windows of 16x16 every 11x11 pixels (mean of scores), "
        "mirrored too (maximum of probabilities)"
    )
    assert main([*words, "--protocol", "tf1_voc"]) == 1
    assert "build it with --output-stride 16" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words, "--protocol", "vainf"])
    assert "did you mean 'vainf_voc'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words, "--window-stride", "9"])
    assert "--window-stride is of --windows, which are not asked for" in capsys.readouterr().err


def test_a_protocol_from_outside(monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "mine", Protocol({"flip": True}, "my own"))
    assert evaluate(Brightness(), SOURCE, protocol="mine", progress=False).protocol.startswith(
        "mine: whole image, mirr"
    )
