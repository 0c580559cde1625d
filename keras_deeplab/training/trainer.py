"""Training: a model and a data set to a run directory of checkpoints, which the same call continues after a kill."""

import contextlib
import hashlib
import json
import math
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import keras

from keras_deeplab import data
from keras_deeplab._helpers.progress import Progress, duration
from keras_deeplab.data import pipeline
from keras_deeplab.data.source import Source
from keras_deeplab.inference.evaluation import evaluate
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.metrics import MeanIoU
from keras_deeplab.options import OptionError, options, plain, takes
from keras_deeplab.specs.model import inner_layers, main_output
from keras_deeplab.training import objective as objectives
from keras_deeplab.training.choices import OPTIMIZERS, SCHEDULES, make_loss
from keras_deeplab.training.class_weights import with_class_weights
from keras_deeplab.training.losses import step_variables
from keras_deeplab.training.run_directory import RunDirectory
from keras_deeplab.training.settings import TrainSettings


@takes(TrainSettings)
def train(
    model: keras.Model,
    source: Source,
    run_dir: str | os.PathLike,
    *,
    validation: Source | None = None,
    settings: TrainSettings | None = None,
    restart: bool = False,
    progress: bool = True,
    log: Callable[[str], None] = print,
    **options: Any,
) -> dict[str, Any]:
    """Trains `model` (images to logits) on `source` for `steps` steps, and leaves it with the weights of the last.

    Everything goes to `run_dir` (see `run_directory.RunDirectory`): `last.keras`, `best.keras`, `history.jsonl`,
    `config.json`. The same call on a run that was killed at any moment goes on from its last checkpoint: the same
    batches, learning rates, optimizer state and dropout as if nothing had happened. On a finished run it only loads
    the weights. To make the first weights repeatable too, call `keras.utils.set_random_seed` before building the
    model.

    Args:
        model: functional `keras.Model`, images (B, H, W, source.channels) in 0..255 to logits (B, H, W,
            source.num_classes), or one logit for two classes; perhaps auxiliary ones behind them. The record of a model
            of this package's builders (`model.spec`), and of the saved ones, gets the data's classes where it has none.
        source: a `keras_deeplab.data` source to learn from.
        run_dir: folder of the run; made if needed.
        validation: a source to evaluate whole images of, or None. The last step always has a validation.
        settings: a `keras_deeplab.training.settings.TrainSettings`; the options below change single ones.
        restart: whether to begin anew where `run_dir` holds a run; its files are removed.
        progress: whether to show a progress line.
        log: called with each line of text to print.
        {options}

    Returns:
        dict: "step"; "history", a list of dicts as in `history.jsonl`; "best", a dict of "step" and "mean_iou", or
        None without validation; "seconds" of training; "last" and "best_model", paths (the latter None without
        validation).

    Raises:
        ValueError: if an argument doesn't fit, `run_dir` holds a run with other settings (they are listed), its
            checkpoints are damaged, or the loss stops being a finite number (the last checkpoint is kept).
        KeyboardInterrupt: after Ctrl-C, once a checkpoint is written; a second Ctrl-C doesn't wait for it.
    """
    settings = TrainSettings.of(**options) if settings is None else settings.with_options(**options)
    settings = settings.resolved(source.num_examples)
    if settings.loss.class_weights == "auto":
        settings = with_class_weights(settings, source.check(), source.num_classes)
    _check_arguments(model, source, validation, settings)
    _set_batch_norm(model, settings)
    optimizer, decayed, decay = _make_optimizer(model, settings)
    factors = _factors(model, settings.optimization)
    loss = objectives.Objective(make_loss(settings.loss, source.ignore_label), settings.loss.auxiliary_weight)
    # Plain JSON values, so that a config read from a file compares equal.
    config = json.loads(json.dumps(settings.to_json() | _describe(model, source)))

    run = RunDirectory(run_dir)
    with run.locked():
        if restart:
            run.clear()
        trainer = _Trainer(model, optimizer, loss, source, decayed, decay, factors, settings.jit_compile)
        state = trainer.begin(run, config, log)
        if state["step"] >= settings.steps:
            log(f"{run.path} holds a finished run of {settings.steps} steps; restart=True (--restart) would begin anew")
            return _result(run, state)
        batches = pipeline.training(
            source,
            batch_size=settings.batch_size,
            crop_size=settings.crop_size,
            seed=settings.seed,
            start_step=state["step"],
            **settings.augmentation.values(),
        )
        validate = None
        if validation is not None:
            validate = _validate(model, validation, settings.validation, state, progress, log)
        every = settings.validation.every or max(1, settings.steps // 10)
        trainer.loop(run, state, batches, settings.steps, validate, every, settings.checkpoints.every, progress, log)
    return _result(run, state)


def _validate(model, source, settings, state, progress, log):
    """A function without arguments to a confusion matrix; where it isn't that of the run so far the best one goes."""
    scoring = plain({"source": source.name, "limit": settings.limit, "input_size": settings.input_size})
    if state["best"] and state["scoring"] != scoring:
        log(f"validation was {state['scoring']} and is {scoring} now: the best model is chosen anew")
        state["best"] = None
    state["scoring"] = scoring
    predict = predictor(model, settings.input_size)
    return lambda: evaluate(predict, source, limit=settings.limit, progress=progress)


class _Trainer:
    """A model with its optimizer, loss and running score: what a step changes and a checkpoint holds."""

    def __init__(self, model, optimizer, loss, source, decayed, decay, factors, jit_compile):
        self.model, self.optimizer = model, optimizer
        # What is saved and loaded: the same layers, with a record of the data's classes.
        self.saved = objectives.recorded(model, source)
        self.ignore_label, self.num_classes = source.ignore_label, source.num_classes
        self.metric = MeanIoU(source.num_classes, source.ignore_label)
        optimizer.build(model.trainable_variables)
        self.loss_steps = step_variables(loss)
        self.step = self._make_step(loss, decayed, decay, factors, jit_compile)

    def _make_step(self, loss, decayed, decay, factors, jit_compile):
        import tensorflow as tf

        model, optimizer, metric, ignore_label = self.model, self.optimizer, self.metric, self.ignore_label
        variables = model.trainable_variables
        scaled_down = [(variable, factor) for variable, factor in zip(variables, factors, strict=True) if factor != 1.0]

        @tf.function(autograph=False, jit_compile=jit_compile)
        def step(images, labels):
            """One step: (loss, greatest label that is not ignored)."""
            with tf.GradientTape() as tape:
                outputs = model(images, training=True)
                value = loss(labels, outputs)
                total = value + sum(model.losses)
                if decay:
                    total += decay * tf.add_n([tf.nn.l2_loss(variable.value) for variable in decayed])
                total = optimizer.scale_loss(total)
            gradients = tape.gradient(total, variables)
            before = [tf.identity(variable.value) for variable, _ in scaled_down]
            optimizer.apply(gradients, variables)
            # Scaling the update instead of the gradient holds for Adam too, whose update doesn't follow its size.
            for (variable, factor), old in zip(scaled_down, before, strict=True):
                variable.assign(old + factor * (variable.value - old))
            metric.update_state(labels, main_output(outputs))
            labels = tf.cast(labels, tf.int32)
            return value, tf.reduce_max(tf.where(labels == ignore_label, -1, labels))

        return step

    def begin(self, run, config, log):
        """The state to go on from: that of the run's checkpoint, which is loaded, or of step 0."""
        found = run.read_checkpoint(log)
        if found is None:
            run.write_config(config)
            run.write_history([])
            return {"step": 0, "config": config, "history": [], "best": None, "scoring": None, "seconds": 0.0}
        path, state, arrays = found
        _compare(config, state["config"], run.path)
        self.saved.load_weights(path)
        for prefix, variables in self._other_variables().items():
            for index, variable in enumerate(variables):
                variable.assign(arrays[f"{prefix}{index}"])
        # Lines of steps after the checkpoint, and one cut short by a kill, go; what is not the run's own text too.
        run.write_config(config)
        run.write_history(state["history"])
        log(f"going on from {path} at step {state['step']}")
        return state

    def _other_variables(self):
        """What the model file doesn't hold: the optimizer's variables, and the states of random layers."""
        weights = {id(variable) for variable in self.model.weights}
        random = [variable for variable in self.model.non_trainable_variables if id(variable) not in weights]
        return {"optimizer": self.optimizer.variables, "random": random}

    def save(self, run, state):
        arrays = {
            f"{prefix}{index}": variable.numpy()
            for prefix, variables in self._other_variables().items()
            for index, variable in enumerate(variables)
        }
        run.save_checkpoint(self.saved, state, arrays)

    def loop(self, run, state, batches, steps, validate, validation_every, checkpoint_every, progress, log):
        losses, began = [], time.monotonic()
        first, earlier = state["step"], state["seconds"]
        with (
            _deferred_interrupt(log) as interrupted,
            Progress(steps, "train", enabled=progress, start=first) as bar,
            data.readable_errors(),
        ):
            batches = iter(batches)
            self.metric.reset_state()
            for step in range(first + 1, steps + 1):
                images, labels = next(batches)
                rate = float(self.optimizer.learning_rate)
                for variable in self.loss_steps:
                    variable.assign(step - 1)
                loss, greatest = self.step(images, labels)
                losses.append(float(loss))
                self._check_loss(losses[-1], int(greatest), step, rate, run, state)
                if bar.due():
                    recent = losses[-20:]
                    text = f"loss {sum(recent) / len(recent):.4f}, learning rate {rate:.2g}"
                    bar.update(step, f"{text}, mIoU {float(self.metric.result()):.4f}")
                validating = validate is not None and (step % validation_every == 0 or step == steps)
                if not (validating or step % checkpoint_every == 0 or step == steps or interrupted.is_set()):
                    continue
                bar.clear()
                record = {
                    "step": step,
                    "learning_rate": rate,
                    "loss": sum(losses) / len(losses),
                    "mean_iou": _or_none(float(self.metric.result())),
                }
                self._check_weights(step, rate, run, state)
                if validating:
                    record |= _scores(validate())
                    best = state["best"]
                    score = record["validation_mean_iou"]
                    if score is not None and (best is None or score > best["mean_iou"]):
                        run.save_best(self.saved)
                        state["best"] = {"step": step, "mean_iou": score}
                state["step"] = step
                state["seconds"] = earlier + time.monotonic() - began
                record["seconds"] = round(state["seconds"], 1)
                state["history"].append(record)
                run.write_history(state["history"])
                self.save(run, state)
                log(_line(record, steps, state))
                losses = []
                self.metric.reset_state()
                if interrupted.is_set() and step < steps:
                    raise KeyboardInterrupt(
                        f"stopped at step {step} of {steps}, saved in {run.path}; the same call goes on from it"
                    )

    def _check_loss(self, loss, greatest, step, rate, run, state):
        if greatest >= self.num_classes:
            raise ValueError(
                f"step {step}: a label map holds {greatest}, which is neither one of the classes "
                f"0..{self.num_classes - 1} nor the ignored label {self.ignore_label}. {_kept(run, state)}"
            )
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss is {loss} at step {step}, learning rate {rate:.3g}. {_kept(run, state)} A lower "
                "learning_rate or a longer warm-up (warmup_steps) usually helps; start it with restart=True "
                "(--restart) or in another run_dir"
            )

    def _check_weights(self, step, rate, run, state):
        """A loss can be finite when the step it led to is not; such weights must not become a checkpoint."""
        for variable in self.model.weights:
            if not bool(keras.ops.all(keras.ops.isfinite(variable))):
                raise ValueError(
                    f"{variable.path} is no longer finite after step {step}, learning rate {rate:.3g}. "
                    f"{_kept(run, state)} A lower learning_rate or a longer warm-up (warmup_steps) usually helps; "
                    "start it with restart=True (--restart) or in another run_dir"
                )


