"""What `train` builds of its options, and how commands know the classes of models and data."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import keras_deeplab
from keras_deeplab import data
from keras_deeplab._helpers.unallocated import unallocated
from keras_deeplab.cli import main
from keras_deeplab.cli.network import Network
from keras_deeplab.cli.shared import AnyModel, Identity, load_data
from keras_deeplab.data.settings import DataOptions
from keras_deeplab.options import OptionError
from keras_deeplab.specs import Classes
from keras_deeplab.specs.model import spec_of, with_spec

SHAPES = ("background", "disc", "square", "triangle", "star", "ring")


@pytest.fixture(scope="module")
def source():
    return data.load("synthetic", split="val", num_examples=3, size=(40, 56))


def two_classes(source, channels=3):
    """A stand-in for a data set of two classes."""

    class Two:
        name, num_classes, classes, classes_spec = "two", 2, ["field", "road"], Classes(("field", "road"))

    Two.channels = channels
    return Two


# The network ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("DeepLabV3Plus", "mobilenet_v2", "tf", 16)),
        ({"model": "deeplabv1", "backbone": "vgg11_caffe", "variant": "4x4"}, ("DeepLabV1", "vgg11_caffe", None, 8)),
        ({"model": "deeplabv2", "backbone": "vgg11_caffe"}, ("DeepLabV2", "vgg11_caffe", None, 8)),
        (
            {"model": "deeplabv3", "backbone": "resnet18", "flavour": "torchvision", "auxiliary_head": True},
            ("DeepLabV3", "resnet18", "torchvision", 16),
        ),
        ({"flavour": "vainf", "output_stride": 8}, ("DeepLabV3Plus", "mobilenet_v2", "vainf", 8)),
        ({"model": "vainf_deeplabv3_mobilenet"}, ("DeepLabV3", "mobilenet_v2_vainf", "vainf", 16)),
    ],
)
def test_every_network_is_reached_with_the_datas_classes(source, options, expected):
    with unallocated():
        spec = Network(**options).build(source).spec
    assert (spec.builder, spec.backbone, spec.flavour, spec.output_stride) == expected
    assert spec.classes == source.classes_spec
    assert spec.settings.get("variant") == options.get("variant")
    assert (len(spec.outputs) == 2) == bool(options.get("auxiliary_head"))


@pytest.mark.slow
def test_rates_and_blocks_reach_the_builder(source):
    with unallocated():
        settings = Network(model="deeplabv3", atrous_rates=(2, 4), multi_grid=(1, 2, 4)).build(source).spec.settings
        cascade = Network(model="deeplabv3", backbone="resnet50", cascade_blocks=1).build(source).spec.settings
    assert (settings["atrous_rates"], settings["multi_grid"]) == ((2, 4), (1, 2, 4))
    assert cascade["cascade_blocks"] == 1


@pytest.mark.slow
def test_a_binary_model_is_for_data_of_two_classes(source):
    with unallocated():
        spec = Network(binary=True).build(two_classes(source)).spec
        assert (spec.num_classes, spec.labels) == (1, ("field", "road"))
        assert Network(model="deeplabv3").build(two_classes(source, channels=5)).spec.channels == 5
    with pytest.raises(OptionError, match=r"binary is for data of two classes; synthetic .* has 6"):
        Network(binary=True).build(source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "4x4"}, "variant is no option of deeplabv3plus, which takes backbone, .*atrous_rates"),
        ({"model": "deeplabv1", "flavour": "tf"}, "flavour is no option of deeplabv1, which takes .*variant"),
        ({"model": "deeplabv2", "auxiliary_head": True}, "auxiliary_head is no option of deeplabv2"),
        ({"model": "vainf_deeplabv3_mobilenet", "backbone": "vgg16"}, "has a backbone of its own"),
        ({"model": "vainf_deeplabv3_mobilnet"}, "did you mean 'vainf_deeplabv3_mobilenet'"),
    ],
)
def test_what_a_builder_does_not_take_is_refused_with_what_it_takes(source, options, message):
    with pytest.raises(OptionError, match=message):
        Network(**options).build(source)


@pytest.mark.slow
def test_weights_of_the_same_classes_are_kept_and_of_others_start_the_last_layer_afresh(source, tmp_path):
    from keras_deeplab.backbones.mobilenet_v2 import mobilenet_v2

    settings = {"num_classes": 6, "filters": 4, "low_level_filters": 3}
    model = keras_deeplab.DeepLabV3Plus(mobilenet_v2(alpha=0.1), classes=source.classes_spec, **settings)
    model.save(tmp_path / "same.keras")
    with_spec(model, classes=Classes(SHAPES[::-1])).save(tmp_path / "other.keras")
    same = Network(weights=str(tmp_path / "same.keras")).build(source)
    np.testing.assert_array_equal(same.get_layer("logits").get_weights()[0], model.get_layer("logits").get_weights()[0])
    with pytest.warns(UserWarning, match="the same names in another order.* starts from fresh values"):
        other = Network(weights=str(tmp_path / "other.keras")).build(source)
    assert other.spec.classes.names == SHAPES
    assert np.abs(other.get_layer("logits").get_weights()[0] - model.get_layer("logits").get_weights()[0]).max() > 0
    with pytest.raises(ValueError, match="atrous_rates can't be given"):
        Network(weights=str(tmp_path / "same.keras"), atrous_rates=(1, 2)).build(source)


@pytest.mark.slow
def test_beside_a_model_weights_fill_that_network_as_a_second_stage_does(source, tmp_path):
    """At another output stride, which the file of the first stage can't be loaded at."""
    first = Network(model="deeplabv3", output_stride=16).build(source)
    first.save(tmp_path / "first.keras")
    second = Network(model="deeplabv3", output_stride=8, weights=str(tmp_path / "first.keras")).build(source)
    assert (first.spec.output_stride, second.spec.output_stride) == (16, 8)
    assert second.spec.classes == source.classes_spec
    for ours, theirs in zip(second.weights, first.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(OptionError, match="weights holds the backbone too: give it or backbone_weights, not both"):
        Network(model="deeplabv3", weights="first.keras", backbone_weights="imagenet")


# Data -------------------------------------------------------------------------------------------------------------


def test_options_that_a_reader_does_not_take_are_refused_with_those_it_takes(tmp_path, monkeypatch):
    message = "'synthetic', which is read as synthetic, doesn't take label_offset; it takes"
    with pytest.raises(OptionError, match=message):
        load_data("synthetic", "train", DataOptions(label_offset=1))
    (tmp_path / "JPEGImages").mkdir()
    asked = {}
    monkeypatch.setattr(data, "load", lambda *args, **options: asked.update(options) or SimpleNamespace(notes=[]))
    load_data(str(tmp_path), "train", DataOptions(augmented=True))
    assert asked == {"split": "train", "augmented": True}


# Classes ----------------------------------------------------------------------------------------------------------


def plain_model(num_classes, seed=0):
    keras.utils.set_random_seed(seed)
    images = keras.Input((None, None, 3))
    return keras.Model(images, keras.layers.Conv2D(num_classes, 3, padding="same", name="logits")(images))


@pytest.mark.slow
def test_no_model_of_21_classes_is_called_voc(tmp_path):
    path = str(tmp_path / "plants.keras")
    plain_model(21).save(path)
    predict = AnyModel(model=path).predictor()
    assert predict.spec.labels == tuple(f"class {label}" for label in range(21))
    named = AnyModel(model=path, identity=Identity(classes="VOC")).predictor()
    assert named.spec.labels[1] == "aeroplane"
    with pytest.raises(ValueError, match=r"received 19 class names .*and the model has 21 classes"):
        AnyModel(model=path, identity=Identity(classes="cityscapes")).predictor()


def test_names_and_colours_are_those_of_files_or_of_data_sets_known_by_name(tmp_path):
    (tmp_path / "names.txt").write_text("field\n\nroad\n")
    (tmp_path / "colors.txt").write_text("1 2 3\n4 5 6\n")
    names, colors = str(tmp_path / "names.txt"), str(tmp_path / "colors.txt")
    own = Classes(("a", "b"), ((0, 0, 0), (9, 9, 9)))
    assert Identity().resolved(own, 2) == own
    assert Identity(classes=names).resolved(own, 2) == Classes(("field", "road"), own.colors)
    assert Identity(palette=colors).resolved(own, 2) == Classes(("a", "b"), ((1, 2, 3), (4, 5, 6)))
    assert Identity(classes="cityscapes").resolved(Classes(), 19).colors[0] == (128, 64, 128)
    with pytest.raises(OptionError, match="classes citiscapes is neither a file nor one of voc, cityscapes"):
        Identity(classes="citiscapes").resolved(Classes(), 19)
    with pytest.raises(OptionError, match=r"must hold three numbers in 0..255 a line"):
        Identity(palette=names).resolved(own, 2)


@pytest.fixture(scope="module")
def folder(source, tmp_path_factory):
    """Three drawn images with masks, and a model of the same classes in another order."""
    from keras_deeplab._helpers.opencv import cv2
    from keras_deeplab.data.masks import write_label_png

    root = tmp_path_factory.mktemp("order")
    names = []
    for sub in ("images", "masks", "splits"):
        (root / "data" / sub).mkdir(parents=True)
    for sample in source.dataset().as_numpy_iterator():
        names.append(sample["name"].decode())
        cv2.imwrite(str(root / "data" / "images" / f"{names[-1]}.png"), sample["image"][..., ::-1])
        write_label_png(root / "data" / "masks" / f"{names[-1]}.png", sample["label"])
    (root / "data" / "splits" / "val.txt").write_text("\n".join(names))
    (root / "data" / "classes.txt").write_text("\n".join(SHAPES))
    colors = tuple((label, 10 * label, 200) for label in range(6))
    model = plain_model(6)
    model.save(root / "unnamed.keras")
    with_spec(model, classes=Classes(SHAPES[::-1], colors)).save(root / "model.keras")
    return root


@pytest.mark.slow
def test_data_in_another_order_is_refused_and_mapped_by_an_option(folder, tmp_path, capsys):
    arguments = ["evaluate", str(folder / "model.keras"), str(folder / "data")]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "their order differs" in error
    assert "--class-map" in error
    assert main([*arguments, "--class-map", "names", "--json", str(tmp_path / "mapped.json")]) == 0
    mapped = json.loads((tmp_path / "mapped.json").read_text())
    assert main([*arguments, "--class-map", "disc=ring,ring=", "--json", str(tmp_path / "pairs.json")]) == 0
    assert json.loads((tmp_path / "pairs.json").read_text()) != mapped
    assert main([*arguments, "--class-map", "disk=ring"]) == 1
    assert "'disk'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*arguments, "--class-map", "order"])
    assert "--class-map must be names, or DATA=MODEL,..." in capsys.readouterr().err
    # An unnamed model is scored by number, and under the names that are given.
    unnamed = ["evaluate", str(folder / "unnamed.keras"), str(folder / "data")]
    assert main([*unnamed, "--json", str(tmp_path / "number.json")]) == 0
    (tmp_path / "names.txt").write_text("\n".join(SHAPES[::-1]))
    assert main([*unnamed, "--classes", str(tmp_path / "names.txt")]) == 1
    assert "their order differs" in capsys.readouterr().err


def test_overlays_have_the_models_own_colours_wherever_its_file_is(folder, tmp_path, capsys):
    moved = tmp_path / "elsewhere.keras"
    moved.write_bytes((folder / "model.keras").read_bytes())
    image = str(next((folder / "data" / "images").iterdir()))
    assert main(["predict", str(moved), image, "--output-dir", str(tmp_path / "out")]) == 0
    (labels,) = (path for path in (tmp_path / "out").iterdir() if "overlay" not in path.name)
    content = labels.read_bytes()
    palette = np.frombuffer(content[content.index(b"PLTE") + 4 :][:768], np.uint8).reshape(256, 3)
    assert palette[5].tolist() == [5, 50, 200]
    assert spec_of(keras.models.load_model(moved)).labels == SHAPES[::-1]
