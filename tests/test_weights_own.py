"""Files of this package: the network comes back with its weights, and nothing else in them is run or believed."""

import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
from randomise import randomise
from weight_files import without_record

import keras_deeplab
from keras_deeplab._helpers import limits
from keras_deeplab.backbones.mobilenet_v3 import mobilenet_v3_large
from keras_deeplab.specs import Classes
from keras_deeplab.specs.model import SegmentationModel
from keras_deeplab.weights import opened, own, readers
from keras_deeplab.weights.readers.files import kind_of
from keras_deeplab.weights.readers.hdf5 import NETWORK
from keras_deeplab.weights.writers import save_keras

IMAGE = np.random.default_rng(0).integers(0, 256, (1, 33, 49, 3)).astype("uint8")
NAMES = ("model.keras", "model.weights.h5")


def tiny(builder=keras_deeplab.DeepLabV3, **settings):
    """A DeepLab on a backbone of five layers."""
    x = inputs = keras.Input((None, None, 3), name="in")
    for name, filters in [("one", 4), ("two", 6), ("three", 8)]:
        x = keras.layers.Conv2D(filters, 3, 2, padding="same", activation="relu", name=name)(x)
    x = keras.layers.BatchNormalization(name="four")(x)
    backbone = keras.Model(inputs, keras.layers.Conv2D(6, 3, padding="same", name="five")(x), name="tiny")
    return builder(backbone, **{"num_classes": 3, "filters": 4, "output_stride": 8, **settings})


@pytest.fixture(scope="module")
def model():
    return randomise(tiny())


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """Paths by name of the files that `save_keras` writes of `model`."""
    folder = tmp_path_factory.mktemp("own")
    for name in NAMES:
        save_keras(model, folder / name)
    return {name: folder / name for name in NAMES}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_file_becomes_the_model_that_it_was(name, model, files):
    assert kind_of(files[name]) == {"model.keras": "keras", "model.weights.h5": "h5"}[name]
    for loaded in (keras_deeplab.load(files[name]), keras_deeplab.load(files[name], "keras", 8, 3)):
        assert loaded.name == model.name
        assert loaded.input_shape == model.input_shape
        np.testing.assert_array_equal(loaded(IMAGE), model(IMAGE))


def test_the_network_beside_the_weights_is_nothing_to_keras(model, files):
    other = tiny()
    other.load_weights(files["model.weights.h5"])
    np.testing.assert_array_equal(other(IMAGE), model(IMAGE))
    assert list(readers.read(files["model.weights.h5"])[1]) == list(readers.hdf5.read(files["model.weights.h5"]))
    with h5py.File(files["model.weights.h5"]) as file:
        assert json.loads(file[NETWORK][()].tobytes())["config"]["name"] == model.name