def _check_arguments(model, source, validation, settings):
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"training needs the TensorFlow backend and this is {keras.backend.backend()}: set KERAS_BACKEND=tensorflow"
        )
    for part in (source,) if validation is None else (source, validation):
        objectives.check_model(model, part)
    if validation is not None and list(validation.classes) != list(source.classes):
        raise ValueError(
            f"the validation data has the classes {list(validation.classes)}, the training data {list(source.classes)}"
        )
    weights = settings.loss.class_weights
    if weights is not None and len(weights) != source.num_classes:
        raise OptionError(
            "{class_weights} must have one weight for each class; received {count} for {classes} classes",
            count=str(len(weights)),
            classes=str(source.num_classes),
        )
    for side, fixed in zip(settings.crop_size, model.inputs[0].shape[1:3], strict=True):
        if fixed is not None and fixed != side:
            raise OptionError(
                "the model takes images of {size} only, but {crop_size} is {crop}: use that size, or build the model "
                "for any (input_shape=(None, None, 3))",
                size=str(tuple(model.inputs[0].shape[1:3])),
                crop=str(settings.crop_size),
            )
    if not model.trainable_variables:
        raise ValueError("the model has no trainable variables: set trainable = True on the layers to train")


def _set_batch_norm(model, settings):
    """Freezes batch normalisation, or has its moving statistics keep up with a short run."""
    for layer in inner_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            if settings.freeze_batch_norm:
                layer.trainable = False
            elif settings.batch_norm_momentum is None:
                layer.momentum = min(layer.momentum, max(0.0, 1.0 - 10.0 / settings.steps))
            else:
                layer.momentum = settings.batch_norm_momentum


