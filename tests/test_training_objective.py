"""What a training minimises, which models and data go together, and what the files of a run know of the classes."""

import shutil

import keras
import numpy as np
import pytest
from test_training_trainer import Killed, assert_equal_weights, killer, run, tiny

import keras_deeplab
from keras_deeplab import data
from keras_deeplab.backbones import BACKBONES
from keras_deeplab.data import pipeline
from keras_deeplab.data.source import indexed
from keras_deeplab.inference.evaluation import evaluate
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.specs import Classes
from keras_deeplab.specs.model import spec_of, with_spec
from keras_deeplab.training.losses import SparseCategoricalCrossentropy
from keras_deeplab.training.objective import check_model, head_variables, recorded
from keras_deeplab.training.settings import Loss, TrainSettings
from keras_deeplab.training.trainer import compiled

NAMES, COLORS = ("soil", "leaf"), ((90, 60, 30), (20, 200, 40))


def drawn(classes=None, channels=3, num_classes=None, count=4, image_range=None):
    """A source of two classes: what is bright in the last channel is the second."""

    def read(index):
        rng = np.random.default_rng(index)
        label = rng.integers(0, 2, (3, 4), np.uint8).repeat(8, 0).repeat(8, 1)
        image = np.repeat(rng.integers(0, 60, (*label.shape, 1), np.uint8), channels, -1)
        image[..., -1] += 150 * label
        return image, label, str(index)

    classes = Classes(NAMES, COLORS) if classes is None else classes
    more = {"channels": channels, "num_classes": num_classes, "image_range": image_range}
    return indexed("drawn", classes, count, read, **more)