@pytest.mark.slow
def test_a_renamed_file_of_weights_loads(model, files, tmp_path):
    path = tmp_path / "best.h5"
    path.write_bytes(files["model.weights.h5"].read_bytes())
    np.testing.assert_array_equal(keras_deeplab.load(path)(IMAGE), model(IMAGE))
    np.testing.assert_array_equal(tiny(weights=path)(IMAGE), model(IMAGE))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_model_loads_without_its_optimizer(name, tmp_path):
    model = tiny()
    model.compile("adam", keras_deeplab.training.losses.SparseCategoricalCrossentropy(), metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    save_keras(model, tmp_path / name)
    loaded = keras_deeplab.load(tmp_path / name)
    assert not loaded.compiled
    np.testing.assert_array_equal(loaded(IMAGE), model(IMAGE))


@pytest.mark.parametrize("name", NAMES)
def test_another_number_of_classes_keeps_all_but_the_last_layer(name, model, files):
    with pytest.warns(UserWarning, match=r"has 3 classes and 7 were asked for: the last layer \('logits'\)") as told:
        loaded = keras_deeplab.load(files[name], num_classes=7)
    assert told[0].filename == __file__
    assert loaded.output_shape[-1] == 7
    before = {variable.path: variable.numpy() for variable in model.weights}
    for variable in loaded.weights:
        if variable.path.startswith("logits/"):
            assert variable.shape[-1] == 7
        else:
            np.testing.assert_array_equal(variable, before[variable.path])
    assert loaded(IMAGE).shape == (1, 33, 49, 7)
    assert np.std(loaded.get_layer("logits").kernel) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "fresh"),
    [
        (lambda: keras_deeplab.DeepLabV2("vgg11", num_classes=2, filters=4), [f"logits_{n}" for n in range(1, 5)]),
        (
            lambda: keras_deeplab.DeepLabV3(
                mobilenet_v3_large(alpha=0.35), num_classes=2, filters=4, flavour="torchvision", auxiliary_head=True
            ),
            ["auxiliary_logits", "logits"],
        ),
        (
            lambda: keras_deeplab.DeepLabV3("mobilenet_v3_small_seg", num_classes=2, output_stride=32, filters=4),
            ["feature_projection0", "decoder_conv0"],
        ),
    ],
    ids=["several branches", "auxiliary head", "lite R-ASPP"],
)
def test_every_layer_of_classes_changes(build, fresh, tmp_path):
    model = build()
    save_keras(model, tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="has 2 classes and 5 were asked for"):
        loaded = keras_deeplab.load(tmp_path / "model.keras", num_classes=5)
    others = {v.path: tuple(v.shape) for v in model.weights if tuple(v.shape) != tuple(loaded_shape(loaded, v.path))}
    assert {path.split("/")[0] for path in others} == set(fresh)
    shapes = loaded.output_shape if isinstance(loaded.output_shape, (list, dict)) else [loaded.output_shape]
    assert {shape[-1] for shape in (shapes.values() if isinstance(shapes, dict) else shapes)} == {5}


