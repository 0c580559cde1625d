"""Recipes: every row is valid by itself, those of our own adapt, and the docs' tables are the rows'."""

import inspect
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import keras_deeplab
from keras_deeplab import data
from keras_deeplab.backbones import BACKBONES
from keras_deeplab.cli import main
from keras_deeplab.cli.network import BUILDERS, Network
from keras_deeplab.cli.train import Arguments
from keras_deeplab.options import OptionError, options
from keras_deeplab.published import MODELS
from keras_deeplab.specs import Classes, class_names
from keras_deeplab.training import recipe
from keras_deeplab.training.recipes import RECIPES
from keras_deeplab.training.recipes.facts import Facts, device, image_size
from keras_deeplab.training.recipes.table import RUN_HERE, listed, markdown
from keras_deeplab.training.settings import TrainSettings

DOCS = Path(__file__).parents[1] / "docs" / "recipes.md"
OWN = ("mobile", "balanced", "accurate")
PUBLISHED = sorted(set(RECIPES) - set(OWN))
FACTS = Facts(1000, (240, 320), 7, memory=16 << 30)


@pytest.fixture(scope="module")
def source():
    return data.load("synthetic", num_examples=4, size=(48, 64))


# Rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_row_has_options_that_exist_a_network_that_is_built_and_a_source(name):
    row = recipe(name)
    assert row.name == name
    assert set(row.options) <= set(options(TrainSettings))
    assert set(row.network) <= set(options(Network))
    assert Network.of(row.preset()).given() == {"binary": False, **row.network}
    assert row.source
    assert row.data is not None or row.adapt is not None
    assert bool(row.figure) == bool(row.protocol)
    # What is taken: arguments of the builder, a backbone that is known.
    model = row.network["model"]
    spec = MODELS[model].spec if model not in BUILDERS else None
    builder = getattr(keras_deeplab, BUILDERS[model] if spec is None else spec.builder)
    assert set(row.network) - {"model"} <= set(inspect.signature(builder).parameters)
    if spec is None:
        assert row.network["backbone"] in BACKBONES
    else:
        assert "backbone" not in row.network
    if row.data is not None and row.data.classes is not None:
        assert len(row.data.classes.names) == row.data.num_classes
    if row.after is not None:
        assert recipe(row.after).network["model"] == model


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_row_is_settings_and_a_command(name):
    row = recipe(name)
    for option_name, value in row.options.items():
        assert row.settings.values()[option_name] == options(TrainSettings)[option_name].check(value)
    assert json.loads(json.dumps(row.settings.resolved(10582).to_json()))["recipe"] == name
    assert Arguments.parsed({"data": "x", "run_dir": "y", "recipe": name}).settings == row.settings
    assert (row.settings.steps or 10**6) >= 6000
    assert re.fullmatch(r"\d\d(\.\d+)?", row.figure) or row.unverified


def test_figures_are_those_of_the_published_models():
    """Where a recipe's network is a published model with a score, its figure is one of its scores."""
    compared = 0
    for row in map(recipe, PUBLISHED):
        model = MODELS.get(row.network["model"])
        if model is not None and model.scores and row.figure:
            assert row.figure in {score.mean_iou for score in model.scores}, row.name
            compared += 1
    assert compared > 20


