import re
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_deeplab.data.images import read_image
from keras_deeplab.data.masks import decode_label_png, voc_palette
from keras_deeplab.inference.answers import add_legend, overlay
from keras_deeplab.inference.files import image_files, segment_files
from keras_deeplab.inference.predictor import predictor

cv2 = pytest.importorskip("cv2")

CLASSES = 5


def network(size=None, stride=1, seed=0, **last):
    """Images in 0..255 to logits; the first layer sees a neighbourhood, so that padding shows."""
    keras.utils.set_random_seed(seed)
    height, width = size if isinstance(size, tuple) else (size, size)
    inputs = keras.Input((height, width, 3))
    # Not centred: the padding of 127.5 must differ from the zeros that a convolution pads with.
    x = keras.layers.Rescaling(1 / 127.5, -0.5)(inputs)
    x = keras.layers.Conv2D(8, 5, strides=stride, padding="same", activation="relu")(x)
    return keras.Model(inputs, keras.layers.Conv2D(CLASSES, 1, dtype="float32", **last)(x))


def photograph(height=13, width=17, seed=0):
    """Smooth enough that labels don't hang on rounding."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def by_hand(model, image, size=None):
    """Pad with 127.5 at the bottom and right, run, crop, argmax."""
    height, width = image.shape[:2]
    padded = image.astype(np.float32)
    if size is not None:
        padded = np.full((*size, 3), 127.5, np.float32)
        padded[:height, :width] = image
    return np.argmax(np.asarray(model(padded[None]))[0, :height, :width], -1)


@pytest.mark.parametrize("size", [None, 20, (13, 18)])
def test_keras_model_pads_crops_and_takes_the_greatest(size):
    model, image = network(), photograph()
    labels = predictor(model, size)(image)
    assert labels.dtype == np.uint8
    assert predictor(model, size).num_labels == CLASSES
    np.testing.assert_array_equal(labels, by_hand(model, image, (20, 20) if size == 20 else size))
    assert len(np.unique(labels)) > 1
    # Padding has to show at the border, or this test could not see it.
    if size is not None:
        assert (labels != by_hand(model, image)).any()


def test_a_batch_equals_its_images_and_floats_equal_bytes():
    predict = predictor(network(), 24)
    images = np.stack([photograph(seed=seed) for seed in range(3)])
    labels = predict(images)
    assert labels.shape == images.shape[:3]
    for image, label in zip(images, labels, strict=True):
        np.testing.assert_array_equal(predict(image), label)
        np.testing.assert_array_equal(predict(image.astype(np.float64)), label)


def test_other_sizes_make_no_new_graph(monkeypatch):
    model = network()
    calls = []
    usual = keras.Model.call
    monkeypatch.setattr(keras.Model, "call", lambda self, *a, **k: (calls.append(1), usual(self, *a, **k))[1])
    predict = predictor(model)
    for height, width in ((8, 9), (21, 5), (9, 8), (30, 30)):
        assert predict(photograph(height, width)).shape == (height, width)
    assert len(calls) <= 1


def test_a_model_of_a_fixed_size_pads_to_it_and_refuses_larger_images():
    model, image = network(size=(20, 18)), photograph()
    predict = predictor(model)
    assert predict.input_size == (20, 18)
    np.testing.assert_array_equal(predict(image), by_hand(model, image, (20, 18)))
    with pytest.raises(ValueError, match=r"21x18 \(height x width\), larger than the input size 20x18.*no other size"):
        predict(photograph(21, 18))
    with pytest.raises(ValueError, match=r"takes images of 20x18 only, received input_size \(32, 32\)"):
        predictor(model, 32)


def test_an_image_larger_than_the_input_size_is_refused_with_the_size_that_would_do():
    with pytest.raises(ValueError, match=r"the image is 13x17 .*\(--input-size\) of at least 17"):
        predictor(network(), 16)(photograph())


def test_coarse_logits_are_resized_with_aligned_corners():
    model, image = network(stride=4), photograph(13, 17)
    coarse = np.asarray(model(image[None].astype(np.float32)))[0]
    assert coarse.shape[:2] == (4, 5)
    rows, columns = np.linspace(0, 3, 13), np.linspace(0, 4, 17)
    expected = np.empty((13, 17), int)
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            top, left = min(int(y), 2), min(int(x), 3)
            down, right = y - top, x - left
            patch = coarse[top : top + 2, left : left + 2].astype(np.float64)
            mixed = (1 - down) * ((1 - right) * patch[0, 0] + right * patch[0, 1])
            mixed += down * ((1 - right) * patch[1, 0] + right * patch[1, 1])
            expected[i, j] = np.argmax(mixed)
    np.testing.assert_array_equal(predictor(model)(image), expected)


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_scales_and_flip_average_probabilities(activation):
    model, image = network(activation=activation), photograph(17, 25)
    scales = (0.5, 1.0, 1.5)
    total = 0.0
    for scale in scales:
        size = int(16 * scale + 1), int(24 * scale + 1)
        x = tf.compat.v1.image.resize_bilinear(image[None].astype(np.float32), size, align_corners=True)
        for mirrored in (False, True):
            scores = model(x[:, :, ::-1] if mirrored else x)
            scores = tf.compat.v1.image.resize_bilinear(scores, (17, 25), align_corners=True)
            scores = scores if activation else tf.nn.softmax(scores)
            total += np.asarray(scores[:, :, ::-1] if mirrored else scores)[0]
    labels = predictor(model, scales=scales, flip=True)(image)
    expected = np.argmax(total, -1)
    assert np.mean(labels == expected) > 0.995
    assert np.mean(labels == predictor(model)(image)) < 0.995
    symmetric = np.concatenate([image, image[:, ::-1]], 1)
    once = predictor(model, flip=True)(symmetric)
    np.testing.assert_array_equal(once, once[:, ::-1])


def test_keras_file_and_predictor_pass_through(tmp_path):
    model, image = network(), photograph()
    model.save(tmp_path / "model.keras")
    predict = predictor(tmp_path / "model.keras")
    np.testing.assert_array_equal(predict(image), by_hand(model, image))
    assert predictor(predict) is predict


@pytest.mark.parametrize("output", ["labels", "logits", "other"])
@pytest.mark.parametrize("batch", [None, 1])
def test_saved_model_of_labels_or_logits(tmp_path, output, batch):
    model = network()

    class Exported(tf.Module):
        def __init__(self):
            self.model = model

        @tf.function(input_signature=[tf.TensorSpec((batch, None, None, 3), tf.uint8, name="images")])
        def serve(self, images):
            logits = self.model(tf.cast(images, tf.float32))
            result = {output: tf.argmax(logits, -1, tf.int32) if output == "labels" else logits}
            return result if output == "other" else result | {"confidence": tf.reduce_max(logits, -1)}

    exported = Exported()
    tf.saved_model.save(exported, str(tmp_path / "7"), signatures={"serving_default": exported.serve})
    image = photograph()
    for path in (tmp_path / "7", tmp_path):
        predict = predictor(path, input_size=20)
        assert predict.num_labels == (None if output == "labels" else CLASSES)
        labels = predict(np.stack([image, image]))
        # The padding of 127.5 becomes 128 in a uint8 image: half a grey level at the border.
        expected = by_hand(model, image, (20, 20))
        assert np.mean(labels[0] == expected) > 0.98
        np.testing.assert_array_equal(labels[0, :10, :14], expected[:10, :14])
        np.testing.assert_array_equal(labels[0], labels[1])


def convert(model, tmp_path, **options):
    model.export(str(tmp_path / "exported"), verbose=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "exported"))
    for name, value in options.items():
        setattr(converter, name, value)
    path = tmp_path / "model.tflite"
    path.write_bytes(converter.convert())
    return path


def calibration():
    for seed in range(10):
        yield [photograph(20, 18, seed)[None].astype(np.float32)]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "uint8", "int8"])
def test_tflite_of_logits_float_and_quantised(tmp_path, dtype):
    model, image = network(size=(20, 18)), photograph()
    options = {}
    if dtype != "float32":
        options = {
            "optimizations": [tf.lite.Optimize.DEFAULT],
            "representative_dataset": calibration,
            "inference_input_type": tf.as_dtype(dtype),
            "inference_output_type": tf.as_dtype(dtype),
        }
    predict = predictor(convert(model, tmp_path, **options))
    assert predict.num_labels == CLASSES
    assert predict.input_size == (20, 18)
    labels, expected = predict(image), by_hand(model, image, (20, 18))
    assert labels.dtype == np.uint8
    assert np.mean(labels == expected) >= (1.0 if dtype == "float32" else 0.97)


@pytest.mark.slow
def test_tflite_of_labels_at_any_size(tmp_path):
    model = network()
    labelled = keras.Model(model.input, keras.layers.Lambda(lambda x: tf.argmax(x, -1, tf.int32))(model.output))
    predict = predictor(convert(labelled, tmp_path))
    assert predict.input_size is None
    for size in ((13, 17), (20, 11)):
        image = photograph(*size)
        np.testing.assert_array_equal(predict(image), by_hand(model, image))
    np.testing.assert_array_equal(
        predictor(tmp_path / "model.tflite", 20)(photograph()), by_hand(model, photograph(), (20, 20))
    )


@pytest.mark.slow
def test_tflite_that_does_not_normalise_is_fed_its_own_range(tmp_path):
    whole, image = network(size=(13, 17)), photograph()
    bare = keras.Model(whole.layers[1].output, whole.output)
    path = convert(bare, tmp_path)
    np.testing.assert_array_equal(predictor(path, input_range=(-0.5, 1.5))(image), by_hand(whole, image))
    assert (predictor(path)(image) != by_hand(whole, image)).any()


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "input_range", "expected"),
    [
        ("uint8", 1.0, 0, None, [0, 128, 255]),
        ("int8", 1.0, -128, None, [-128, 0, 127]),
        ("uint8", 250 / 255, 0, None, [0, 131, 255]),  # calibrated on images that end at 250
        ("uint8", 1 / 128, 128, None, [0, 128, 255]),
        ("int8", 2 / 255, -1, None, [-128, 0, 127]),
        ("int8", 0.25, 0, (-20, 30), [-80, 20, 120]),
        ("uint8", 0.0, 0, None, [0, 128, 255]),
        ("float32", 0.0, 0, None, [0, 128, 255]),
        ("float32", 0.0, 0, (-1, 1), [-1, 1 / 255, 1]),
    ],
)
def test_tflite_input_stands_for_what_its_quantisation_says(dtype, scale, zero_point, input_range, expected):
    from keras_deeplab.inference.runtimes.tflite import feed

    details = {"dtype": np.dtype(dtype).type, "quantization": (scale, zero_point)}
    fed = feed(details, input_range, "it")(np.array([0, 128, 255], np.float32))
    assert fed.dtype == np.dtype(dtype)
    np.testing.assert_allclose(fed, expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"values from -600 to 420.*give input_range"):
        feed({"dtype": np.uint8, "quantization": (4.0, 150)}, None, "it")


def test_another_teams_quantised_file_gets_the_bytes_as_they_are(shared):
    """Its parameters (1/128, 128) stand for -1..1."""
    path = shared / "weights" / "tflite" / "deeplabv3_mnv2_pascal_quant.tflite"
    folder = shared / "data" / "voc_person"
    name = (folder / "splits" / "val.txt").read_text().split()[0]
    image = read_image(folder / "images" / f"{name}.jpg")
    label = decode_label_png((folder / "masks" / f"{name}.png").read_bytes())[0]
    predict = predictor(path)
    assert predict.input_size == (513, 513)
    found = predict(image)
    valid = label != 255
    assert np.mean((found == 15)[valid] == (label == 15)[valid]) > 0.9
    assert (label == 15).sum() > 0
    # The same numbers by the interpreter alone.
    padded = np.full((1, 513, 513, 3), 128, np.uint8)
    padded[0, : image.shape[0], : image.shape[1]] = image
    interpreter = tf_interpreter(path)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], padded)
    interpreter.invoke()
    alone = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0, : image.shape[0], : image.shape[1]]
    np.testing.assert_array_equal(found, alone)


def tf_interpreter(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    return interpreter


@pytest.mark.slow
def test_tensorflows_interpreter_serves_where_litert_is_not_installed(tmp_path, monkeypatch):
    import sys

    path = convert(network(size=(13, 17)), tmp_path)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    labels = predictor(path)(photograph())
    np.testing.assert_array_equal(labels, by_hand(network(size=(13, 17)), photograph()))


def test_other_paths_go_to_load(tmp_path, monkeypatch):
    import keras_deeplab

    calls = []
    monkeypatch.setattr(keras_deeplab, "load", lambda *a, **k: (calls.append((a, k)), network())[1], raising=False)
    predictor("some/model.ckpt-30000", output_stride=8)
    predictor("some/model.ckpt-30000")
    (first, options), (second, none) = calls
    assert (str(first[0]), options) == ("some/model.ckpt-30000", {"output_stride": 8})
    assert (str(second[0]), none) == ("some/model.ckpt-30000", {})


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (network, {"output_stride": 8}, "doesn't tell how it was built, so it has one output stride"),
        (lambda: network(size=8), {"scales": (0.5, 1)}, "scales need a model for any input size"),
        (network, {"scales": (0.0,)}, "scales must be a list of finite numbers, greater than 0"),
        (network, {"input_size": 0}, "input_size must be N or (height, width)"),
        (lambda: "missing.tflite", {}, "there is no file missing.tflite"),
        (lambda: "missing.keras", {}, "there is no file missing.keras"),
        (lambda: 3, {}, "received int: 3"),
        (lambda: network(size=(None, 8)), {}, "fixes only one of height and width"),
        (lambda: predictor(network()), {"flip": True}, "flip can't be chosen for a Predictor that is already made"),
    ],
)
def test_refuses_what_does_not_fit(make, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)):
        predictor(make(), **options)


def test_refuses_images_that_are_none():
    predict = predictor(network())
    with pytest.raises(ValueError, match=r"shape \(H, W, 3\).*received \(4, 4\)"):
        predict(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match=r"uint8 or floating point in 0\.\.255, received dtype int64"):
        predict(np.zeros((4, 4, 3), np.int64))


def test_a_file_that_is_no_tflite_is_named(tmp_path):
    (tmp_path / "bad.tflite").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"bad\.tflite is not a TFLite file"):
        predictor(tmp_path / "bad.tflite")


def test_overlay_mixes_by_alpha_and_leaves_labels_untouched_on_request():
    image, labels = photograph(), np.arange(13 * 17).reshape(13, 17) % 4
    palette = voc_palette()
    np.testing.assert_array_equal(overlay(image, labels, palette, alpha=0.0), image)
    np.testing.assert_array_equal(overlay(image, labels, palette, alpha=1.0), palette[labels])
    mixed = overlay(image, labels, palette, alpha=0.25, untouched=[2])
    np.testing.assert_array_equal(mixed[labels == 2], image[labels == 2])
    expected = 0.75 * image.astype(float) + 0.25 * palette[labels]
    assert np.abs(mixed - expected)[labels != 2].max() <= 0.5 + 1e-4
    with pytest.raises(ValueError, match=r"labels 0 to 3 need a palette"):
        overlay(image, labels, palette[:3])
    with pytest.raises(ValueError, match="expected a uint8 image"):
        overlay(image, labels[:5], palette)


def test_legend_shows_the_colours_that_occur_and_leaves_the_image():
    image, labels = photograph(60, 80), np.zeros((60, 80), int)
    labels[:30] = 2
    palette = np.array([[10, 200, 30], [1, 2, 3], [250, 40, 60]], np.uint8)
    result = add_legend(image, labels, ["road", "never", "a class with a very long name"], palette)
    np.testing.assert_array_equal(result[:60], image)
    strip = result[60:].reshape(-1, 3)
    assert strip.shape[0] % 80 == 0
    for colour, there in zip(palette, (True, False, True), strict=True):
        assert (strip == colour).all(1).any() == there
    np.testing.assert_array_equal(add_legend(image, labels, "abc", palette, untouched=[0, 2]), image)


def fake(image):
    """Splits the picture in half; refuses one size."""
    if image.shape[0] == 7:
        raise ValueError("seven is too few")
    labels = np.zeros(image.shape[:2], np.uint8)
    labels[:, image.shape[1] // 2 :] = 3
    return labels


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return path


def test_segment_files_writes_labels_and_overlays_and_lists_failures(tmp_path):
    folder, lines = tmp_path / "in", []
    write(folder / "a.png", photograph(20, 30))
    write(folder / "b.jpg", photograph(24, 30))
    write(folder / "small.png", photograph(7, 9))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 not really")
    (folder / "notes.txt").write_text("no image")
    classes = ["background", "one", "two", "three"]
    written, failures = segment_files(
        fake, [folder], tmp_path / "out", classes=classes, progress=False, log=lines.append
    )
    assert [file.name for pair in written for file in pair] == ["a.png", "a_overlay.png", "b.png", "b_overlay.png"]
    assert {file.name for file in (tmp_path / "out").iterdir()} == {file.name for pair in written for file in pair}
    labels, palette = decode_label_png((tmp_path / "out" / "a.png").read_bytes())
    np.testing.assert_array_equal(labels, fake(photograph(20, 30)))
    np.testing.assert_array_equal(palette[:4], voc_palette()[:4])
    picture = read_image(tmp_path / "out" / "a_overlay.png")
    assert picture.shape[0] > 20
    np.testing.assert_array_equal(picture[:20, :15], photograph(20, 30)[:, :15])
    assert (picture[:20, 15:] != photograph(20, 30)[:, 15:]).any()
    assert [file.name for file, _ in failures] == ["broken.jpg", "small.png"]
    assert all(str(file) in message for file, message in failures)
    assert "seven is too few" in failures[1][1]
    assert [line.startswith("failed: ") for line in lines] == [True, True]


def test_segment_files_turns_photographs_upright(tmp_path):
    image = photograph(20, 30)
    data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    # Orientation 6: the camera was held upright, the sensor's rows run down the picture's right side.
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "turned.jpg").write_bytes(data[:2] + segment + data[2:])
    ((labels, _),), failures = segment_files(fake, tmp_path / "turned.jpg", tmp_path / "out", progress=False)
    assert not failures
    assert decode_label_png(labels.read_bytes())[0].shape == (30, 20)


def test_segment_files_never_replaces_an_input_nor_writes_one_file_twice(tmp_path):
    first = write(tmp_path / "a" / "x.png", photograph())
    second = write(tmp_path / "b" / "x.jpg", photograph())
    with pytest.raises(ValueError, match=r"would replace the input .*x\.png"):
        segment_files(fake, [first], tmp_path / "a", progress=False)
    third = write(tmp_path / "c" / "y.jpg", photograph())
    fourth = write(tmp_path / "c" / "y_overlay.jpg", photograph())
    lines = []
    for files in ([first, second], [third, fourth]):
        written, failures = segment_files(fake, files, tmp_path / "out", progress=False, log=lines.append)
        assert not failures
        assert len({file for files in written for file in files}) == 4
    assert [line.rpartition(" ")[2] for line in lines] == ["x_png", "x_jpg", "y_jpg", "y_overlay_jpg"]
    # Results of an earlier run are replaced.
    for _ in range(2):
        segment_files(fake, [second], tmp_path / "again", progress=False)
    assert sorted(file.name for file in (tmp_path / "again").iterdir()) == ["x.png", "x_overlay.png"]


def test_image_files_takes_files_folders_and_patterns_once_each(tmp_path):
    names = ["b.jpg", "a.PNG", "c.bmp"]
    for name in names:
        write(tmp_path / name, photograph())
    (tmp_path / "text.txt").write_text("")
    found = image_files([tmp_path / "b.jpg", tmp_path, str(tmp_path / "*.bmp")])
    assert [file.name for file in found] == ["b.jpg", "a.PNG", "c.bmp"]
    (tmp_path / "empty").mkdir()
    for entry, message in ((tmp_path / "empty", "holds no image"), (tmp_path / "none*", "nor a pattern")):
        with pytest.raises(FileNotFoundError, match=message):
            image_files([entry])
    with pytest.raises(FileNotFoundError, match="no input was given"):
        image_files([])