def loaded_shape(model, path):
    return next(variable.shape for variable in model.weights if variable.path == path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output_stride": 16}, "isn't registered, so it has one output stride, its own"),
        ({"source": "vainf"}, "source='keras'; received source='vainf'"),
        ({"include_preprocessing": False}, "include_preprocessing can't be given"),
        ({"input_shape": (None, None, 4), "stem": "mean"}, "a network on 'tiny', no key of BACKBONES, .* it stays"),
        ({"atrous_rates": (1, 2, 3)}, "atrous_rates can't be given"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_what_a_saved_network_can_not_become_is_told(name, settings, message, files):
    with pytest.raises(ValueError, match=message) as caught:
        keras_deeplab.load(files[name], **settings)
    assert str(files[name]) in str(caught.value)
    assert any(way in str(caught.value) for way in ("weights=", "BACKBONES")) or "source" in settings


@pytest.mark.slow
def test_weights_without_their_network_are_told_what_to_do(model, tmp_path):
    path = tmp_path / "plain.weights.h5"
    keras.Model.save_weights(model, path)  # as earlier versions and plain models save
    for settings in ({}, {"source": "keras"}):
        with pytest.raises(ValueError, match=r"plain\.weights\.h5 holds no .* give the file as weights="):
            keras_deeplab.load(path, **settings)
    np.testing.assert_array_equal(tiny(weights=path)(IMAGE), model(IMAGE))
    with pytest.raises(ValueError, match=r"plain\.weights\.h5' can't be read as the weights of .* it has \d+ arrays"):
        tiny(keras_deeplab.DeepLabV3Plus, weights=path)


def test_arrays_of_other_sources_are_not_keras_s():
    with pytest.raises(ValueError, match="the given mapping holds no network of Keras"):
        keras_deeplab.load({"a": np.ones(1)}, source="keras")


def test_a_file_that_is_used_twice_is_read_once(files, monkeypatch):
    reads = []
    monkeypatch.setattr(own, "opened", lambda path, kind, read=own.opened: reads.append(path) or read(path, kind))
    with opened(files["model.keras"]) as stored:
        assert "one/vars/0" in stored.arrays
        assert keras_deeplab.load(stored).output_shape[-1] == 3
    assert len(reads) == 1


# Hostile and damaged ----------------------------------------------------------------------------------------------


def changed(source, target, edit, weights=None):
    """A copy of a file with another network, and for a .keras file other weights."""
    if source.suffix == ".keras":
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
            for name in old.namelist():
                content = old.read(name)
                if name == "config.json":
                    content = edited(content, edit)
                new.writestr(name, weights if weights and name.endswith(".h5") else content)
    else:
        target.write_bytes(source.read_bytes())
        with h5py.File(target, "r+") as file:
            content = edited(file[NETWORK][()].tobytes(), edit)
            del file[NETWORK]
            file[NETWORK] = np.frombuffer(content, "uint8")
    return target


def edited(text, edit):
    if isinstance(edit, bytes):
        return edit
    config = json.loads(text)
    edit(config["config"]["layers"], config)
    return json.dumps(config).encode()


def lambda_layer(marker):
    """A layer with code that makes a file, in the form that Keras runs where it is told to trust files."""

    def layer(layers, _):
        function = eval(f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]")
        row = keras.saving.serialize_keras_object(keras.layers.Lambda(function, name=layers[1]["config"]["name"]))
        layers[1].update(row)
        layers[1].pop("build_config", None)

    return layer


def wide(layers, config):
    del config["config"]["spec"]
    for row in layers:
        row.pop("build_config", None)
        if "filters" in row["config"]:
            row["config"]["filters"] = 1 << 24


def deep(layers, _):
    value = []
    for _ in range(900):
        value = [value]
    layers[0]["config"]["batch_shape"] = value


def class_of(class_name, module, registered_name=None):
    def edit(layers, _):
        layers[1].update(class_name=class_name, module=module, registered_name=registered_name)

    return edit


def compiled(_, config):
    config["compile_config"] = {"loss": {"class_name": "__lambda__", "config": {"value": "x"}}}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("trusting", [False, True])
def test_code_in_a_network_is_not_run(name, trusting, files, tmp_path):
    marker = tmp_path / "ran"
    path = changed(files[name], tmp_path / name, lambda_layer(marker))
    if trusting:
        keras.config.enable_unsafe_deserialization()
    try:
        for load in (keras_deeplab.load, lambda path: tiny(weights=path)):
            if load is not keras_deeplab.load and path.suffix != ".keras":
                continue  # there the network isn't looked at
            with pytest.raises(ValueError, match=r"runs? code of their own \(Lambda, __lambda__\)") as caught:
                load(path)
            assert path.name in str(caught.value)
    finally:
        keras.src.saving.serialization_lib.global_state.set_global_attribute("safe_mode_saving", None)
    assert not marker.exists()


@pytest.mark.slow
def test_the_code_is_no_straw_man(files, tmp_path):
    path = changed(files["model.keras"], tmp_path / "model.keras", lambda_layer(tmp_path / "ran"))
    with pytest.raises(ValueError, match="is incompatible with the layer"):
        keras.models.load_model(path, safe_mode=False)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (wide, r"it has \d+ arrays of .* values, and the network"),
        (deep, "can't be read as a network of Keras"),
        (compiled, "run code of their own"),
        (class_of("TFSMLayer", "keras.layers"), r"code of their own \(TFSMLayer\)"),
        (class_of("system", "os"), "Could not locate class 'system'"),
        (class_of("get_file", "keras.utils"), "can't be read as a network of Keras"),
        (class_of("Unheard", "somewhere", "mine>Unheard"), "Could not locate class 'Unheard'"),
        (b"[]", "its configuration is no network's"),
        (b"{", "can't be read as a network of Keras"),
        (b'{"config": {"layers": [1]}}', "its configuration is that of a dict, not of a network"),
        (b'{"class_name": "Functional", "config": {"layers": [{"class_name": "ReLU"}]}}', "can't be read as a network"),
        (b"[" * 100_000, "can't be read as a network of Keras"),
        (
            b'{"class_name": "Dense", "module": "keras.layers", "config": {"units": 1}}',
            "can't be read as|that of a Dense",
        ),
    ],
    # Without addresses of functions, which differ from process to process, and without 100,000 brackets.
    ids=lambda value: value.__name__ if callable(value) else str(value[:40]),
)
def test_networks_that_can_not_be_are_refused(name, edit, message, files, tmp_path):
    path = changed(files[name], tmp_path / name, edit)
    with pytest.raises(ValueError, match=message) as caught:
        keras_deeplab.load(path)
    assert path.name in str(caught.value)
    assert len(str(caught.value)) < 3000


