"""Loading by path, name and kind; ImageNet weights for backbones; strictness."""

import keras
import numpy as np
import pytest
from randomise import randomise

import keras_deeplab
from keras_deeplab.backbones.mobilenet_v2 import mobilenet_v2
from keras_deeplab.weights.assign import assign

OFFICIAL = "weights/deeplabv3_mnv2_pascal_trainval/model.ckpt-30000"
IMAGENET = "weights/mobilenet_v2_imagenet/mobilenet_v2_1.0_224_imagenet_notop_kerasapp.weights.h5"


def tiny(**settings):
    return keras_deeplab.DeepLabV3(mobilenet_v2(alpha=0.1), num_classes=2, filters=4, **settings)


@pytest.fixture(scope="module")
def imagenet_file(tmp_path_factory):
    """What keras.applications would download, with random values."""
    network = randomise(keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(224, 224, 3)))
    path = tmp_path_factory.mktemp("imagenet") / "mobilenet_v2_no_top.weights.h5"
    network.save_weights(path)
    return network, path


@pytest.mark.slow
def test_imagenet_weights_reach_the_layers_of_the_same_names(imagenet_file):
    network, path = imagenet_file
    model = keras_deeplab.DeepLabV3Plus("mobilenet_v2", num_classes=3, backbone_weights=path)
    for ours, theirs in [("Conv1", "Conv1"), ("Conv1_BN", "bn_Conv1"), ("block_16_project_BN",) * 2]:
        for a, b in zip(model.get_layer(ours).get_weights(), network.get_layer(theirs).get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_the_backbone_computes_what_keras_applications_computes(imagenet_file):
    """Features before the last convolution, at an odd size, where both paddings are the same."""
    network, path = imagenet_file
    # Its padding follows the size that it is built for; of a dynamic one it pads as of an even one.
    odd = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(33, 33, 3))
    odd.set_weights(network.get_weights())
    theirs = keras.Model(odd.input, odd.get_layer("block_16_project_BN").output)
    model = keras_deeplab.DeepLabV3("mobilenet_v2", output_stride=32, backbone_weights=path)
    ours = keras.Model(model.input, model.get_layer("block_16_project_BN").output)
    # 33, 17, 9, 5, 3: every strided layer sees an odd map.
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 33, 33, 3)).astype("float32")
    expected = keras.ops.convert_to_numpy(theirs(pixels / 127.5 - 1))
    got = keras.ops.convert_to_numpy(ours(pixels))
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_the_real_imagenet_file_loads(shared):
    path = shared / IMAGENET
    if not path.exists():
        pytest.skip(f"needs {path}")
    model = keras_deeplab.DeepLabV3Plus("mobilenet_v2", num_classes=7, backbone_weights=path)
    assert float(np.abs(model.get_layer("Conv1").get_weights()[0]).max()) > 0.5  # Glorot's range ends at 0.14


@pytest.mark.slow
def test_a_builder_takes_the_official_checkpoint_and_refuses_it_for_another_network(shared):
    path = shared / OFFICIAL
    if not path.with_name(path.name + ".index").exists():
        pytest.skip(f"needs {path}")
    built = keras_deeplab.DeepLabV3("mobilenet_v2", weights=path, output_stride=8)
    loaded = keras_deeplab.load(path, output_stride=8)
    for a, b in zip(built.weights, loaded.weights, strict=True):
        assert a.path == b.path
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match=r"Missing from the file \(\d+\)(.|\n)*decoder_conv0_depthwise/kernel"):
        keras_deeplab.DeepLabV3Plus("mobilenet_v2", weights=path)
    with pytest.raises(ValueError, match=r"Of another shape(.|\n)*logits/kernel: \(1, 1, 256, 21\)"):
        keras_deeplab.DeepLabV3("mobilenet_v2", weights=path, num_classes=5)


@pytest.mark.slow
def test_own_files_load_as_weights(tmp_path):
    model = randomise(tiny())
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    for name in ("model.keras", "model.weights.h5"):
        again = tiny(weights=tmp_path / name)
        assert all(np.array_equal(a, b) for a, b in zip(again.get_weights(), model.get_weights(), strict=True))


@pytest.mark.slow
def test_assign_lists_everything_that_does_not_fit_and_changes_nothing():
    model = randomise(tiny())
    before = [value.copy() for value in model.get_weights()]
    arrays = {variable.path: variable.numpy() + 1 for variable in model.weights}
    arrays["Conv1/bias"] = np.zeros(3)
    arrays["logits/bias"] = np.zeros(7)
    arrays["aspp0/kernel"] = np.full_like(arrays["aspp0/kernel"], np.nan)
    del arrays["Conv1/kernel"]
    with pytest.raises(ValueError, match="don't fit") as caught:
        assign(model, arrays, "a file")
    message = str(caught.value)
    for part in (
        "Missing from the file (1):\n  Conv1/kernel",
        "Left over in the file (1):\n  Conv1/bias (3,)",
        "Of another shape (1):\n  logits/bias: (7,), the model has (2,)",
        "not finite (1):\n  aspp0/kernel",
    ):
        assert part in message
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("missing.keras", None, FileNotFoundError, "There is no checkpoint"),
        ("empty.keras", b"", ValueError, "an empty file"),
        ("photo.jpg", b"\xff\xd8\xff\xe0", ValueError, "a .jpg file"),
        ("weights.h5", b"\x89HDF\r\n", ValueError, "weights= of the model"),
        ("archive.zip", b"PK\x03\x04", ValueError, "a zip archive"),
        ("model.tar.gz", b"nothing packed", ValueError, "no archive"),
        ("model.ckpt-1.index", b"not an index", ValueError, "can't be read as a TensorFlow checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_told(name, content, error, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message) as caught:
        keras_deeplab.load(tmp_path / name)
    assert name.removesuffix(".index") in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"backbone_weights": "no/such/file.h5"}, FileNotFoundError, "'imagenet' to download"),
        ({"backbone_weights": __file__}, ValueError, "don't fit 'mobilenet_v2'"),
        ({"backbone": "drn_d_22", "backbone_weights": "imagenet"}, ValueError, "No weights 'imagenet' are published"),
        ({"backbone": "hrnetv2_32", "output_stride": 4, "backbone_weights": "x"}, ValueError, "Unknown backbone with"),
    ],
)
def test_backbone_weights_that_do_not_fit(settings, error, message):
    with pytest.raises(error, match=message):
        keras_deeplab.DeepLabV3(**{"backbone": "mobilenet_v2", **settings})


def test_an_unknown_source_is_refused():
    with pytest.raises(ValueError, match=r"source must be one of 'auto', 'keras', 'tf1', .*; received 'torch'"):
        keras_deeplab.load({}, source="torch")