def test_learning_rates_are_those_of_the_sources():
    """Head and backbone of VainF's at 0.01 and 0.001; jfzhang95's loss is divided by the batch once more."""
    vainf = recipe("vainf_deeplabv3plus_mobilenet_voc").settings
    head = vainf.schedule.learning_rate * vainf.optimization.head_multiplier
    assert (head, vainf.schedule.learning_rate) == (pytest.approx(0.01), 0.001)
    ours = recipe("jfzhang95_deeplabv3plus_resnet101_voc").settings
    rate, decay = ours.schedule.learning_rate, ours.optimization.weight_decay
    gradient, weight = 0.3, 0.7
    assert rate * (gradient + decay * weight) == pytest.approx(0.007 * (gradient / 16 + 5e-4 * weight))
    # Composer decouples: the weight loses 2e-5 of itself a step; momentum sums ours up to a tenfold.
    cosine = recipe("composer_deeplabv3plus_resnet101_ade20k_cosine").settings
    sgd = cosine.optimization
    assert cosine.schedule.learning_rate * sgd.weight_decay / (1 - sgd.momentum) == pytest.approx(2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "deeplabv1_vgg16_voc",
        "deeplabv2_resnet101_voc",
        "deeplabv3_mobilenet_v2_voc",
        "torchvision_deeplabv3_mobilenet_v3_large_coco",
    ],
)
def test_learning_rate_multipliers_are_found_in_the_networks_variables(name, source):
    from keras_deeplab._helpers.unallocated import unallocated

    row = recipe(name)
    with unallocated():
        model = Network.of(row.preset()).build(source)
    paths = [variable.path for variable in model.trainable_variables]
    found = {
        pattern: [p for p in paths if re.search(pattern, p)] for pattern in row.options["learning_rate_multipliers"]
    }
    assert all(found.values()), found


# Of our own -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OWN)
def test_crops_follow_the_images_and_the_batch_the_memory(name):
    row = recipe(name)
    small, large = (row.settings_for(replace(FACTS, image_size=size)) for size in ((64, 96), (3000, 4000)))
    assert small.crop_size == (64, 96)
    assert all(side % 16 == 1 for side in large.crop_size)
    assert max(large.crop_size) < 800
    roomy = row.settings_for(replace(FACTS, device="gpu", memory=80 << 30))
    tight = row.settings_for(replace(FACTS, device="gpu", memory=2 << 30))
    assert roomy.batch_size == 16
    assert 1 <= tight.batch_size < 16
    assert row.settings_for(replace(FACTS, memory=1 << 20)).batch_size == 1
    assert row.settings_for(replace(FACTS, num_examples=3)).batch_size == 2
    # As many classes as ADE20K's need room for their logits.
    gpu = replace(FACTS, device="gpu", image_size=(512, 512), memory=12 << 30)
    assert row.settings_for(replace(gpu, num_classes=1000)).batch_size < row.settings_for(gpu).batch_size
    power = 0.5 if roomy.optimization.optimizer == "adamw" else 1.0
    rates = [each.schedule.learning_rate for each in (roomy, tight)]
    assert rates[0] == pytest.approx((16 / tight.batch_size) ** power * rates[1], rel=1e-2)


@pytest.mark.parametrize("name", OWN)
def test_steps_and_augmentation_follow_the_number_of_images(name):
    row, gpu = recipe(name), replace(FACTS, device="gpu", memory=80 << 30)
    few, some, many = (row.settings_for(replace(gpu, num_examples=count)) for count in (12, 3000, 10**6))
    assert few.steps < some.steps < many.steps
    assert row.settings_for(replace(gpu, num_examples=3000, num_classes=150)).steps > some.steps
    assert few.augmentation.brightness > some.augmentation.brightness > many.augmentation.brightness == 0.0
    assert row.settings_for(replace(FACTS, num_examples=12, channels=4)).augmentation.brightness == 0.0
    assert row.settings_for(replace(FACTS, num_examples=10**6)).steps < many.steps


def test_the_fewest_steps_are_more_of_smaller_batches():
    facts = replace(FACTS, num_examples=9)
    steps = [recipe("mobile").settings_for(facts, batch_size=size).steps for size in (1, 2, 4, 8, 16)]
    assert steps == [1131, 800, 566, 400, 400]
    assert recipe("mobile").settings_for(facts, batch_size=4, gradient_accumulation_steps=2).steps == 800
    # So many passes as it has anyway are enough.
    assert recipe("mobile").settings_for(replace(FACTS, num_examples=400), batch_size=4).steps == 4000


