"""Every addition that CONTRIBUTING.md walks through works from outside the package: one block of code, one row."""

import re
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from randomise import randomise

import keras_deeplab
from keras_deeplab import data
from keras_deeplab.backbones import BACKBONES
from keras_deeplab.cli import COMMANDS, main
from keras_deeplab.data.source import indexed
from keras_deeplab.export import FORMATS, export_model, read_spec
from keras_deeplab.export.targets import TARGETS, settled
from keras_deeplab.inference.files import segment_files
from keras_deeplab.inference.outputs import OUTPUTS
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.inference.protocols import PROTOCOLS
from keras_deeplab.inference.strategies import STRATEGIES
from keras_deeplab.training.choices import LOSSES, SCHEDULES
from keras_deeplab.training.recipes import RECIPES, recipe
from keras_deeplab.weights.sources import SOURCES

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text("utf-8")
BLOCKS = dict(re.findall(r"^### An? ([a-z ]+)\n.*?```python\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE))
REGISTRIES = (
    BACKBONES,
    SOURCES,
    data.READERS,
    LOSSES,
    SCHEDULES,
    RECIPES,
    STRATEGIES,
    PROTOCOLS,
    OUTPUTS,
    FORMATS,
    TARGETS,
    COMMANDS,
)


@pytest.fixture(autouse=True)
def registries():
    """The registries as they were before."""
    before = [dict(registry) for registry in REGISTRIES]
    yield
    for registry, rows in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(rows)


def add(name):
    """Runs the block of an addition: all that is needed for it."""
    names = {}
    exec(compile(BLOCKS[name], f"CONTRIBUTING.md, {name}", "exec"), names)
    return names


def test_all_kinds_of_additions_are_told():
    kinds = ["backbone", "checkpoint source", "data set", "loss", "schedule", "recipe", "strategy", "protocol"]
    assert list(BLOCKS) == [*kinds, "output", "export format", "target", "command"]


def test_a_backbone():
    add("backbone")
    model = randomise(keras_deeplab.DeepLabV3Plus("tiny_net", num_classes=3, filters=8, output_stride=8))
    assert model.spec.backbone == "tiny_net"
    assert model.compute_output_shape((1, 33, 41, 3)) == (1, 33, 41, 3)
    assert model.get_layer("stage4").strides == (1, 1)
    with pytest.raises(ValueError, match="did you mean 'tiny_net'"):
        keras_deeplab.DeepLabV3("tiny_nt")


def test_a_checkpoint_source():
    names = add("backbone") and add("checkpoint source")
    twin = keras_deeplab.DeepLabV3("tiny_net", num_classes=5, filters=8, head="image_pooling")
    from keras_deeplab.weights.names import TORCH, their_name

    arrays = {}
    for variable in randomise(twin).weights:
        value = variable.numpy()
        arrays[their_name(variable.path, names["ROWS"], TORCH)] = (
            value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
        )
    assert "encoder.3.weight" in arrays
    model = keras_deeplab.load(arrays)
    assert (model.spec.num_classes, model.spec.backbone) == (5, "tiny_net")
    image = np.random.default_rng(0).uniform(0, 255, (1, 33, 41, 3)).astype(np.float32)
    np.testing.assert_array_equal(model(image), twin(image))
    del arrays["encoder.2.bias"]
    with pytest.raises(ValueError, match=r"stage2/bias .*there 'encoder\.2\.bias'"):
        keras_deeplab.load(arrays)


def test_a_data_set():
    add("data set")
    assert data.kind_of("bars") == "bars"
    source = data.load("bars", split="val", size=16)
    assert source.classes == ["background", "bar"]
    sample = next(source.dataset().as_numpy_iterator())
    assert sample["image"].shape == (16, 16, 3)
    with pytest.raises(ValueError, match="take sise; did you mean size"):
        data.load("bars", sise=16)


def trained(tmp_path, **options):
    import keras

    add("backbone")
    add("data set")
    keras.utils.set_random_seed(0)
    source = data.load("bars")
    model = keras_deeplab.DeepLabV3("tiny_net", num_classes=2, filters=8)
    settings = {"steps": 3, "crop_size": 16, "batch_size": 2, "progress": False, "log": lambda text: None}
    keras_deeplab.train(model, source, tmp_path / str(zlib.crc32(repr(options).encode())), **settings, **options)
    return np.concatenate([array.ravel() for array in model.get_weights()])


@pytest.mark.slow
def test_a_loss_and_a_schedule(tmp_path):
    usual = trained(tmp_path)
    add("loss")
    add("schedule")
    assert (trained(tmp_path, loss="squared") != usual).any()
    assert (trained(tmp_path, schedule="restarts") != usual).any()
    for name, nearest in (("loss", "squared"), ("schedule", "restarts")):
        with pytest.raises(ValueError, match=f"did you mean '{nearest}'"):
            trained(tmp_path, **{name: f"{nearest}x"})


def test_a_recipe(capsys):
    add("recipe")
    assert (recipe("mine").settings.steps, recipe("mine").settings.schedule.name) == (9000, "cosine")
    assert main(["recipes", "my own"]) == 0
    assert capsys.readouterr().out == "mine: Cityscapes, 71.3 (Cityscapes val, one scale)\n    my own runs\n"


def test_a_strategy():
    add("backbone")
    names = add("strategy")
    model = randomise(keras_deeplab.DeepLabV3("tiny_net", num_classes=3, filters=8))
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3)).astype(np.uint8)
    predict = predictor(model, strategy="upside_down")
    assert isinstance(predict.strategy, names["UpsideDown"])
    np.testing.assert_array_equal(predict(image), predictor(model)(image[::-1])[::-1])


