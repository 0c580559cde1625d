"""Checkpoints of any number of channels, and of images of more than 8 bits: kept, told, widened, asked about."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from conftest import SHARED
from randomise import randomise
from weight_files import safetensors

import keras_deeplab
from keras_deeplab.backbones import preprocessing
from keras_deeplab.cli import main
from keras_deeplab.export import weights as export
from keras_deeplab.specs.model import with_spec
from keras_deeplab.weights import recognise
from keras_deeplab.weights.names import renamed, unwrap
from keras_deeplab.weights.plan import FIRST_LAYERS

RANGE = (0.0, 4095.0)
REFERENCES = sorted(
    path.stem for path in (SHARED / "reference").glob("*.npz") if not path.stem.startswith(("densecrf", "slim"))
)


@pytest.fixture(scope="module")
def rgb():
    """A model of RGB images that PyTorch's mean and deviation normalise."""
    keras.utils.set_random_seed(0)
    settings = {"num_classes": 3, "output_stride": 8, "filters": 16, "flavour": "torchvision"}
    return randomise(keras_deeplab.DeepLabV3("resnet18", **settings))


@pytest.fixture(scope="module")
def state(rgb):
    return export.state_dict(rgb, "torchvision")


@pytest.fixture(scope="module")
def file(rgb, tmp_path_factory):
    path = tmp_path_factory.mktemp("rgb") / "rgb.keras"
    rgb.save(path)
    return path


def pixels(channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (1, 33, 41, channels)).astype(np.float32)


def logits(model, images):
    return keras.ops.convert_to_numpy(model(images))


def of_channels(state, channels):
    """A checkpoint as its own code writes it for other images."""
    kernel = np.random.default_rng(1).normal(0, 0.1, (64, channels, 7, 7)).astype("float32")
    return {**state, "backbone.conv1.weight": kernel}


# How many channels a checkpoint has --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    REFERENCES or [pytest.param("none", marks=pytest.mark.skip(reason=f"needs the reference outputs in {SHARED}"))],
)
@pytest.mark.slow
def test_every_source_tells_how_many_channels_its_checkpoints_have(name):
    # Names and shapes, which is all that is looked at.
    with np.load(SHARED / "reference" / f"{name}.npz") as fixture:
        told = dict(zip(fixture["names"].tolist(), fixture["shapes"].tolist(), strict=True))
    arrays = unwrap(
        {key: np.zeros(tuple(map(int, filter(None, shape.split(",")))), "int8") for key, shape in told.items()}
    )
    plan = recognise(arrays)
    assert plan.unknown(arrays) == []  # or it would look like another network beside
    first = {f"{layer}/kernel" for layer in FIRST_LAYERS}
    # Some keep a tensor under two names.
    kernels = [key for key in arrays if renamed({key: ()}, plan.rows, plan.dialect).keys() & first]
    assert kernels
    for channels in (1, 4, 6):
        shape = list(arrays[kernels[0]].shape)
        shape[2 if plan.dialect.axes is None else 1] = channels
        other = dict.fromkeys(kernels, np.broadcast_to(np.int8(0), shape))
        assert recognise({**arrays, **other}).spec.channels == channels


def test_the_first_layer_of_a_backbone_that_was_added_is_found(state, monkeypatch):
    # By the network itself, where no list has its name.
    monkeypatch.setattr("keras_deeplab.weights.plan.FIRST_LAYERS", ())
    assert recognise(of_channels(state, 6)).spec.channels == 6


# What nothing tells is asked ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 6])
def test_a_checkpoint_of_other_images_is_asked_how_they_are_normalised(state, channels):
    theirs = of_channels(state, channels)
    with pytest.raises(ValueError, match=rf"is torch, .* here they have {channels} channel.* include_preprocessing="):
        keras_deeplab.load(theirs)
    means, deviations = np.linspace(0.2, 0.6, channels), np.linspace(0.1, 0.3, channels)
    bare = keras_deeplab.load(theirs, include_preprocessing=False)
    own = keras_deeplab.load(theirs, include_preprocessing=(means, deviations))
    assert (own.spec.channels, own.spec.preprocessing) == (channels, (tuple(means), tuple(deviations)))
    images = pixels(channels)
    normalised = ((images / 255 - means) / deviations).astype(np.float32)
    expected = logits(bare, normalised)
    np.testing.assert_allclose(logits(own, images), expected, rtol=0, atol=5e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (((0.5,), (0.2,)), "has 1 means and deviations, and the images 4 channels"),
        (((0.5,) * 4, (0.2, 0.2, 0.2, 0.0)), "a number in 0..1 for each channel; received"),
        ("imagenet", "'bgr' or 'torch_bgr', or .means, deviations.* received 'imagenet'"),
    ],
)
def test_a_normalisation_that_is_none_is_refused(state, given, message):
    with pytest.raises(ValueError, match=message):
        keras_deeplab.load(of_channels(state, 4), include_preprocessing=given)


