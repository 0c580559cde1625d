import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_deeplab import data
from keras_deeplab.inference.evaluation import evaluate
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.specs import Classes
from keras_deeplab.training.trainer import train

CLASSES = 6


def tiny(num_classes=CLASSES, seed=0, dropout=0.2, filters=6, size=None, momentum=0.8, **last):
    """A segmentation network with all that a checkpoint must hold: batch statistics, dropout, depthwise kernels."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, name="backbone_conv")(x)
    x = keras.layers.BatchNormalization(momentum=momentum, name="backbone_bn")(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = keras.layers.Dropout(dropout)(x)
    x = keras.layers.Conv2D(num_classes, 1, dtype="float32", name="logits", **last)(x)
    return keras.Model(inputs, x)


@pytest.fixture(scope="module")
def source():
    return data.load("synthetic", size=32, num_examples=12)


@pytest.fixture(scope="module")
def validation():
    return data.load("synthetic", split="val", size=40, num_examples=4)


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """A run that nothing interrupted."""
    model = tiny()
    run(model, source, tmp_path_factory.mktemp("whole"))
    return model


def run(model, source, run_dir, **options):
    options = {"steps": 6, "batch_size": 2, "crop_size": 24, "learning_rate": 0.05, "checkpoint_every": 1} | options
    options = {"batch_norm": "batch"} | options
    options = {"progress": False, "log": lambda line: None} | options
    return train(model, source, run_dir, **options)


class Killed(Exception):
    pass


def killer(step):
    """A log function that ends the run when it hears of `step`, which is just after that checkpoint."""

    def log(line):
        if line.startswith(f"step {step}/"):
            raise Killed

    return log


def assert_equal_weights(ours, theirs, tolerance=1e-6):
    for mine, other in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=0, atol=tolerance, err_msg=mine.path)


def without_seconds(history):
    return [{name: value for name, value in record.items() if name != "seconds"} for record in history]


@pytest.mark.slow
def test_learns_the_synthetic_data(tmp_path, validation):
    source = data.load("synthetic", size=48)
    model = tiny(filters=16, dropout=0.0)
    before = evaluate(predictor(model), validation, progress=False).mean_iou
    options = {"steps": 120, "batch_size": 8, "learning_rate": 0.1, "checkpoint_every": 40, "weight_decay": 0.0}
    result = run(model, source, tmp_path / "run", validation=validation, validation_every=60, **options)
    losses = [record["loss"] for record in result["history"]]
    assert losses[-1] < 0.8 * losses[0]
    after = evaluate(predictor(model), validation, progress=False)
    assert after.mean_iou > before + 0.1
    # The last line of the history is about the very weights that the model is left with.
    assert result["history"][-1]["validation_mean_iou"] == pytest.approx(after.mean_iou)
    assert [record["step"] for record in result["history"]] == [40, 60, 80, 120]
    best = max((record for record in result["history"] if "validation_mean_iou" in record), key=_score)
    assert result["best"] == {"step": best["step"], "mean_iou": best["validation_mean_iou"]}
    assert evaluate(result["best_model"], validation, progress=False).mean_iou == pytest.approx(_score(best))
    assert_equal_weights(keras.saving.load_model(result["last"]), model, 0)


def _score(record):
    return record["validation_mean_iou"]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "instance", "float16", "averaged"])
def test_a_run_that_is_killed_and_started_again_equals_one_that_is_not(tmp_path, source, optimizer):
    options = {"optimizer": optimizer, "warmup_steps": 2}
    if optimizer == "averaged":  # killed in the middle of an accumulation
        accumulated = {"gradient_accumulation_steps": 2, "ema_momentum": 0.8, "global_clipnorm": 1.0}
        options |= {"optimizer": "sgd", **accumulated}
    if optimizer == "instance":
        options |= {"optimizer": keras.optimizers.Nadam(0.02), "learning_rate": None, "warmup_steps": 0}
    if optimizer == "float16":
        options["optimizer"] = "sgd"
        keras.config.set_dtype_policy("mixed_float16")
    try:
        whole, first, second = tiny(), tiny(), tiny(seed=1)
    finally:
        keras.config.set_dtype_policy("float32")
    expected = run(whole, source, tmp_path / "whole", **options)
    with pytest.raises(Killed):
        run(first, source, tmp_path / "parts", log=killer(3), **options)
    lines = []
    result = run(second, source, tmp_path / "parts", log=lines.append, **options)
    assert re.search(r"going on from .*last\.keras at step 3", lines[0])
    assert_equal_weights(whole, second, 0)
    assert [record["step"] for record in result["history"]] == [1, 2, 3, 4, 5, 6]
    for mine, other in zip(without_seconds(result["history"]), without_seconds(expected["history"]), strict=True):
        assert mine == pytest.approx(other, rel=1e-5)


@pytest.mark.slow
def test_each_part_of_the_state_matters_for_going_on(tmp_path, source, whole):
    """Were the state of the optimizer or of dropout lost, the test above would have to see it."""
    for name in ("optimizer1", "random0"):
        with pytest.raises(Killed):
            run(tiny(), source, tmp_path / name, log=killer(3))
        _rewrite_array(tmp_path / name / "last.keras", name)
        model = tiny()
        run(model, source, tmp_path / name)
        with pytest.raises(AssertionError):
            assert_equal_weights(whole, model)


def _rewrite_array(path, name):
    """Replaces one array of a checkpoint by zeros."""
    with zipfile.ZipFile(path) as archive:
        parts = {part: archive.read(part) for part in archive.namelist()}
    path.with_suffix(".npz").write_bytes(parts["training/arrays.npz"])
    with np.load(path.with_suffix(".npz")) as arrays:
        arrays = dict(arrays)
    arrays[name] = np.zeros_like(arrays[name])
    np.savez(path.with_suffix(".npz"), **arrays)
    parts["training/arrays.npz"] = path.with_suffix(".npz").read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)


SCRIPT = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from test_training_trainer import data, run, tiny
here, count = {here!r}, 0
usual = os.replace
def replace(source, target):
    # Killed with the checkpoint of step 4 half put in place: the old one is renamed, the new one isn't there.
    global count
    if str(target).endswith("last.keras"):
        count += 1
        if count == 4:
            os.kill(os.getpid(), signal.SIGKILL)
    usual(source, target)
if here == "save":
    os.replace = replace
def log(line):
    if here == "step" and line.startswith("step 3/"):
        os.kill(os.getpid(), signal.SIGKILL)
run(tiny(), data.load("synthetic", size=32, num_examples=12), {run_dir!r}, log=log)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL, which this system doesn't have")
@pytest.mark.parametrize("here", ["step", "save"])
def test_goes_on_after_sigkill(tmp_path, source, whole, here):
    script = SCRIPT.format(tests=str(Path(__file__).parent), here=here, run_dir=str(tmp_path / "run"))
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL, process.stderr
    files = {file.name for file in (tmp_path / "run").iterdir()}
    assert ("last.keras" in files) == (here == "step")
    # The history may be ahead of the checkpoint: its last line is then written a second time, not twice.
    lines = []
    model = tiny()
    result = run(model, source, tmp_path / "run", log=lines.append)
    assert "at step 3" in lines[0]
    assert_equal_weights(whole, model)
    written = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert [record["step"] for record in written] == [1, 2, 3, 4, 5, 6]
    assert written == result["history"]
    assert not [file for file in (tmp_path / "run").iterdir() if "unfinished" in file.name]


@pytest.mark.slow
def test_a_finished_run_is_left_alone(tmp_path, source):
    model, again, lines = tiny(), tiny(seed=1), []
    result = run(model, source, tmp_path)
    files = {file.name: file.stat().st_mtime_ns for file in tmp_path.glob("*.keras")}
    history = (tmp_path / "history.jsonl").read_text()
    (tmp_path / "history.jsonl").unlink()
    assert run(again, source, tmp_path, log=lines.append) == result
    # The checkpoint holds the history too.
    assert (tmp_path / "history.jsonl").read_text() == history
    assert "holds a finished run of 6 steps" in lines[-1]
    assert_equal_weights(model, again, 0)
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.glob("*.keras")} == files


@pytest.mark.slow
def test_another_configuration_is_refused_with_the_differences_and_restart_begins_anew(tmp_path, source):
    run(tiny(), source, tmp_path, steps=2)
    other = data.load("synthetic", size=32, num_examples=11)
    with pytest.raises(ValueError, match="holds a run with other settings") as error:
        run(tiny(filters=7), other, tmp_path, steps=2, crop_size=(24, 32))
    for part in ("crop_size: [24, 24] there, [24, 32] now", "num_examples: 12 there, 11 now", "model: ", "--restart"):
        assert part in str(error.value)
    assert "batch_size" not in str(error.value)
    result = run(tiny(filters=7), other, tmp_path, steps=2, crop_size=(24, 32), restart=True)
    assert [record["step"] for record in result["history"]] == [1, 2]


@pytest.mark.slow
def test_the_same_architecture_under_other_layer_names_goes_on_but_another_stride_does_not(tmp_path, source):
    def build(rate):
        inputs = keras.Input((None, None, 3))
        x = keras.layers.Conv2D(4, 3, padding="same", dilation_rate=rate)(inputs)
        return keras.Model(inputs, keras.layers.Conv2D(CLASSES, 1)(x))

    first, second = build(1), build(1)
    assert first.layers[1].name != second.layers[1].name
    run(first, source, tmp_path, steps=1)
    run(second, source, tmp_path, steps=1)
    assert_equal_weights(first, second, 0)
    with pytest.raises(ValueError, match=r"model: .*architecture"):
        run(build(2), source, tmp_path, steps=1)


@pytest.mark.slow
def test_a_damaged_checkpoint_falls_back_on_the_one_before_and_says_so(tmp_path, source, whole):
    model, lines = tiny(), []
    with pytest.raises(Killed):
        run(tiny(), source, tmp_path / "run", log=killer(4))
    last = tmp_path / "run" / "last.keras"
    last.write_bytes(last.read_bytes()[:-2000])
    run(model, source, tmp_path / "run", log=lines.append)
    assert "last.keras is damaged" in lines[0]
    assert "step 3, instead" in lines[0]
    assert_equal_weights(whole, model)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["flipped byte", "empty", "a model without a training state"])
def test_when_every_checkpoint_is_damaged_nothing_is_overwritten_unasked(tmp_path, source, damage):
    run(tiny(), source, tmp_path, steps=1)
    last = tmp_path / "last.keras"
    if damage == "flipped byte":
        content = bytearray(last.read_bytes())
        content[len(content) // 2] ^= 255
        last.write_bytes(content)
    elif damage == "empty":
        last.write_bytes(b"")
    else:
        tiny().save(last)
    content = last.read_bytes()
    with pytest.raises(ValueError, match=r"last\.keras is damaged .*restart=True"):
        run(tiny(), source, tmp_path, steps=1)
    assert last.read_bytes() == content
    assert run(tiny(), source, tmp_path, steps=1, restart=True)["step"] == 1


@pytest.mark.slow
def test_a_failed_save_keeps_the_checkpoint_before(tmp_path, source, monkeypatch):
    with pytest.raises(Killed):
        run(tiny(), source, tmp_path, log=killer(2))
    content = (tmp_path / "last.keras").read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space left"):
            run(tiny(), source, tmp_path)
    assert (tmp_path / "last.keras").read_bytes() == content
    assert run(tiny(), source, tmp_path)["step"] == 6


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(tmp_path, source):
    with pytest.raises(ValueError, match=r"step \d+, learning rate \d\.\d+e\+") as error:
        run(tiny(), source, tmp_path, learning_rate=1e30, weight_decay=0.0)
    assert "restart=True" in str(error.value)
    for path in tmp_path.glob("*.keras"):
        for weight in keras.saving.load_model(path).weights:
            assert np.isfinite(weight.numpy()).all()


@pytest.mark.slow
def test_weights_that_are_not_finite_never_become_a_checkpoint(tmp_path, source):
    """The loss of the step that ruins them is still finite."""
    options = {"steps": 1, "learning_rate": 1e38, "weight_decay": 0.0, "learning_rate_multipliers": {"": 1e30}}
    with pytest.raises(ValueError, match=r"no longer finite after step 1, .* No checkpoint was written yet"):
        run(tiny(), source, tmp_path, **options)
    assert not list(tmp_path.glob("*.keras"))


def test_a_label_that_is_no_class_is_named(tmp_path):
    from keras_deeplab.data.source import indexed

    def read(index):
        return np.zeros((24, 24, 3), np.uint8), np.full((24, 24), 17, np.uint8), "sample"

    with pytest.raises(ValueError, match=r"step 1: a label map holds 17, which is neither one of the classes 0..5"):
        run(tiny(), indexed("bad", [str(index) for index in range(6)], 4, read), tmp_path, scale_range=(1, 1))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_end_saves_the_step_and_the_same_call_goes_on(tmp_path, source, whole, number):
    from keras_deeplab.training.callbacks.interrupts import Interrupted

    class Signal(keras.callbacks.Callback):
        step = 0

        def on_train_batch_begin(self, batch, logs=None):
            self.step += 1
            if self.step == 3:
                os.kill(os.getpid(), number)

    model, usual = tiny(), signal.getsignal(number)
    with pytest.raises(Interrupted, match="stopped at step 3 of 6, saved in") as stopped:
        run(tiny(), source, tmp_path / "run", checkpoint_every=2, callbacks=[Signal()])
    assert stopped.value.signal == number
    assert signal.getsignal(number) is usual
    lines = []
    run(model, source, tmp_path / "run", checkpoint_every=2, log=lines.append)
    assert "at step 3" in lines[0]
    assert_equal_weights(whole, model)


@pytest.mark.slow
def test_one_folder_takes_one_run_at_a_time(tmp_path, source):
    def log(line):
        if line.startswith("step 1/"):
            with pytest.raises(ValueError, match="another process is training into"):
                run(tiny(), source, tmp_path)

    assert run(tiny(), source, tmp_path, log=log)["step"] == 6


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_weight_decay_shrinks_kernels_and_spares_depthwise_ones_and_biases(tmp_path, source, optimizer):
    """One step with and without decay differs by rate * decay * kernel where there is decay, else by nothing."""
    start, plain, decayed = tiny(), tiny(), tiny()
    for model, decay in ((plain, 0.0), (decayed, 0.5)):
        options = {"optimizer": optimizer, "weight_decay": decay, "learning_rate": 0.1}
        run(model, source, tmp_path / str(decay), steps=1, **options)
    kinds = {"backbone_conv/kernel": True, "logits/kernel": True, "depthwise/kernel": False, "logits/bias": False}
    for weight, without, with_decay in zip(start.weights, plain.weights, decayed.weights, strict=True):
        expected = 0.1 * 0.5 * weight.numpy() if kinds.get(weight.path, False) else 0.0 * weight.numpy()
        np.testing.assert_allclose(without.numpy() - with_decay.numpy(), expected, atol=1e-6, err_msg=weight.path)
    assert set(kinds) <= {weight.path for weight in start.weights}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_weight_decay_of_all_shrinks_every_trainable_variable(tmp_path, source, optimizer):
    start, plain, decayed = tiny(), tiny(), tiny()
    for model in (start, plain, decayed):
        for variable in model.trainable_variables:
            variable.assign_add(keras.ops.full_like(variable, 0.25))  # so that biases have something to lose
    for model, decay in ((plain, 0.0), (decayed, 0.5)):
        options = {"optimizer": optimizer, "weight_decay": decay, "learning_rate": 0.1, "decayed": "all"}
        run(model, source, tmp_path / str(decay), steps=1, **options)
    trainable = {id(variable) for variable in start.trainable_variables}
    for before, without, with_decay in zip(start.weights, plain.weights, decayed.weights, strict=True):
        expected = 0.1 * 0.5 * before.numpy() if id(before) in trainable else 0.0
        np.testing.assert_allclose(without.numpy() - with_decay.numpy(), expected, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_learning_rate_multipliers_scale_the_update_of_any_optimizer(tmp_path, source, optimizer):
    start, plain, scaled = tiny(), tiny(), tiny()
    options = {"steps": 1, "optimizer": optimizer, "weight_decay": 0.0}
    run(plain, source, tmp_path / "plain", **options)
    run(scaled, source, tmp_path / "scaled", learning_rate_multipliers={"^backbone": 0.25, "bias$": 2.0}, **options)
    for weight, one, other in zip(
        start.trainable_weights, plain.trainable_weights, scaled.trainable_weights, strict=True
    ):
        factor = 0.25 if weight.path.startswith("backbone") else 2.0 if weight.path.endswith("bias") else 1.0
        update, scaled_update = one.numpy() - weight.numpy(), other.numpy() - weight.numpy()
        assert np.abs(update).max() > 0
        np.testing.assert_allclose(scaled_update, factor * update, atol=1e-6, err_msg=weight.path)


@pytest.mark.slow
def test_frozen_batch_norm_keeps_its_statistics(tmp_path, source):
    free, frozen, start = tiny(), tiny(), tiny()
    run(free, source, tmp_path / "free", steps=2)
    run(frozen, source, tmp_path / "frozen", steps=2, batch_norm="frozen")
    names = [weight.path for weight in start.weights if "backbone_bn" in weight.path]
    assert len(names) == 4
    for model, moved in ((free, True), (frozen, False)):
        for weight, before in zip(model.weights, start.weights, strict=True):
            if weight.path in names:
                assert (np.abs(weight.numpy() - before.numpy()).max() > 0) == moved, weight.path


@pytest.mark.slow
@pytest.mark.parametrize(("momentum", "settled"), [(None, True), (0.9997, False)])
def test_batch_statistics_keep_up_with_a_short_run(tmp_path, source, momentum, settled):
    """By the end the moving mean must be that of the data, or the network predicts with another one than it learnt."""
    model = tiny(momentum=0.9997)
    options = {"learning_rate": 0.0, "weight_decay": 0.0, "batch_size": 12, "scale_range": (1, 1), "crop_size": 32}
    run(model, source, tmp_path, steps=30, checkpoint_every=30, batch_norm_momentum=momentum, **options)
    images = np.stack([sample["image"] for sample in source.dataset().as_numpy_iterator()]).astype(np.float32)
    layer = model.get_layer("backbone_bn")
    features = np.asarray(keras.Model(model.input, layer.input)(images))
    expected, found = features.mean((0, 1, 2)), layer.moving_mean.numpy()
    assert (np.abs(found - expected).max() < 0.1 * np.abs(expected).max()) == settled
    assert keras.saving.load_model(tmp_path / "last.keras").get_layer("backbone_bn").momentum == layer.momentum


@pytest.mark.slow
def test_changing_the_validation_only_chooses_the_best_anew(tmp_path, source, validation):
    options = {"validation": validation, "validation_every": 1}
    with pytest.raises(Killed):
        run(tiny(), source, tmp_path, log=killer(3), **options)
    lines = []
    result = run(tiny(), source, tmp_path, validation_limit=2, log=lines.append, **options)
    assert any("the best model is chosen anew" in line for line in lines)
    assert result["best"]["step"] > 3


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ({"num_classes": 4}, {}, r"model has 4 classes but the data has 6 \(background, .*num_classes=6"),
        ({"size": 32}, {}, r"takes images of \(32, 32\) only, but crop_size is \(24, 24\)"),
        ({"activation": "softmax"}, {}, "returns probabilities"),
        (
            {},
            {"optimizer": "sdg"},
            "must be one of sgd, adam, adamw, or a .*; received 'sdg': did you mean 'sgd'",
        ),
        ({}, {"optimizer": keras.optimizers.SGD(0.1)}, "learning_rate can't be given along with an optimizer"),
        ({}, {"batch_norm_momentum": 1.0}, "batch_norm_momentum must be .*at least 0 and less than 1; received 1.0"),
        ({}, {"steps": 0}, "steps must be a whole number, at least 1; received 0"),
        ({}, {"learning_rate_multipliers": {"head/": 2.0}}, r"\['head/'\] is found in no variable's path"),
        ({}, {"class_weights": [1.0]}, "one weight for each class; received 1 for 6 classes"),
    ],
)
def test_refuses_what_does_not_fit(tmp_path, source, model, options, message):
    with pytest.raises(ValueError, match=message):
        run(tiny(**model), source, tmp_path, **options)
    assert not list(tmp_path.glob("*.keras"))


def test_refuses_validation_data_of_other_classes_and_a_file_as_run_dir(tmp_path, source):
    other = data.load("synthetic", size=32, num_examples=2)
    other.classes_spec = Classes(("background", *"abcde"))
    with pytest.raises(ValueError, match="the validation data has the classes"):
        run(tiny(), source, tmp_path, validation=other)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; name a folder"):
        run(tiny(), source, tmp_path / "file")


def test_the_module_is_called_like_its_function(tmp_path, source):
    import keras_deeplab

    options = {"steps": 1, "batch_size": 2, "crop_size": 24, "progress": False, "log": lambda line: None}
    assert keras_deeplab.train(tiny(), source, tmp_path, **options)["step"] == 1
    shutil.rmtree(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("builder", "backbone", "settings"),
    [
        ("DeepLabV3Plus", "mobilenet_v2", {}),
        ("DeepLabV3Plus", "mobilenet_v2_vainf", {"flavour": "vainf"}),
        ("DeepLabV3", "resnet18", {"flavour": "torchvision"}),
        ("DeepLabV3Plus", "resnet18", {"flavour": "smp"}),
        ("DeepLabV1", "vgg11_caffe", {}),
    ],
)
def test_the_head_multiplier_is_for_the_head_of_every_flavour(builder, backbone, settings):
    """The layers are those of the record, whatever they are called."""
    import keras_deeplab
    from keras_deeplab._helpers.unallocated import unallocated
    from keras_deeplab.training.optimizers import _factors
    from keras_deeplab.training.settings import Optimization

    with unallocated():
        model = getattr(keras_deeplab, builder)(backbone, num_classes=3, **settings)
        factors = dict(zip(_paths(model), _factors(model, Optimization(head_multiplier=10)), strict=True))
        both = Optimization(head_multiplier=10, learning_rate_multipliers={"^logits": 2})
        assert {factor for path, factor in zip(_paths(model), _factors(model, both), strict=True) if _last(path)} == {2}
    head = {path for path, factor in factors.items() if factor == 10.0}
    assert set(factors.values()) == {1.0, 10.0}
    assert {path.rpartition("/")[0] for path in head} == set(model.spec.head)
    assert all(path in head for path in factors if _last(path))


def _paths(model):
    return [variable.path for variable in model.trainable_variables]


def _last(path):
    return path.startswith("logits")


@pytest.mark.slow
def test_the_head_multiplier_is_refused_where_the_head_is_unknown(tmp_path, source):
    with pytest.raises(ValueError, match=r"head_multiplier: .*doesn't tell .*or give learning_rate_multipliers"):
        run(tiny(), source, tmp_path, head_multiplier=10)


@pytest.mark.slow
def test_records_of_settings_with_a_further_option_reach_the_configuration(tmp_path, source):
    from keras_deeplab.options import option, record
    from keras_deeplab.training.settings import TrainSettings

    @record
    class More(TrainSettings):
        mixing: float = option(0.25, "how far images are mixed", minimum=0, maximum=1)

    settings = More.of(steps=1, crop_size=24, batch_size=2)
    run(tiny(), source, tmp_path, settings=settings, steps=1)
    assert json.loads((tmp_path / "config.json").read_text())["mixing"] == 0.25
    with pytest.raises(ValueError, match=r"mixing: 0\.25 there, 0\.5 now"):
        run(tiny(), source, tmp_path, settings=settings, steps=1, mixing=0.5)
    with pytest.raises(ValueError, match="unknown option 'mixin': did you mean 'mixing'"):
        run(tiny(), source, tmp_path, settings=settings, steps=1, mixin=0.5)


def test_a_run_from_before_an_option_goes_on(tmp_path):
    from keras_deeplab.training.trainer import _compare

    def state(step, **config):
        return {"step": step, "config": config}

    _compare({"steps": 1, "schedule": "poly", "power": 0.9}, state(1, steps=1, power=0.9), tmp_path)
    with pytest.raises(ValueError, match="schedule: 'poly' there, 'cosine' now"):
        _compare({"steps": 1, "schedule": "cosine"}, state(1, steps=1), tmp_path)
    _compare({"steps": 5}, state(3, steps=3), tmp_path)
    for step, before, now in ((2, 3, 5), (3, 3, 2)):
        with pytest.raises(ValueError, match=f"steps: {before} there, {now} now\n.*once it is finished"):
            _compare({"steps": now}, state(step, steps=before), tmp_path)


@pytest.mark.slow
def test_a_finished_run_goes_on_to_more_steps(tmp_path, source):
    run(tiny(), source, tmp_path, steps=2)
    result = run(tiny(), source, tmp_path, steps=5)
    assert [record["step"] for record in result["history"]] == [1, 2, 3, 4, 5]
    rates = [record["learning_rate"] for record in result["history"]]
    assert rates[2] == pytest.approx(0.05 * (1 - 2 / 5) ** 0.9)


@pytest.mark.slow
def test_a_validation_that_a_signal_ended_is_made_when_the_run_goes_on(tmp_path, source, validation, monkeypatch):
    import keras_deeplab.training.callbacks.validation as module

    options = {"validation": validation, "validation_every": 3}
    expected = run(tiny(), source, tmp_path / "whole", **options)
    usual, calls = module.evaluate, []

    def evaluated(*args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return usual(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(module, "evaluate", evaluated)
        with pytest.raises(KeyboardInterrupt, match="stopped at step 3 of 6"):
            run(tiny(), source, tmp_path / "parts", **options)
    assert len(calls) == 1
    result = run(tiny(), source, tmp_path / "parts", **options)
    assert without_seconds(result["history"]) == without_seconds(expected["history"])
    assert result["best"] == expected["best"]


@pytest.mark.slow
def test_callbacks_of_keras_see_epochs_with_the_scores_and_may_stop(tmp_path, source, validation):
    seen = []

    class Seen(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append("begin")

        def on_epoch_end(self, epoch, logs=None):
            seen.append((epoch, sorted(logs)))
            self.model.stop_training = epoch == 1

        def on_train_end(self, logs=None):
            seen.append("end")

    options = {"validation": validation, "validation_every": 2, "validation_limit": 1, "checkpoint_every": 100}
    with pytest.raises(Killed):
        run(tiny(), source, tmp_path, log=killer(2), **options)
    result = run(tiny(), source, tmp_path, callbacks=[Seen()], **options)
    names = ["loss", "mean_iou", "val_iou", "val_mean_iou", "val_pixel_accuracy", "val_pixels", "val_predicted"]
    assert seen == ["begin", (1, names), "end"]
    assert result["step"] == 4


@pytest.mark.slow
def test_the_moving_average_is_what_is_validated_kept_as_best_and_left_in_the_model(tmp_path, source, validation):
    weights = []

    class Seen(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            weights.append([variable.numpy() for variable in self.model.trainable_variables])

    model = tiny()
    options = {"ema_momentum": 0.5, "validation_every": 6, "callbacks": [Seen()], "checkpoint_every": 100}
    result = run(model, source, tmp_path, validation=validation, **options)
    average = weights[0]
    for step in weights[1:]:
        average = [0.5 * old + 0.5 * new for old, new in zip(average, step, strict=True)]
    last, best = keras.saving.load_model(result["last"]), keras.saving.load_model(result["best_model"])
    for expected, others in ((average, (model, best)), (weights[-1], (last,))):
        for other in others:
            for array, variable in zip(expected, other.trainable_variables, strict=True):
                np.testing.assert_allclose(variable.numpy(), array, atol=1e-6, err_msg=variable.path)
    found = evaluate(predictor(best), validation, progress=False).mean_iou
    assert result["best"]["mean_iou"] == pytest.approx(found)


@pytest.mark.slow
def test_accumulated_gradients_are_those_of_the_larger_batch(tmp_path):
    from keras_deeplab.data.source import indexed

    def read(index):  # without ignored pixels: a loss is the mean over those of its batch
        rng = np.random.default_rng(index)
        label = rng.integers(0, CLASSES, (32, 32), np.uint8)
        return np.repeat(40 * label[..., None], 3, -1), label, str(index)

    source = indexed("drawn", [str(index) for index in range(CLASSES)], 12, read)
    options = {"optimizer": "sgd", "learning_rate": 0.1, "power": 0.0, "scale_range": (1, 1), "checkpoint_every": 100}
    large, small = tiny(dropout=0.0), tiny(dropout=0.0)
    for model in (large, small):
        model.get_layer("backbone_bn").trainable = False
    run(large, source, tmp_path / "large", steps=2, batch_size=4, **options)
    run(small, source, tmp_path / "small", steps=4, batch_size=2, gradient_accumulation_steps=2, **options)
    assert_equal_weights(large, small, 1e-5)
    assert_equal_weights(keras.saving.load_model(tmp_path / "small" / "last.keras"), small, 0)
    with pytest.raises(ValueError, match="steps must be a multiple of gradient_accumulation_steps, 2"):
        run(small, source, tmp_path / "odd", steps=3, gradient_accumulation_steps=2)


@pytest.mark.slow
def test_a_run_ends_early_at_the_same_step_whether_it_was_interrupted_or_not(tmp_path, source, validation):
    def end(path, *patience, **more):
        lines = []
        options = {"steps": 12, "validation_every": 1, "learning_rate": 1e-9, "log": lines.append} | more
        for each in patience:
            result = run(tiny(dropout=0.0), source, tmp_path / path, validation=validation, patience=each, **options)
        return result["step"], lines

    step, lines = end("whole", 2)
    assert step < 12
    assert "2 validations without a better mean IoU: the training ends here" in lines
    # Stopped at 1 it would have ended earlier; with more patience it goes on to where the other ended.
    assert end("two", 1, 2)[0] == step
    again, lines = end("two", 2)
    assert again == step
    assert lines[-1].endswith(f"ended early at step {step}; more patience (--patience) would go on")
    assert (tmp_path / "whole" / "report.html").exists()


@pytest.mark.slow
def test_a_teacher_is_learnt_from_beside_the_labels(tmp_path, source):
    """With all the weight on it, the model comes near it, although the labels say something else."""
    teacher = tiny(seed=5, dropout=0.0)
    teacher.get_layer("logits").kernel.assign(3.0 * teacher.get_layer("logits").kernel)
    before = [variable.numpy() for variable in teacher.weights]
    images = np.stack([sample["image"] for sample in source.dataset().as_numpy_iterator()]).astype("float32")
    wanted = teacher.predict(images, verbose=0).argmax(-1)
    agreed = {}
    for weight in (0.0, 1.0):
        model = tiny(dropout=0.0)
        options = {"steps": 60, "learning_rate": 0.1, "teacher_weight": weight, "checkpoint_every": 60}
        result = run(model, source, tmp_path / str(weight), teacher=teacher, **options)
        agreed[weight] = (model.predict(images, verbose=0).argmax(-1) == wanted).mean()
    assert agreed[1.0] > agreed[0.0] + 0.2
    assert all((variable.numpy() == old).all() for variable, old in zip(teacher.weights, before, strict=True))
    assert len(keras.saving.load_model(result["last"]).weights) == len(model.weights)
    with pytest.raises(ValueError, match=r"teacher: .* there, None now"):
        run(tiny(dropout=0.0), source, tmp_path / "1.0", **options)
    with pytest.raises(ValueError, match="the teacher can't teach this data: the model has 4 classes"):
        run(tiny(), source, tmp_path / "other", teacher=tiny(4))