def test_a_protocol():
    add("backbone")
    add("protocol")
    model = keras_deeplab.DeepLabV3("tiny_net", num_classes=3, filters=8)
    image = np.zeros((32, 48, 3), np.uint8)
    source = indexed("one", ["a", "b", "c"], 1, lambda _: (image, image[..., 0], "it"))
    told = keras_deeplab.evaluate(model, source, protocol="mine", progress=False).protocol
    assert told.startswith("mine: windows of 64x64 every 43x43 pixels (mean of scores), mirrored too")


def test_an_output(tmp_path):
    add("output")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3), np.uint8))
    labels = np.array([[0, 0, 0, 1]] * 4, np.uint8)
    (files,), _ = segment_files(
        lambda image: labels, tmp_path / "a.png", tmp_path, outputs=["shares"], classes=["soil", "leaf"], progress=False
    )
    assert files[0].read_text() == "soil 0.750\nleaf 0.250"


def test_an_export_format(tmp_path):
    add("backbone")
    add("export format")
    model = keras_deeplab.DeepLabV3("tiny_net", num_classes=3, filters=8, classes=["a", "b", "c"])
    path = export_model(model, tmp_path / "model.arrays", "arrays")
    assert path.is_file()
    assert FORMATS["arrays"].read_spec(path).model == model.spec
    assert read_spec(path).model == model.spec


def test_a_target():
    add("target")
    given = {"precision": None, "output": None, "upsample": None, "input_type": None, "output_type": None}
    found = settled("micro", **given)
    assert found == {**given, "precision": "int8", "output": "labels", "upsample": True, "input_type": "int8"}
    with pytest.raises(ValueError, match="Microcontrollers takes precision 'int8'; received 'float16'"):
        settled("micro", **{**given, "precision": "float16"})


def test_a_command(capsys):
    add("command")
    assert main(["greet", "--count", "2"]) == 0
    assert capsys.readouterr().out == "hello hello \n"
    with pytest.raises(SystemExit):
        main(["greet", "--count", "4"])
    assert "--count must be a whole number, at least 1 and at most 3; received 4" in capsys.readouterr().err