def network(num_classes=2, auxiliary=False, channels=3, seed=0, dropout=0.2):
    """A model of two layers, with a second output where asked for."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((None, None, channels))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="features")(x)
    outputs = [keras.layers.Conv2D(num_classes, 1, name="logits")(keras.layers.Dropout(dropout)(x))]
    if auxiliary:
        outputs.append(keras.layers.Conv2D(num_classes, 1, name="auxiliary")(x))
    return keras.Model(inputs, outputs if auxiliary else outputs[0])


def with_auxiliary(**options):
    return with_spec(network(auxiliary=True, **options), outputs=("logits", "auxiliary_logits"))


def test_the_auxiliary_loss_is_added_by_its_weight():
    source, model = drawn(), with_auxiliary(dropout=0.0)
    images, labels = next(iter(pipeline.training(source, batch_size=2, crop_size=16)))
    main, auxiliary = model(images)
    loss = SparseCategoricalCrossentropy()
    first, second = float(loss(labels, main)), float(loss(labels, auxiliary))
    for weight in (0.0, 0.25):
        settings = TrainSettings(steps=1, loss=Loss(auxiliary_weight=weight))
        found = compiled(model, source, settings).evaluate(images, labels, return_dict=True, verbose=0)
        assert found["loss"] == pytest.approx(first + weight * second)


@pytest.mark.slow
def test_a_model_with_auxiliary_logits_trains_resumes_and_is_scored_by_the_main_ones(tmp_path):
    source = drawn()
    whole, first, second = with_auxiliary(), with_auxiliary(), with_auxiliary(seed=1)
    start = [variable.numpy() for variable in whole.get_layer("auxiliary").weights]
    result = run(whole, source, tmp_path / "whole", validation=source, validation_every=6, weight_decay=0.0)
    assert np.abs(whole.get_layer("auxiliary").kernel.numpy() - start[0]).max() > 0
    score = result["history"][-1]["validation_mean_iou"]
    alone = keras.Model(whole.inputs, whole.outputs[0])
    assert score == pytest.approx(evaluate(predictor(alone), source, progress=False).mean_iou)
    with pytest.raises(Killed):
        run(first, source, tmp_path / "parts", log=killer(3), weight_decay=0.0)
    run(second, source, tmp_path / "parts", weight_decay=0.0)
    assert_equal_weights(whole, second)
    for name in ("last", "best"):
        loaded = keras.saving.load_model(tmp_path / "whole" / f"{name}.keras")
        assert loaded.spec.outputs == ("logits", "auxiliary_logits")
        assert len(loaded.outputs) == 2


@pytest.mark.slow
def test_a_model_of_one_logit_learns_two_classes(tmp_path):
    source, model = drawn(), network(1, dropout=0.0)
    options = {"steps": 60, "learning_rate": 0.2, "weight_decay": 0.0, "checkpoint_every": 20, "batch_size": 4}
    history = run(model, source, tmp_path, validation=source, validation_every=60, **options)["history"]
    assert history[-1]["loss"] < 0.3 * history[0]["loss"]
    assert history[-1]["mean_iou"] > 0.9
    assert history[-1]["validation_mean_iou"] > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 5])
def test_images_of_other_channels_are_learnt_from(tmp_path, channels):
    model = network(channels=channels)
    result = run(model, drawn(channels=channels), tmp_path, steps=2)
    assert result["step"] == 2
    assert keras.saving.load_model(result["last"]).spec.channels == channels


def sigmoid(model):
    x = keras.layers.Activation("sigmoid")(model.outputs[0])
    return keras.Model(model.inputs, x)


@pytest.mark.parametrize(
    ("model", "source", "message"),
    [
        (lambda: network(3), {}, r"has 3 classes but the data has 2 \(soil, leaf\): build .* num_classes=2"),
        (
            lambda: network(1),
            {"classes": ("a", "b", "c")},
            r"one logit, which tells 2 classes apart, but the data has 3 \(a, b, c\): build .*num_classes=3",
        ),
        (lambda: network(1), {"classes": ("leaf",)}, r"the data has one class \(leaf\), so there is nothing to tell"),
        (lambda: network(channels=4), {}, r"images of 4 channels but the data has 3: load the data with channels=4"),
        (lambda: network(), {"channels": 5}, r"3 channels but the data has 5: .*input_shape=\(None, None, 5\)"),
        (lambda: sigmoid(network(2)), {}, r"each class by itself \(multi-label\).*classifier_activation=None"),
        (lambda: sigmoid(network(1)), {}, "returns probabilities"),
        (lambda: network(auxiliary=True), {}, r"2 outputs, and its record calls them logits, output_1"),
        (
            lambda: with_spec(network(), classes=Classes(("leaf", "soil"))),
            {},
            r"not the data's, though the names are the same: their order differs\. Model: leaf, soil\. Data: soil, l",
        ),
        (
            lambda: with_spec(network(), classes=Classes(("sky", "leaf"))),
            {},
            r"not the data's\. Model: sky, leaf\. Data: soil, leaf\. .*classes=source\.classes_spec",
        ),
    ],
)
def test_a_model_that_can_not_learn_the_data_is_refused(tmp_path, model, source, message):
    with pytest.raises(ValueError, match=message):
        run(model(), drawn(**source), tmp_path)
    assert not list(tmp_path.iterdir())


def test_models_that_can_are_not():
    unnamed = drawn(Classes(), num_classes=2)
    for model in (network(), network(1), with_auxiliary(), with_spec(network(), classes=Classes(NAMES))):
        check_model(model, drawn())
        check_model(model, unnamed)


def test_validation_data_of_other_channels_is_refused(tmp_path):
    with pytest.raises(ValueError, match="images of 3 channels but the data has 5"):
        run(network(), drawn(), tmp_path, validation=drawn(channels=5))


@pytest.mark.slow
def test_a_run_s_files_know_the_classes_wherever_they_are_moved(tmp_path):
    model, source = network(), drawn()
    run(model, source, tmp_path / "run", steps=2, validation=source)
    assert type(model) is not type(with_spec(model)), "a plain model stays one"
    for name in ("last", "best"):
        moved = tmp_path / "elsewhere" / "of another name.keras"
        moved.parent.mkdir(exist_ok=True)
        shutil.move(tmp_path / "run" / f"{name}.keras", moved)
        loaded = keras_deeplab.load(moved)
        assert loaded.spec.classes == Classes(NAMES, COLORS)
        assert_equal_weights(loaded, model, 0)


@pytest.mark.slow
def test_a_model_with_a_record_gets_what_it_lacks_and_keeps_its_own(tmp_path):
    model = with_spec(network())
    run(model, drawn(), tmp_path, steps=1)
    assert model.spec.classes == Classes(NAMES, COLORS)
    own = with_spec(network(), classes=Classes(None, COLORS[::-1]))
    assert recorded(own, drawn()) is own
    assert own.spec.classes == Classes(NAMES, COLORS[::-1])
    assert recorded(with_spec(network(), classes=Classes(NAMES)), drawn(Classes(), num_classes=2)).spec.classes == (
        Classes(NAMES)
    )
    one_logit = network(1)
    assert recorded(one_logit, drawn()).spec.labels == NAMES
    assert spec_of(one_logit).classes == Classes()


def test_the_range_of_images_is_that_of_the_data_or_else_the_model_s():
    of_model, of_data = (0.0, 4095.0), (0.0, 65535.0)
    for own, told, found in ((of_model, None, of_model), (of_model, of_data, of_data), (None, of_data, of_data)):
        model = recorded(with_spec(network(), image_range=own), drawn(image_range=told))
        assert model.spec.image_range == found


@pytest.mark.slow
def test_a_sequential_model_goes_on_from_its_run_too(tmp_path):
    def build(seed):
        keras.utils.set_random_seed(seed)
        layers = [keras.layers.Conv2D(4, 3, padding="same"), keras.layers.Dropout(0.3), keras.layers.Conv2D(2, 1)]
        return keras.Sequential([keras.Input((None, None, 3)), keras.layers.Rescaling(1 / 255), *layers])

    whole, first, second = build(0), build(0), build(1)
    run(whole, drawn(), tmp_path / "whole")
    with pytest.raises(Killed):
        run(first, drawn(), tmp_path / "parts", log=killer(3))
    run(second, drawn(), tmp_path / "parts")
    assert_equal_weights(whole, second)


@pytest.mark.slow
def test_names_from_the_synthetic_data(tmp_path):
    source = data.load("synthetic", size=32, num_examples=4)
    result = run(tiny(), source, tmp_path, steps=1)
    assert keras.saving.load_model(result["last"]).spec.classes == source.classes_spec


@pytest.mark.slow
@pytest.mark.parametrize("flavour", ["vainf", "torchvision", "smp", "tf", "jfzhang95"])
@pytest.mark.parametrize("builder", ["DeepLabV3", "DeepLabV3Plus"])
def test_the_head_is_all_that_is_not_the_backbone(builder, flavour):
    build = getattr(keras_deeplab, builder)
    model = build("mobilenet_v2", flavour=flavour, filters=4, num_classes=3)
    backbone = {variable.path for variable in BACKBONES["mobilenet_v2"].build((None, None, 3)).variables}
    expected = [variable.path for variable in model.weights if variable.path not in backbone]
    assert [variable.path for variable in head_variables(model)] == expected
    assert any(path.startswith("logits") for path in expected)
    assert any(path.startswith("aspp") for path in expected)


def test_the_head_of_v1_has_the_layers_that_were_fully_connected(tmp_path):
    model = keras_deeplab.DeepLabV1("vgg11_caffe", num_classes=3, filters=8)
    backbone = {variable.path for variable in BACKBONES["vgg11_caffe"].build((None, None, 3)).variables}
    found = {variable.path for variable in head_variables(model)}
    assert found == {variable.path for variable in model.weights} - backbone
    assert {"fc6/kernel", "fc7/kernel"} <= found


@pytest.mark.slow
def test_the_auxiliary_classifier_is_head_and_a_plain_model_has_to_say():
    model = keras_deeplab.DeepLabV3("resnet18", filters=4, num_classes=3, flavour="torchvision", auxiliary_head=True)
    assert any("auxiliary" in variable.path for variable in head_variables(model))
    with pytest.raises(ValueError, match="doesn't tell which of its layers are the head"):
        head_variables(network())
    assert [v.path for v in head_variables(with_spec(network(), head=("logits",)))] == ["logits/kernel", "logits/bias"]
    with pytest.raises(ValueError, match="names layers as its head that it doesn't have: nowhere"):
        head_variables(with_spec(network(), head=("logits", "nowhere")))