# RGB weights on more channels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["state", "file"])
def test_new_channels_change_nothing_whatever_they_hold(origin, rgb, state, file):
    checkpoint = {"state": state, "file": file}[origin]
    with pytest.warns(UserWarning, match="has 3 input channels and 6 were asked for: .* stem='zero'"):
        wide = keras_deeplab.load(checkpoint, input_shape=(None, None, 6))
    assert (wide.spec.channels, wide.spec.preprocessing, wide.input_shape[-1]) == (6, "torch", 6)
    images, expected = pixels(6), logits(rgb, pixels(6)[..., :3])
    for change in (0, 1):
        images[..., 3:] *= change
        np.testing.assert_allclose(logits(wide, images), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("mode", ["caffe", "tf"])
def test_normalisations_keep_red_green_and_blue_first(mode):
    images = pixels(5)
    narrow, wide = (preprocessing.normalise(mode, channels) for channels in (3, 5))
    found = keras.ops.convert_to_numpy(wide(images))
    np.testing.assert_array_equal(found[..., :3], keras.ops.convert_to_numpy(narrow(images[..., :3])))
    expected = images[..., 3:] / 127.5 - 1 if mode == "tf" else images[..., 3:] - np.mean(preprocessing.CAFFE_MEAN)
    np.testing.assert_allclose(found[..., 3:], expected, rtol=1e-5, atol=1e-5)


def test_caffe_s_kernels_get_their_channels_in_the_order_of_red_green_and_blue():
    model = keras_deeplab.DeepLabV3("resnet50_caffe", num_classes=2, filters=8, include_preprocessing="caffe")
    randomise(model)
    arrays = {variable.path: variable.numpy() for variable in model.weights}
    kernel = next(path for path in arrays if path.endswith("/kernel"))
    from keras_deeplab.weights.filling import stem_for

    class Wide:
        path, shape = kernel, (7, 7, 6, 64)

    stored = arrays[kernel]
    with pytest.warns(UserWarning, match="stem='repeat'"):
        stem_for("repeat", "it", "caffe")(arrays, Wide)
    # Blue, green, red as the network sees them, then red, green, blue again: these aren't turned round.
    np.testing.assert_allclose(arrays[kernel], stored[:, :, [0, 1, 2, 2, 1, 0]] / 2)


def test_a_file_s_input_stays_where_nothing_tells_how_to_build_it(tmp_path):
    images = keras.Input((None, None, 3))
    path = tmp_path / "plain.keras"
    with_spec(keras.Model(images, keras.layers.Conv2D(2, 1)(images))).save(path)
    with pytest.raises(ValueError, match=r"holds a plain Keras model, .* it stays \(None, None, 3\)"):
        keras_deeplab.load(path, input_shape=(None, None, 4))
    grey = keras_deeplab.DeepLabV3("resnet18", num_classes=2, filters=8, input_shape=(None, None, 1))
    grey.save(tmp_path / "grey.keras")
    with pytest.raises(ValueError, match=r"here they have 1 channel\. Load the checkpoint that it was made of"):
        keras_deeplab.load(tmp_path / "grey.keras", input_shape=(None, None, 4))


# convert and inspect ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_convert_says_and_keeps_channels_normalisation_and_range(state, file, tmp_path, capsys):
    theirs, target = tmp_path / "four.safetensors", tmp_path / "four.keras"
    theirs.write_bytes(safetensors({name: np.float32(array) for name, array in of_channels(state, 4).items()}))
    assert main(["convert", str(theirs), str(target)]) == 1
    assert "here they have 4 channels" in capsys.readouterr().err
    how = ["--normalisation", "0.1,0.2,0.3,0.4/0.2,0.2,0.2,0.3", "--image-range", "0,4095"]
    assert main(["convert", str(theirs), str(target), *how]) == 0
    spec = keras_deeplab.load(target).spec
    assert (spec.channels, spec.image_range) == (4, RANGE)
    assert spec.preprocessing == ((0.1, 0.2, 0.3, 0.4), (0.2, 0.2, 0.2, 0.3))
    capsys.readouterr()
    assert main(["inspect", str(target)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "channels 4 image range 0 to 4095 become 0 to 255 preprocessing means 0.1, 0.2, 0.3, 0.4 and" in told

    with pytest.warns(UserWarning, match="has 3 input channels and 5 were asked for"):
        assert main(["convert", str(file), str(target), "--channels", "5", "--stem", "zero"]) == 0
    assert keras_deeplab.load(target).spec.channels == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--normalisation", "imagenet"], "--normalisation must be tf, torch"),
        (["--normalisation", "tf", "--no-preprocessing"], "--normalisation is how"),
        (["--image-range", "9,3"], "--image-range must be two numbers, the first below the second"),
        (["--stem", "big"], "--stem must be"),
    ],
)
def test_what_convert_can_not_make_is_refused_before_the_work(options, message, file, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["convert", str(file), str(tmp_path / "x.keras"), *options])
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_range_goes_where_the_record_goes(file, tmp_path):
    model = with_spec(keras_deeplab.load(file), image_range=RANGE)
    for name in ("x.keras", "x.weights.h5"):
        (model.save if name.endswith("keras") else model.save_weights)(tmp_path / name)
        assert keras_deeplab.load(tmp_path / name).spec.image_range == RANGE
    assert keras_deeplab.build(model.spec, weights=tmp_path / "x.keras").spec.image_range == RANGE
    assert (
        keras_deeplab.build(replace(model.spec, image_range=None), weights=tmp_path / "x.keras").spec.image_range
        == RANGE
    )
    assert "image_range" not in replace(model.spec, image_range=None).to_dict()  # earlier versions read such records