@pytest.mark.slow
def test_values_that_are_not_finite_are_refused(model, tmp_path):
    other = tiny()
    other.set_weights(model.get_weights())
    kernel = other.get_layer("logits").kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    for name in NAMES:
        save_keras(other, tmp_path / name)
        with pytest.raises(ValueError, match=r"model\..* not finite, in logits/vars/0"):
            keras_deeplab.load(tmp_path / name)


def test_archives_that_lie_are_refused(files, tmp_path):
    def write(name, **members):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members.items():
                archive.writestr({"config": "config.json", "weights": "model.weights.h5"}[member], content)
        return tmp_path / name

    def layers(count):
        """Of a network in a network."""
        inner = {"class_name": "Functional", "config": {"name": "inner", "layers": [{}] * (count - 1)}}
        return json.dumps({"class_name": "Functional", "config": {"name": "outer", "layers": [inner]}})

    weights = zipfile.ZipFile(files["model.keras"]).read("model.weights.h5")
    with pytest.raises(ValueError, match="can't be read as a network of Keras"):  # as many as there may be, all empty
        keras_deeplab.load(write("f.keras", config=layers(limits.LAYERS), weights=weights))
    for path, message in [
        (write("a.keras", config="{}", weights=b"\0" * (1 << 24)), "far larger than the file"),
        (write("b.keras", config=" " * (limits.CONFIG_BYTES + 1), weights=weights), "far larger than a network's"),
        (write("g.keras", config=layers(limits.LAYERS + 1), weights=weights), r"asks for 5,001 layers; .* up to 5,000"),
        (write("c.keras", weights=weights), "config.json"),
        (write("d.keras", config="{}"), "model.weights.h5"),
        (write("e.keras", config="{}", weights=b"not HDF5"), "an HDF5 file with"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            keras_deeplab.load(path)
        assert path.name in str(caught.value)
    damaged = bytearray(files["model.keras"].read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "f.keras").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"f\.keras' can't be read as a \.keras file.*CRC"):
        keras_deeplab.load(tmp_path / "f.keras")


# The record -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def named_files(tmp_path_factory):
    """A model whose classes have names and colours, and its files."""
    classes = Classes(("sky", "road", "tree"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)), ignore_label=254)
    model = randomise(tiny(classes=classes, flavour="vainf", classifier_activation="softmax"))
    folder = tmp_path_factory.mktemp("named")
    for name in NAMES:
        save_keras(model, folder / name)
    return model, {name: folder / name for name in NAMES}


def same_but_logits(loaded, model):
    before = {variable.path: variable.numpy() for variable in model.weights}
    same = {v.path: np.array_equal(v, before[v.path]) for v in loaded.weights if v.shape == before[v.path].shape}
    assert all(equal for path, equal in same.items() if not path.startswith("logits/"))
    return same.get("logits/kernel", False)


