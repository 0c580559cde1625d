"""A model that was trained on more than 8 bits knows their range, and every door reads images by it."""

import io
import json
from types import SimpleNamespace

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_deeplab
from keras_deeplab import data
from keras_deeplab.cli import main
from keras_deeplab.data.masks import decode_label_png
from keras_deeplab.data.settings import ImageOptions
from keras_deeplab.export.calibration import Calibration
from keras_deeplab.export.encoded_images import checked_sizes, decode
from keras_deeplab.inference.beam.reading import reading_of
from keras_deeplab.inference.evaluation import evaluate
from keras_deeplab.inference.files import segment_files
from keras_deeplab.inference.tiles.raster import segment_raster
from keras_deeplab.specs import ModelSpec
from keras_deeplab.specs.model import with_spec
from keras_deeplab.training.objective import recorded

RANGE = (0.0, 4095.0)
BRIGHT = slice(10, 30)  # rows above half of the range


def threshold(channels, **changes):
    """A model whose label is 1 where the first channel is above the middle of 0..255."""
    images = keras.Input((None, None, channels))
    model = keras.Model(images, keras.layers.Conv2D(2, 1, name="logits")(images))
    kernel = np.zeros((1, 1, channels, 2), "float32")
    kernel[0, 0, 0, 1] = 1
    model.get_layer("logits").set_weights([kernel, np.array([0, -127.5], "float32")])
    return with_spec(model, **{"image_range": RANGE, **changes})


def pixels(channels):
    """Twelve bits, of which the high byte of 16 tells next to nothing."""
    image = np.random.default_rng(0).integers(100, 1800, (40, 48, channels)).astype(np.uint16)
    image[BRIGHT] += 2200
    return image


def expected():
    labels = np.zeros((40, 48), np.uint8)
    labels[BRIGHT] = 1
    return labels


def encoded(image):
    """A PNG file of 1, 3 or 4 channels, a .npy file of any other number."""
    if image.shape[-1] in (1, 3, 4):
        bgr = image if image.shape[-1] == 1 else image[..., [2, 1, 0, *range(3, image.shape[-1])]]
        return ".png", cv2.imencode(".png", bgr)[1].tobytes()
    file = io.BytesIO()
    np.save(file, image)
    return ".npy", file.getvalue()


@pytest.fixture(scope="module", params=[1, 3, 4, 6])
def folder(request, tmp_path_factory):
    """(channels, a data set of three images, the path of the first)"""
    channels = request.param
    root = tmp_path_factory.mktemp(f"of{channels}")
    suffix, content = encoded(pixels(channels))
    for name in "abc":
        for part, ending, each in (("images", suffix, content), ("masks", ".png", cv2.imencode(".png", expected())[1])):
            (root / part).mkdir(exist_ok=True)
            (root / part / f"{name}{ending}").write_bytes(bytes(each))
    (root / "classes.txt").write_text("dark\nbright\n")
    return channels, root, root / "images" / f"a{suffix}"


def labels_in(path):
    return decode_label_png(path.read_bytes())[0]


def test_predictors_scale_integers_of_more_bits_and_files_as_the_record_says(folder, tmp_path):
    channels, _, file = folder
    predict = keras_deeplab.predictor(threshold(channels))
    np.testing.assert_array_equal(predict(pixels(channels)), expected())
    segment_files(predict, [file], tmp_path, outputs=["labels"], progress=False)
    segment_raster(predict, file, tmp_path / "tiles.png", progress=False, log=lambda line: None)
    segment_files(predict.in_one_piece, [file], tmp_path / "by", outputs=["labels"], spec=predict.spec, progress=False)
    for name in ("a.png", "tiles.png", "by/a.png"):
        np.testing.assert_array_equal(labels_in(tmp_path / name), expected(), err_msg=name)


def test_where_nothing_tells_the_range_it_is_asked_for(folder, tmp_path):
    channels, _, file = folder
    predict = keras_deeplab.predictor(threshold(channels, image_range=None))
    with pytest.raises(ValueError, match=r"dtype uint16, and the model's record has no image_range"):
        predict(pixels(channels))
    _, [(_, reason)] = segment_files(predict, [file], tmp_path, progress=False, log=lambda line: None)
    assert "has pixels of uint16" in reason


def test_another_range_than_the_record_s_is_told(folder, tmp_path):
    channels, root, file = folder
    predict = keras_deeplab.predictor(threshold(channels))
    told = "makes 0 to 255 of the numbers 0 to 65535 in .*, and the model was trained with 0 to 4095"
    reading = ImageOptions.of(image_range=(0, 65535))
    with pytest.warns(UserWarning, match=told):
        segment_files(predict, [file], tmp_path, outputs=["labels"], reading=reading, progress=False)
    assert not labels_in(tmp_path / "a.png").any()
    with pytest.warns(UserWarning, match=told):
        evaluate(predict, data.load(root, "all", channels=channels, image_range=(0, 65535)), progress=False)


def test_data_sets_are_read_as_the_record_says(folder, tmp_path, capsys):
    channels, root, _ = folder
    spec = threshold(channels).spec
    told = {"image_range": RANGE} if channels == 3 else {"channels": channels, "image_range": RANGE}
    assert data.options_of_model(root, spec) == told
    assert data.options_of_model("synthetic", spec) == data.options_of_model(root, None) == {}
    source = data.load(root, "all", **told)
    assert evaluate(threshold(channels), source, progress=False).mean_iou == 1
    path = tmp_path / "model.keras"
    threshold(channels).save(path)
    assert main(["evaluate", str(path), str(root), "--split", "all"]) == 0
    assert "mean IoU                1.0000" in capsys.readouterr().out