def test_what_is_given_goes_before_what_is_adapted():
    row = recipe("mobile")
    settings = row.settings_for(FACTS, batch_size=2, crop_size=65, epochs=2, brightness=0.5)
    assert (settings.batch_size, settings.crop_size, settings.steps) == (2, (65, 65), None)
    resolved = settings.resolved(1000)
    assert resolved.steps == 1000
    assert resolved.to_json()["overridden"] == ["batch_size", "brightness", "crop_size", "steps"]
    summed = row.settings_for(FACTS, batch_size=4, gradient_accumulation_steps=3)
    assert (summed.steps % 3, summed.schedule.learning_rate) == (0, 0.00098)
    assert (
        recipe("balanced").settings_for(FACTS, batch_size=4, gradient_accumulation_steps=3).schedule.learning_rate
        == 0.00525
    )
    short = row.settings_for(FACTS, steps=3)
    assert (short.steps, short.schedule.warmup_steps, short.optimization.ema_momentum) == (3, 0, 0.9)
    with pytest.raises(OptionError, match="batch_size must be a whole number, at least 1; received 0"):
        row.settings_for(FACTS, batch_size=0)
    with pytest.raises(OptionError, match="unknown option 'batch'"):
        row.settings_for(FACTS, batch=3)
    with pytest.raises(ValueError, match=r"'mobile' adapts to its data: its settings_for\(source\)"):
        _ = row.settings


def test_facts_are_the_same_on_every_call(source):
    assert image_size(source) == image_size(source) == (48, 64)
    kind, memory = device()
    assert kind in ("cpu", "gpu")
    assert memory is None or memory > 1 << 28
    assert recipe("mobile").settings_for(source).crop_size == (48, 64)


# Doors ------------------------------------------------------------------------------------------------------------


def parsed(**given):
    return Arguments.parsed({"data": "x", "run_dir": "y", **given})


def test_a_command_begins_with_the_recipe_and_flags_go_before_it():
    made = parsed(recipe="deeplabv3_resnet101_voc", learning_rate="0.1", output_stride="8")
    assert (made.network.model, made.network.output_stride) == ("paper_deeplabv3_resnet101", 8)
    assert (made.settings.schedule.learning_rate, made.settings.steps) == (0.1, 30000)
    assert made.settings.to_json()["overridden"] == ["learning_rate"]
    assert parsed(recipe="deeplabv3_resnet101_voc", epochs="3").settings.steps is None
    assert parsed(recipe="torchvision_deeplabv3_resnet50_coco", steps="3").settings.epochs is None


def test_a_model_or_weights_of_ones_own_replace_the_recipes_network():
    settings = recipe("vainf_deeplabv3_resnet50_voc").settings
    for given in ({"model": "deeplabv3plus"}, {"weights": "some.keras"}):
        made = parsed(recipe="vainf_deeplabv3_resnet50_voc", **given)
        assert made.settings == settings
        assert {name: value for name, value in made.network.given().items() if name != "binary"} == given
    # The second stage is another network than that of its weights: finer.
    second = parsed(recipe="deeplabv3_resnet101_voc_trainval", weights="first.keras").network
    assert (second.model, second.output_stride, second.weights) == ("paper_deeplabv3_resnet101", 8, "first.keras")


def test_an_unknown_recipe_gets_the_nearest_at_both_doors(capsys):
    with pytest.raises(ValueError, match="Unknown recipe 'moblie': did you mean 'mobile'"):
        recipe("moblie")
    with pytest.raises(SystemExit):
        main(["train", "nowhere", "--run-dir", "nowhere", "--recipe", "moblie"])
    assert "error: --recipe 'moblie' is unknown: did you mean 'mobile'?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", "nowhere", "--run-dir", "nowhere", "--recipe", "mobile", "--set", "crop_size=0"])
    assert "error: --crop-size must be N or HEIGHTxWIDTH, at least 1; received 0\n" in capsys.readouterr().err