@pytest.mark.parametrize("name", NAMES)
def test_a_moved_file_keeps_its_record(name, named_files, tmp_path):
    model, files = named_files
    moved = tmp_path / f"moved{''.join(files[name].suffixes)}"
    moved.write_bytes(files[name].read_bytes())
    loaded = keras_deeplab.load(moved)
    assert isinstance(loaded, SegmentationModel)
    assert loaded.spec == model.spec
    assert loaded.spec.labels == ("sky", "road", "tree")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_names_that_a_file_has_are_taken_over(name, named_files):
    model, files = named_files
    loaded = keras_deeplab.load(files[name], classes=["sky", "road", "tree"])
    assert loaded.spec == model.spec  # colours and ignored label as well
    assert same_but_logits(loaded, model)
    other = Classes(("sky", "road", "tree"))
    assert keras_deeplab.load(files[name], classes=other).spec.classes == other


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            ["road", "sky", "tree"],
            r"sky, road, tree, and road, sky, tree were asked for: the same names in another order",
        ),
        (
            ["leaf", "stem", "soil"],
            r"sky, road, tree, and leaf, stem, soil were asked for: the last layer \('logits'\)",
        ),
        (["leaf", "stem"], r"sky, road, tree, and leaf, stem were asked for: the last layer \('logits'\) starts"),
    ],
)
def test_other_names_start_the_last_layer_afresh(classes, message, named_files):
    model, files = named_files
    with pytest.warns(UserWarning, match=message) as told:
        loaded = keras_deeplab.load(files["model.keras"], classes=classes)
    assert told[0].filename == __file__
    assert loaded.spec.classes == Classes(tuple(classes))
    assert (loaded.spec.num_classes, loaded.output_shape[-1]) == (len(classes), len(classes))
    assert not same_but_logits(loaded, model)


@pytest.mark.slow
def test_another_number_of_classes_leaves_them_without_names(named_files):
    model, files = named_files
    with pytest.warns(UserWarning, match="has 3 classes and 5 were asked for"):
        loaded = keras_deeplab.load(files["model.weights.h5"], num_classes=5)
    assert (loaded.spec.num_classes, loaded.spec.classes) == (5, Classes())
    assert (loaded.spec.flavour, loaded.spec.activation, loaded.spec.head) == ("vainf", "softmax", model.spec.head)
    with pytest.raises(ValueError, match=r"received 2 class names .*has 5 classes"):
        keras_deeplab.load(files["model.keras"], num_classes=5, classes=["a", "b"])
    with pytest.raises(ValueError, match="softmax of one class"):
        keras_deeplab.load(files["model.keras"], num_classes=1)


def test_a_binary_model_has_two_names(tmp_path):
    save_keras(randomise(tiny(num_classes=1)), tmp_path / "model.keras")
    loaded = keras_deeplab.load(tmp_path / "model.keras", classes=["ground", "leaf"])
    assert (loaded.spec.num_classes, loaded.spec.labels) == (1, ("ground", "leaf"))


@pytest.mark.slow
def test_a_file_without_a_record_gets_that_of_its_layers(named_files, tmp_path):
    model, files = named_files
    path = without_record(files["model.keras"], tmp_path / "old.keras")
    loaded = keras_deeplab.load(path)
    assert isinstance(loaded, SegmentationModel)
    assert (loaded.spec.builder, loaded.spec.labels) == (None, ("class 0", "class 1", "class 2"))
    assert (loaded.spec.resize, loaded.spec.activation) == ("half_pixel_centers", "softmax")
    np.testing.assert_array_equal(loaded(IMAGE), model(IMAGE))
    assert keras_deeplab.load(path, classes=["a", "b", "c"]).spec.labels == ("a", "b", "c")
    with pytest.warns(UserWarning, match="has 3 classes and 2 were asked for"):
        fresh = keras_deeplab.load(path, classes=["a", "b"])
    assert (fresh.output_shape[-1], fresh.spec.labels) == (2, ("a", "b"))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_classes": 4, "classes": {}},
        {"channels": 4},
        {"outputs": ["logits", "auxiliary_logits"]},
        {"activation": None},
        {"resize": "align_corners"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_record_of_another_network_is_refused(changes, named_files, tmp_path):
    path = without_record(named_files[1]["model.keras"], tmp_path / "other.keras", **changes)
    with pytest.raises(ValueError, match=r"other\.keras.* is not its own"):
        keras_deeplab.load(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_builder_takes_the_names_from_its_weights_or_refuses_others(name, named_files):
    model, files = named_files
    settings = {"flavour": "vainf", "classifier_activation": "softmax", "weights": files[name]}
    assert tiny(**settings).spec.classes == model.spec.classes
    with pytest.raises(ValueError, match=r"has the classes sky, road, tree, and the model was given tree, road, sky"):
        tiny(**settings, classes=["tree", "road", "sky"])
