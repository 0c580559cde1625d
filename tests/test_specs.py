"""The records themselves, and how they travel with Keras models."""

import json
import shutil
from dataclasses import fields, replace

import keras
import numpy as np
import pytest

import keras_deeplab
from keras_deeplab.data.masks import voc_palette
from keras_deeplab.specs import Classes, FileSpec, ModelSpec, default_colors, label_map
from keras_deeplab.specs.model import SegmentationModel, spec_of, with_spec

LEAVES = Classes(("soil", "leaf", "weed"), ((90, 60, 30), (0, 200, 0), (200, 0, 0)), 254)
SPEC = ModelSpec(
    3,
    channels=4,
    image_range=(0.0, 4095.0),
    widths={"conv": 4},
    builder="DeepLabV3Plus",
    backbone="mobilenet_v2",
    flavour="vainf",
    output_stride=8,
    settings={"atrous_rates": (6, 12), "filters": 32, "low_level": None},
    backbone_settings={"alpha": 0.5},
    preprocessing="tf",
    classes=LEAVES,
    logits_stride=4,
    resize="half_pixel_centers",
    activation="softmax",
    outputs=("logits", "auxiliary_logits"),
    head=("aspp0", "logits"),
)


def test_a_record_goes_through_json_unchanged():
    # Every field differs from its default, or the way back could leave it out unseen.
    plain = ModelSpec(3)
    same = {entry.name for entry in fields(ModelSpec) if getattr(plain, entry.name) == getattr(SPEC, entry.name)}
    assert same == {"num_classes", "multi_label"}
    for spec in (SPEC, replace(SPEC, activation="sigmoid", multi_label=True), plain):
        assert ModelSpec.from_json(spec.to_json()) == spec
    file = FileSpec(SPEC, "probabilities", False, ((33, 41), (65, 81)), "int8")
    assert FileSpec.from_dict(json.loads(json.dumps(file.to_dict()))) == file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r"record of format 2, this version reads up to 1: update"),
        ({"format": None}, r"no record of a keras_deeplab model"),
        ({"colour": 1}, r"isn't understood: colour"),
        (
            {"resize": "nearest"},
            r"resize must be one of 'align_corners', .*, 'asymmetric'; received 'nearest'",
        ),
        ({"num_classes": 0}, r"num_classes must be a positive integer; received 0"),
        ({"num_classes": "3"}, r"num_classes must be a positive integer"),
        ({"channels": None}, r"channels must be a positive integer"),
        ({"classes": {"names": ["a", "a", "b"]}}, r"'a' more than once"),
        ({"classes": {"names": ["a", "b"]}}, r"received 2 class names \(a, b\), and the model has 3 classes"),
        ({"classes": {"colors": [[1, 2, 300]] * 3}}, r"in 0\.\.255"),
        ({"classes": 5}, r"isn't understood"),
        ({"outputs": []}, r"outputs must begin with 'logits'"),
        ({"outputs": {"0": "logits"}}, r"isn't understood: outputs must be a tuple of names"),
        ({"head": 5}, r"head must be a tuple of names; received 5"),
        ({"settings": [3]}, r"settings must be a dict of arguments; received \(3,\)"),
        ({"backbone": 5}, r"backbone must be a name or None; received 5"),
        ({"multi_label": "no"}, r"multi_label must be True or False; received 'no'"),
    ],
)
def test_a_damaged_record_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        ModelSpec.from_dict({**SPEC.to_dict(), **change}, "x.keras")
    with pytest.raises(ValueError, match=r"x\.tflite has .*no JSON"):
        ModelSpec.from_json("{", "x.tflite")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_sizes": 5}, r"x\.tflite has a record that isn't understood"),
        ({"input_sizes": [[1]]}, r"input_sizes must be pairs \(height, width\)"),
        ({"upsampled": "no"}, r"upsampled must be True or False; received 'no'"),
        ({"precision": 8}, r"precision must be a name, such as 'int8'; received 8"),
        ({"output": ["labels"]}, r"output must be one of labels, logits, probabilities; received \('labels',\)"),
    ],
)
def test_a_damaged_record_of_a_file_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        FileSpec.from_dict({**FileSpec(SPEC).to_dict(), **change}, "x.tflite")


def test_sigmoids_of_several_classes_decide_each_and_one_class_is_binary():
    several = ModelSpec(3, activation="sigmoid")
    assert several.multi_label
    assert (several.exclusive, several.probability) == (False, "sigmoid")
    assert replace(ModelSpec(3, multi_label=True), num_classes=4).multi_label
    one = replace(several, num_classes=1)
    assert (one.multi_label, one.binary, one.exclusive) == (False, True, False)
    assert (ModelSpec(3).exclusive, ModelSpec(3).probability) == (True, "softmax")
    dtypes = [ModelSpec(count, multi_label=several).label_dtype for several in (False, True) for count in (256, 257)]
    assert dtypes == ["uint8", "int32", "uint8", "int32"]