def _make_optimizer(model, settings):
    """The optimizer, the variables whose squares go into the loss, and their factor."""
    own, decayed, decay = settings.optimization, [], 0.0
    if isinstance(own.optimizer, str):
        row = OPTIMIZERS[own.optimizer]
        schedule = SCHEDULES[settings.schedule.name](settings.schedule, settings.schedule.learning_rate, settings.steps)
        decayed = _decayed_variables(model)
        kept = {id(variable) for variable in decayed}
        optimizer = row.make(schedule, own, [each for each in model.trainable_variables if id(each) not in kept])
        decay = 0.0 if row.decoupled else own.weight_decay
    else:
        # A fresh copy: one that has been used would bring its momentum and step count with it.
        optimizer = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(own.optimizer))
    half = any(layer.compute_dtype == "float16" for layer in inner_layers(model))
    if half and not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer, decayed, float(decay)


def _decayed_variables(model):
    """The trainable kernels of convolutions and dense layers, without depthwise ones."""
    depthwise = {id(layer.kernel) for layer in inner_layers(model) if isinstance(layer, keras.layers.DepthwiseConv2D)}
    kernels = [variable for variable in model.trainable_variables if variable.name in ("kernel", "pointwise_kernel")]
    return [variable for variable in kernels if id(variable) not in depthwise]