def test_notes_tell_what_does_not_fit(source):
    row = recipe("mmseg_deeplabv3plus_resnet50_cityscapes_40k")
    notes = row.notes(source, row.settings, started=False)
    assert "is meant for the 19 classes of Cityscapes, and synthetic (train) has 6" in notes[0]
    assert "starts from weights of ImageNet, and this run from random ones: give backbone_weights='FILE'" in notes[1]
    named = data.load("synthetic", num_examples=4, size=32)
    named.classes_spec, named.num_classes = class_names.CITYSCAPES, 19
    assert row.notes(named, row.settings, started=True) == []
    named.classes_spec = Classes(class_names.CITYSCAPES.names[::-1])
    assert "has 19 others" in row.notes(named, row.settings, started=True)[0]
    second = recipe("deeplabv3_resnet101_voc_trainval")
    assert "goes on from deeplabv3_resnet101_voc" in second.notes(named, second.settings, started=False)[1]
    paper = recipe("deeplabv3_resnet101_voc")
    assert len(paper.notes(source, paper.settings, started=True)) == 1
    short = paper.notes(source, paper.settings.with_options(steps=500), started=True)[1]
    assert short.startswith("batch_norm_momentum=0.9997 is the recipe's, for longer runs: after 500 steps")


@pytest.mark.slow
def test_one_line_trains_with_a_recipe_and_goes_on_only_with_it(tmp_path, capsys, monkeypatch):
    """The run's own settings and what was changed are in its folder; the network is a tiny one."""
    import keras

    def tiny(self, source):
        images = keras.Input((None, None, 3))
        x = keras.layers.BatchNormalization()(images)
        return keras.Model(images, keras.layers.Conv2D(source.num_classes, 1, name="logits")(x), name="tiny")

    monkeypatch.setattr(Network, "build", tiny)
    words = ["train", "synthetic", "--run-dir", str(tmp_path), "--val-split", "none", "--recipe", "mobile"]
    words += ["--steps", "1", "--set", "crop_size=33", "--set", "batch_size=2"]
    assert main([*words, "--set", "flip=off"]) == 0
    told = capsys.readouterr().out
    assert "recipe mobile: 1 steps of 2 crops of 33x33, learning rate 0.0004; changed: batch_size, " in told
    assert (
        "note: mobile starts from weights of ImageNet, and this run from random ones: give --backbone-weights" in told
    )
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["recipe"], config["crop_size"], config["brightness"]) == ("mobile", [33, 33], 0.2)
    assert config["overridden"] == ["batch_size", "crop_size", "flip", "steps"]
    assert main(words) == 1
    assert "flip: False there, True now" in capsys.readouterr().err
    assert main([*words, "--no-flip", "--recipe", "balanced", "--head-multiplier", "1"]) == 1
    assert "recipe: 'mobile' there, 'balanced' now" in capsys.readouterr().err


# Tables -----------------------------------------------------------------------------------------------------------


def test_the_command_lists_recipes(capsys):
    assert main(["recipes", "cityscapes"]) == 0
    told = capsys.readouterr().out
    assert "mmseg_deeplabv3plus_resnet50_cityscapes_40k: Cityscapes, 79.61 (Cityscapes val" in told
    assert "deeplabv1" not in told
    assert "no recipe has 'nothing'" in listed("nothing")
    assert "mobile: any data\n    MobileNetV2" in listed()


def test_the_docs_tables_are_the_rows():
    """Mend with `keras-deeplab recipes --markdown`, whose output stands between the marks."""
    text = DOCS.read_text("utf-8")
    begin, end = "<!-- keras-deeplab recipes --markdown -->\n", "\n<!-- end -->"
    assert text[text.index(begin) + len(begin) : text.index(end)] == markdown()
    assert set(RUN_HERE) <= set(RECIPES)