def test_a_training_puts_the_data_s_range_into_the_record(folder):
    channels, root, _ = folder
    source = data.load(root, "all", channels=channels, image_range=(0, 1023))
    assert recorded(threshold(channels), source).spec.image_range == (0, 1023)
    assert recorded(threshold(channels), data.load(root, "all", channels=channels)).spec.image_range == RANGE


def test_calibration_reads_folders_and_data_sets_as_the_record_says(folder):
    channels, root, _ = folder
    spec = threshold(channels).spec
    for given in (root / "images", root):
        (image, *_) = Calibration(given, 1, spec).images((40, 48))
        assert ((image[0, ..., 0] > 127.5)[:-1] == expected()[:-1]).all()


def test_beam_reads_images_as_the_record_says(folder):
    channels, _, file = folder
    spec = threshold(channels).spec
    options = data.settings.DataOptions()
    reading = reading_of(options, channels, 2, None)
    reading.images = reading.images.of_model(spec)
    assert ((reading.image(file.read_bytes(), "a")[..., 0] > 127) == expected()).all()


# Files inside a graph -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_graph_decodes_16_bits_as_files_are_read(channels):
    content = encoded(pixels(channels))[1]
    found = decode(tf.constant(content), channels, RANGE).numpy()
    np.testing.assert_array_equal(found, data.images.decode_image(content, channels, image_range=RANGE))
    eight = tf.io.encode_png((pixels(channels) >> 4).astype(np.uint8)).numpy()
    np.testing.assert_array_equal(decode(tf.constant(eight), channels, RANGE), pixels(channels) >> 4)
    assert checked_sizes(tf.constant([content]), channels=channels, image_range=RANGE).numpy().tolist() == [[40, 48]]


def test_a_graph_refuses_what_nothing_tells_the_meaning_of():
    deep, rgb = encoded(pixels(3))[1], (pixels(3) >> 4).astype(np.uint8)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"image_bytes\[0\] is a PNG file of 16 bits, and nothing"):
        checked_sizes(tf.constant([deep]))
    for content in (tf.io.encode_png(rgb), tf.io.encode_jpeg(rgb), cv2.imencode(".bmp", rgb)[1].tobytes()):
        with pytest.raises(tf.errors.InvalidArgumentError, match="has no fourth channel, and the model takes 4"):
            checked_sizes(tf.stack([content]), channels=4)


# Servers ------------------------------------------------------------------------------------------------------------


def test_a_client_decodes_what_servers_do_not_and_scales_it(folder):
    from keras_deeplab.serving import Client

    channels, _, file = folder
    client = Client("http://127.0.0.1:1", "model")
    client._spec = SimpleNamespace(model=ModelSpec(2, channels, image_range=RANGE))
    client._image_shape = (-1, -1, channels)
    scaled = data.channels.scaled(pixels(channels), RANGE)
    npy = io.BytesIO()
    np.save(npy, pixels(channels))
    for given in (pixels(channels), npy.getvalue()):
        (signature, _), sent = client._prepare(given)
        if signature == "encoded":
            sent = data.images.decode_image(sent, channels)
        np.testing.assert_array_equal(sent, scaled)
    if file.suffix == ".png":  # by the server
        assert client._prepare(file) == (("encoded", None), file.read_bytes())
    client._spec = None
    with pytest.raises(ValueError, match="or integers of more bits where its record has an image_range"):
        client._prepare(pixels(channels))


# Exported files -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("channels", [4, 6])
def test_exported_files_keep_the_range_and_read_by_it(channels, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    suffix, content = encoded(pixels(channels))
    image = tmp_path / "images" / f"a{suffix}"
    image.write_bytes(content)
    model = tmp_path / "model.keras"
    threshold(channels).save(model)
    files = {name: str(tmp_path / name) for name in ("model.tflite", "model.onnx", "saved")}
    calibrated = ["--precision", "int8", "--calibration", str(tmp_path / "images"), "--input-size", "40x48"]
    assert main(["export-tflite", str(model), files["model.tflite"], *calibrated]) == 0
    assert main(["export-onnx", str(model), files["model.onnx"]]) == 0
    assert main(["export-saved-model", str(model), files["saved"], "--no-warmup"]) == 0
    for name, path in files.items():
        predict = keras_deeplab.predictor(path)
        assert predict.spec.image_range == RANGE, name
        np.testing.assert_array_equal(predict(pixels(channels)), expected(), err_msg=name)
        assert main(["predict", path, str(image), "--output-dir", str(tmp_path / "out"), "--write", "labels"]) == 0
        np.testing.assert_array_equal(labels_in(tmp_path / "out" / "a.png"), expected(), err_msg=name)
    capsys.readouterr()
    assert main(["inspect", files["model.tflite"]]) == 0
    assert "image range  0 to 4095 become 0 to 255" in capsys.readouterr().out
    if channels == 4:
        saved = tf.saved_model.load(f"{files['saved']}/1")
        (png,) = saved.signatures["encoded"](image_bytes=tf.constant([content]))["labels_png_bytes"].numpy()
        np.testing.assert_array_equal(tf.io.decode_png(png)[..., 0], expected())
    assert json.loads((tmp_path / "saved/1/assets.extra/keras_deeplab.json").read_text())["model"]["image_range"]