def _factors(model, settings):
    """The learning-rate factor of each trainable variable."""
    variables, multipliers = model.trainable_variables, settings.learning_rate_multipliers or {}
    head = set()
    if settings.head_multiplier != 1.0:
        try:
            head = {variable.path for variable in objectives.head_variables(model)}
        except ValueError as error:
            raise OptionError(
                "{head_multiplier}: {why}; or give {learning_rate_multipliers} for their paths", why=str(error)
            ) from error
    factors = [settings.head_multiplier if each.path in head else 1.0 for each in variables]
    used = set()
    for index, variable in enumerate(variables):
        for pattern, factor in multipliers.items():
            if re.search(pattern, variable.path):
                factors[index] = float(factor)
                used.add(pattern)
                break
    unused = set(multipliers) - used
    if unused:
        paths = [variable.path for variable in variables]
        raise ValueError(
            f"learning_rate_multipliers: {sorted(unused)} is found in no variable's path, or only where an earlier "
            f"pattern is. Paths run from {', '.join(paths[:3])} to {', '.join(paths[-3:])}"
        )
    return factors


def _describe(model, source):
    """What a run depends on besides its settings, as plain values."""
    layers = []
    for layer in inner_layers(model):
        settings = {
            name: value
            for name, value in layer.get_config().items()
            # Keras numbers names afresh in every process; nested dicts hold initial values and such names.
            if name not in ("name", "trainable") and not isinstance(value, dict)
        }
        shapes = [tuple(variable.shape) for variable in layer.weights]
        layers.append([type(layer).__name__, layer.compute_dtype, shapes, settings])
    digest = hashlib.sha256(json.dumps(layers, sort_keys=True, default=_plain).encode()).hexdigest()
    return {
        "model": {
            "layers": len(layers),
            "parameters": model.count_params(),
            "trainable_parameters": sum(math.prod(variable.shape) for variable in model.trainable_variables),
            "architecture": digest[:12],
        },
        "source": source.name,
        "num_examples": source.num_examples,
        "classes": list(source.classes),
        "ignore_label": source.ignore_label,
    }