def test_labels_and_colours_where_nothing_tells():
    assert ModelSpec(1).labels == ("class 0", "class 1")
    assert ModelSpec(3).labels == ("class 0", "class 1", "class 2")
    assert Classes().palette(3) == default_colors(3)
    assert LEAVES.palette(4) == (*LEAVES.colors, default_colors(4)[3])
    assert len(set(default_colors(300))) == 300
    np.testing.assert_array_equal(default_colors(256), voc_palette())


def test_labels_are_paired_by_name():
    model = Classes(("road", "sky", "tree"))
    assert label_map(model, model) is None
    assert label_map(Classes(), model) is label_map(model, Classes()) is None
    assert label_map(Classes(("sky", "cow", "road")), model, "names") == (1, 255, 0)
    assert label_map(Classes(("sky", "cow", "road")), model, {"cow": "tree", "sky": None}) == (255, 2, 0)
    with pytest.raises(ValueError, match="because the data doesn't tell its names"):
        label_map(Classes(), model, "names")
    with pytest.raises(ValueError, match="class_map must be None, 'names' or a dict"):
        label_map(Classes(("sky", "road")), model, "by name")


def small(channels=3, classes=3):
    inputs = keras.Input((None, None, channels))
    x = keras.layers.Conv2D(4, 3, 4, padding="same", name="features")(inputs)
    return keras.Model(inputs, keras.layers.Conv2D(classes, 1, name="scores")(x), name="small")


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_a_moved_and_renamed_file_keeps_the_record(tmp_path, name):
    model = with_spec(small(), classes=LEAVES, resize="half_pixel_centers", head=("scores",))
    if name == "model.keras":
        model.save(tmp_path / name)
    else:
        model.save_weights(tmp_path / name)
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.move(tmp_path / name, tmp_path / "elsewhere" / f"other{name.removeprefix('model')}")
    again = keras_deeplab.load(moved)
    assert again.spec == model.spec
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])
    if name == "model.keras":
        assert keras.models.load_model(moved).spec == model.spec
    else:
        plain = small()
        plain.load_weights(moved)  # to Keras it is a file of weights like any other
        np.testing.assert_array_equal(plain.get_weights()[0], model.get_weights()[0])


def test_a_model_keeps_its_record_through_its_configuration_only_as_itself():
    model = with_spec(small(), classes=LEAVES)
    assert isinstance(model, SegmentationModel)
    assert SegmentationModel.from_config(model.get_config()).spec == model.spec
    assert spec_of(keras.Model(model.inputs, model.get_layer("features").output)).num_classes == 4
    config = model.get_config()
    config["spec"] = replace(model.spec, num_classes=7, classes=Classes()).to_dict()
    with pytest.raises(ValueError, match="num_classes 7, the model has 3"):
        SegmentationModel.from_config(config)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("builder", "settings"),
    [
        ("DeepLabV1", {"backbone": "vgg11_caffe", "filters": 8}),
        ("DeepLabV2", {"backbone": "resnet18", "multi_scale": True, "output_stride": 8}),
        ("DeepLabV3", {"backbone": "mobilenet_v3_small", "flavour": "torchvision", "auxiliary_head": True}),
        ("DeepLabV3Plus", {"backbone": "mobilenet_v2_vainf", "flavour": "vainf", "output_stride": 8}),
    ],
)
def test_builders_write_what_they_built(builder, settings):
    model = getattr(keras_deeplab, builder)(num_classes=3, classes=LEAVES, upsample_logits=False, **settings)
    spec = model.spec
    assert (spec.builder, spec.backbone) == (builder, settings["backbone"])
    assert spec.flavour == settings.get("flavour")
    assert spec.classes == LEAVES
    assert spec.logits_stride == (4 if builder == "DeepLabV3Plus" else spec.output_stride)
    assert spec.outputs == (("logits", "auxiliary_logits") if "auxiliary_head" in settings else ("logits",))
    # The head is what the backbone alone has not.
    backbone = keras_deeplab.BACKBONES[settings["backbone"]].build((None, None, 3))
    ours = {variable.path.rpartition("/")[0] for variable in model.weights}
    assert set(spec.head) == ours - {variable.path.rpartition("/")[0] for variable in backbone.weights}
    assert any("logits" in path for path in spec.head)
