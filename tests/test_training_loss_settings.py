"""Which loss a run has: by name, as a sum, as an object; weights from the data; what goes together."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image
from test_training_trainer import Killed, assert_equal_weights, killer, run, tiny

import keras_deeplab
from keras_deeplab import data
from keras_deeplab.cli import main
from keras_deeplab.cli.network import Network
from keras_deeplab.options import OptionError
from keras_deeplab.training import losses
from keras_deeplab.training.choices import LOSS_OPTIONS, LOSSES, make_loss
from keras_deeplab.training.class_weights import balanced, with_class_weights
from keras_deeplab.training.settings import Loss, TrainSettings

SETTINGS = {
    "class_weights": (1.0, 2.0),
    "label_smoothing": 0.1,
    "top_k_fraction": 0.5,
    "focal_gamma": 1.0,
    "boundary_weight": 2.0,
    "boundary_radius": 3,
    "loss_per_image": True,
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_row_makes_a_loss_that_keras_saves_and_that_has_its_settings(name):
    read = {key: value for key, value in SETTINGS.items() if key in LOSS_OPTIONS[name]}
    loss = make_loss(Loss(name=name, **read), 7)
    config = loss.get_config()
    assert config["ignore_label"] == 7
    for key, value in read.items():
        ours = {"loss_per_image": "per_image", "focal_gamma": "gamma"}.get(key, key.removeprefix("boundary_"))
        assert np.array_equal(config[ours], value), key
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss)).get_config() == config


def test_a_sum_is_text_or_a_dict():
    text = TrainSettings.parsed({"steps": "1", "loss": "cross_entropy + 0.5*dice"})
    assert text.loss.name == "cross_entropy+0.5*dice"
    assert text == TrainSettings.of(steps=1, loss={"cross_entropy": 1, "dice": 0.5})
    assert text.to_json()["loss"] == "cross_entropy+0.5*dice"
    loss = make_loss(text.loss, 255)
    assert [type(each) for each in loss.losses] == [losses.SparseCategoricalCrossentropy, losses.Dice]
    assert loss.weights == [1.0, 0.5]
    assert make_loss(Loss(name="2*focal"), 255).weights == [2.0]


def test_an_object_is_the_loss_and_part_of_the_configuration():
    loss = losses.Focal(gamma=1.25)
    settings = TrainSettings.of(steps=1, loss=loss)
    assert make_loss(settings.loss, 255) is loss
    values = settings.to_json()
    assert json.loads(json.dumps(values)) == values
    assert values["loss"]["config"]["gamma"] == 1.25
    with pytest.raises(ValueError, match="ignores the label 255 and the data 7: make it with ignore_label=7"):
        make_loss(settings.loss, 7)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": "fokal"}, r"loss must be one of cross_entropy, focal, .*, or a sum of them .*did you mean 'focal'"),
        ({"loss": "cross_entropy+0*dice"}, r"loss must be one of .*received 'cross_entropy\+0\*dice'"),
        ({"loss": "dice+dice"}, "loss must be one of"),
        ({"loss": {"dice": -1}}, "loss must be one of"),
        ({"loss": lambda labels, logits: 0}, r"or a keras\.losses\.Loss; received <function"),
        (
            {"class_weights": "aut"},
            "class_weights must be auto, or a list of finite numbers, at least 0; received 'aut'",
        ),
        ({"class_weights": (1, -1)}, "class_weights must be .*at least 0"),
        (
            {"loss": "dice", "class_weights": "auto"},
            "class_weights is of cross_entropy, focal, boundary, and loss is dice",
        ),
        ({"focal_gamma": 1.0}, "focal_gamma is of focal, and loss is cross_entropy"),
        ({"hard_example_steps": 10}, "hard_example_steps are those in which top_k_fraction is reached: give that too"),
        ({"loss": losses.Dice(), "loss_per_image": True}, "loss_per_image can't be given along with a loss that is al"),
    ],
)
def test_nonsense_is_refused_by_name(values, message):
    with pytest.raises(OptionError, match=message):
        TrainSettings.of(steps=1, **values)


def test_an_option_that_one_of_the_losses_reads_may_be_given():
    settings = Loss(name="focal+dice", focal_gamma=3.0, loss_per_image=True, class_weights=(1, 2))
    focal, dice = make_loss(settings, 255).losses
    assert (focal.gamma, focal.class_weights, dice.per_image) == (3.0, [1.0, 2.0], True)


def test_the_auxiliary_weight_is_that_of_pspnet():
    assert Loss().auxiliary_weight == 0.4


def test_weights_from_the_data_are_enets_with_a_mean_of_one_over_the_pixels():
    counts = np.array([700, 250, 50, 0])
    weights = np.array(balanced(counts))
    shares = counts / 1000
    raw = 1 / np.log(1.02 + shares)
    np.testing.assert_allclose(weights, raw / np.sum(shares * raw), atol=1e-6)
    assert np.sum(weights * shares) == pytest.approx(1, abs=1e-5)
    assert (np.diff(weights) > 0).all()
    with pytest.raises(ValueError, match="no pixel of the data has a class"):
        balanced([0, 0])
    settings = TrainSettings.of(steps=1, class_weights="auto")
    with pytest.raises(ValueError, match="must be counted first"):
        make_loss(settings.loss, 255)
    ignored = np.concatenate([counts, np.zeros(251, int), [10**6]])
    source = SimpleNamespace(num_classes=4, check=lambda: ignored)
    assert with_class_weights(settings, source).loss.class_weights == tuple(weights)
    plain = TrainSettings.of(steps=1)
    assert with_class_weights(plain, source) is plain


@pytest.mark.slow
def test_a_run_counts_the_pixels_and_records_the_weights(tmp_path):
    source = data.load("synthetic", size=32, num_examples=12)
    run(tiny(), source, tmp_path, steps=1, class_weights="auto")
    expected = list(balanced(source.check()[: source.num_classes]))
    assert json.loads((tmp_path / "config.json").read_text())["class_weights"] == expected


def test_the_command_takes_the_weights_from_the_masks_that_it_reads_anyway(tmp_path, monkeypatch):
    for folder in ("images", "masks", "splits"):
        (tmp_path / folder).mkdir()
    label = np.zeros((4, 5), np.uint8)
    label[0] = 1
    label[1] = 255
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "images" / "a.png")
    Image.fromarray(label).save(tmp_path / "masks" / "a.png")
    (tmp_path / "splits" / "train.txt").write_text("a\n")
    (tmp_path / "classes.txt").write_text("ground\nleaf\n")
    taken = []

    def train(model, source, run_dir, *, settings, **others):
        taken.append(settings.loss)
        return {"best": None, "last": "last.keras"}

    monkeypatch.setattr(keras_deeplab, "train", train, raising=False)
    monkeypatch.setattr(Network, "build", lambda self, source: tiny(2))
    flags = ["--class-weights", "auto", "--loss", "cross_entropy+0.5*dice", "--steps", "1", "--val-split", "none"]
    assert main(["train", str(tmp_path), "--run-dir", str(tmp_path / "run"), *flags]) == 0
    assert taken == [Loss(name={"cross_entropy": 1, "dice": 0.5}, class_weights=balanced([10, 5]))]


@pytest.mark.slow
def test_a_ramp_goes_on_where_a_killed_run_was(tmp_path):
    source = data.load("synthetic", size=32, num_examples=12)
    options = {"top_k_fraction": 0.1, "hard_example_steps": 5, "loss": "cross_entropy+dice"}
    whole, first, second, without = tiny(), tiny(), tiny(seed=1), tiny()
    run(whole, source, tmp_path / "whole", **options)
    with pytest.raises(Killed):
        run(first, source, tmp_path / "parts", log=killer(3), **options)
    run(second, source, tmp_path / "parts", **options)
    assert_equal_weights(whole, second)
    run(without, source, tmp_path / "without", **{**options, "hard_example_steps": 0})
    with pytest.raises(AssertionError):
        assert_equal_weights(whole, without)