def _plain(value):
    # Only numbers and text tell one architecture from another; an object's repr may hold its address.
    return type(value).__name__


def _compare(config, saved, path):
    # An option that didn't exist when the run began had the value that is its default now.
    absent = {name: plain(entry.default) for name, entry in options(TrainSettings).items() if name in config}
    saved = absent | saved
    names = [name for name in {**saved, **config} if saved.get(name) != config.get(name)]
    if names:
        lines = [f"  {name}: {saved.get(name)!r} there, {config.get(name)!r} now" for name in names]
        raise ValueError(
            f"{path} holds a run with other settings:\n" + "\n".join(lines) + "\nGive the same settings to go on, "
            "another run_dir to train beside it, or restart=True (--restart) to remove it and begin anew"
        )


@contextlib.contextmanager
def _deferred_interrupt(log):
    """An event that the first Ctrl-C sets, instead of raising in the middle of something; the second one raises."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def handle(signum, frame):
        if event.is_set():
            raise KeyboardInterrupt("stopped without a checkpoint")
        event.set()
        log("stopping after this step; press Ctrl-C again not to wait")

    usual = signal.signal(signal.SIGINT, handle)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, usual)


def _kept(run, state):
    if state["step"] == 0:
        return f"No checkpoint was written yet in {run.path}."
    return f"The checkpoint of step {state['step']} is kept in {run.path}."


def _scores(matrix):
    return {
        "validation_mean_iou": _or_none(matrix.mean_iou),
        "validation_pixel_accuracy": _or_none(matrix.pixel_accuracy),
        "validation_iou": [_or_none(float(value)) for value in matrix.iou],
    }


def _or_none(value):
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def _line(record, steps, state):
    text = f"step {record['step']}/{steps}  loss {record['loss']:.4f}  learning rate {record['learning_rate']:.2g}"
    if record["mean_iou"] is not None:
        text += f"  mIoU {record['mean_iou']:.4f}"
    if "validation_mean_iou" in record:
        score = record["validation_mean_iou"]
        text += "  validation mIoU " + ("undefined" if score is None else f"{score:.4f}")
        if state["best"] and state["best"]["step"] == record["step"]:
            text += " (best)"
    return f"{text}  {duration(record['seconds'])}"


def _result(run, state):
    return {
        "step": state["step"],
        "history": state["history"],
        "best": state["best"],
        "seconds": state["seconds"],
        "last": str(run.last),
        "best_model": str(run.best) if state["best"] else None,
    }
