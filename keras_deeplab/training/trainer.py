"""Training: a model and a data set to a run directory of checkpoints, which the same call continues after a kill."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import keras

from keras_deeplab import data
from keras_deeplab.data import pipeline
from keras_deeplab.data.source import Source
from keras_deeplab.metrics import MeanIoU
from keras_deeplab.options import OptionError, options, plain, takes
from keras_deeplab.specs.model import SegmentationModel, inner_layers, spec_of
from keras_deeplab.training import batch_norm, coarse
from keras_deeplab.training import objective as objectives
from keras_deeplab.training.averages import use_averages
from keras_deeplab.training.callbacks.interrupts import Interrupted, Interrupts
from keras_deeplab.training.callbacks.progress import ProgressLine
from keras_deeplab.training.callbacks.reporting import RunReport
from keras_deeplab.training.callbacks.run import TrainingRun
from keras_deeplab.training.callbacks.stopping import Stopping
from keras_deeplab.training.callbacks.validation import Validation
from keras_deeplab.training.choices import make_loss
from keras_deeplab.training.class_weights import with_class_weights
from keras_deeplab.training.distilled import Distilled
from keras_deeplab.training.early_stopping import should_stop
from keras_deeplab.training.fitting import fit
from keras_deeplab.training.hosts import Hosts
from keras_deeplab.training.lines import record_line, validation_lines
from keras_deeplab.training.losses import AtLabelSize, FollowSteps, LossStep, step_variables
from keras_deeplab.training.optimizers import make_optimizer
from keras_deeplab.training.recomputation import recomputing
from keras_deeplab.training.replicas import replicas_of, strategy_of, synchronized
from keras_deeplab.training.run_directory import RunDirectory
from keras_deeplab.training.settings import TrainSettings


@takes(TrainSettings)
def train(
    model: keras.Model,
    source: Source,
    run_dir: str | os.PathLike,
    *,
    validation: Source | None = None,
    teacher: keras.Model | None = None,
    settings: TrainSettings | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    restart: bool = False,
    progress: bool = True,
    log: Callable[[str], None] = print,
    **options: Any,
) -> dict[str, Any]:
    """Trains `model` (images to logits) on `source` for `steps` steps, and leaves it with the weights of the last.

    It compiles a twin of the model (`compiled`) and calls Keras's `fit` on it, with the callbacks of
    `keras_deeplab.training.callbacks`, which work in a `fit` of one's own too. Everything goes to `run_dir` (see
    `run_directory.RunDirectory`): `last.keras`, `best.keras`, `history.jsonl`, `config.json`. The same call on a run
    that was killed at any moment goes on from its last checkpoint: the same batches, learning rates, optimizer state
    and dropout as if nothing had happened. On a finished run it only loads the weights, unless `steps` is greater now:
    then it goes on from there. To make the first weights repeatable too, call `keras.utils.set_random_seed` before
    building the model.

    Several hosts (`keras_deeplab.training.distribution.distributed`) make the same call, of the same data, with a
    `run_dir` that all of them see; the first one writes and tells. Each reads its own part of every batch, and all
    validate all images. What ends one of them by a signal ends all after the same step.

    Args:
        model: functional `keras.Model`, images (B, H, W, source.channels) in 0..255 to logits (B, H, W,
            source.num_classes), or one logit for two classes; perhaps auxiliary ones behind them. The record of a model
            of this package's builders (`model.spec`), and of the saved ones, gets the data's classes where it has none.
        source: a `keras_deeplab.data` source to learn from.
        run_dir: folder of the run; made if needed.
        validation: a source to evaluate whole images of, or None. The last step always has a validation.
        teacher: a model of the same classes whose logits are learnt as well as the labels (`teacher_weight`), or None.
        settings: a `keras_deeplab.training.settings.TrainSettings`; the options below change single ones.
        callbacks: of Keras or one's own, as of `model.fit`; an epoch ends with each validation, whose scores are in its
            logs as "val_mean_iou" and so on. What they remember isn't part of a checkpoint.
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
        KeyboardInterrupt: after Ctrl-C, SIGTERM or SIGHUP, once a checkpoint of the running step is written; a second
            Ctrl-C doesn't wait for it.
    """
    settings = TrainSettings.of(**options) if settings is None else settings.with_options(**options)
    settings = with_class_weights(settings.resolved(source.num_examples), source)
    told, settings = settings, batch_norm.resolved(settings, model)
    _check_arguments(model, source, validation, settings)
    trained = _compiled(model, source, settings, teacher)
    # Plain JSON values, so that a config read from a file compares equal.
    config = json.loads(json.dumps(settings.to_json() | _describe(model, source)))
    config["teacher"] = None if teacher is None else _described(teacher)
    hosts = Hosts(trained)
    hosts.agree(config, "settings, model or data")
    if not hosts.first:
        progress, log = False, _silent
    run, interrupts = RunDirectory(run_dir), Interrupts(hosts.gathered if hosts.several else None)
    steps = settings.total_steps
    with _locked(run, hosts, restart), interrupts.handling():
        scored = None if validation is None else _validation(trained, validation, settings, interrupts, progress)
        keeper = TrainingRun(
            run,
            every=settings.checkpoints.every,
            saved=objectives.recorded(model, source),
            config=config,
            scoring=None if scored is None else scored.scoring,
            log=log,
            on_record=lambda record, state: _tell(record, state, source, settings, log),
            writes=hosts.first,
        )
        start = keeper.restore(trained, lambda state: _compare(config, state, run.path))
        hosts.agree([start, keeper.state["history"]], f"the checkpoints in {run.path}, which all hosts must see,")
        if start == 0 and settings.batch_norm == "calibrated":
            _calibrate(trained, source, settings)
            log(_calibrated_line(settings, by_default=told.batch_norm is None))
        every = settings.validation.every or max(1, steps // 10)
        if scored is not None and _lacks_validation(keeper.state, every, steps):
            scores = scored.scores()
            if scores is not None:
                keeper.amend(scores)
        patience = settings.stopping.patience
        ended = should_stop(keeper.state["history"], patience)
        if start < steps and interrupts.received is None and not ended:
            line = ProgressLine(steps, start, progress)
            stopping = Stopping(keeper.state["history"], patience, log)
            # By the predictor of the validation: the same padding, and no second graph.
            page = RunReport(run.path, validation, predict=scored and scored.predict, log=log)
            before = [FollowSteps(trained.loss), interrupts, line, *filter(None, [scored])]
            behind = [keeper, stopping, *([page] if hosts.first else []), *callbacks]
            with data.readable_errors(), synchronized(trained):
                fit(
                    trained,
                    lambda step: _parts(trained, hosts, source, settings, step),
                    steps=steps,
                    steps_per_epoch=every,
                    start=start,
                    callbacks=[*before, *behind],
                )
        elif ended and start < steps:
            log(f"{run.path} ended early at step {start}; more patience (--patience) would go on")
        elif start >= steps:
            log(f"{run.path} holds a finished run of {steps} steps; restart=True (--restart) would begin anew")
    if keeper.error is not None:
        _name_stray_label(source, settings, keeper)
        raise keeper.error
    ended = should_stop(keeper.state["history"], settings.stopping.patience)
    if interrupts.received is not None and keeper.state["step"] < steps and not ended:
        raise Interrupted(
            f"stopped at step {keeper.state['step']} of {steps}, saved in {run.path}; the same call goes on from it",
            interrupts.received,
        )
    use_averages(trained)
    batch_norm.release(model)
    return _result(run, keeper.state)


def compiled(
    model: keras.Model, source: Source, settings: TrainSettings, teacher: keras.Model | None = None
) -> SegmentationModel:
    """A model of the same layers as `model`, compiled as a run with these settings trains it: for `fit` of one's own.

    Its optimizer, loss and metric are those of the settings; batch normalisation is set as they say, in the layers that
    both models have. `model` itself is not compiled, so that its files hold no optimizer.

    Args:
        model: functional `keras.Model`, images (B, H, W, channels) in 0..255 to logits (B, H, W, classes).
        source: the data that it will learn.
        settings: of the run; steps and learning rate are filled in where they are not told.
        teacher: as of `train`.

    Raises:
        ValueError: the model can't learn the data, or the settings or the teacher don't fit it.
    """
    settings = with_class_weights(settings.resolved(source.num_examples), source)
    settings = batch_norm.resolved(settings, model)
    objectives.check_model(model, source)
    twin = _compiled(model, source, settings, teacher)
    if settings.batch_norm == "calibrated":
        _calibrate(twin, source, settings)
    return twin


def _compiled(model, source, settings, teacher):
    """As `compiled`, with all settings filled in, and without statistics of the data, which a checkpoint has too."""
    batch_norm.prepare(model, settings)
    loss = make_loss(settings.loss, source.ignore_label)
    strategy = strategy_of(model)
    with nullcontext() if strategy is None else strategy.scope():
        outputs = model.outputs if len(model.outputs) > 1 else model.outputs[0]
        kind = Hosts(model).class_for(SegmentationModel if teacher is None else Distilled)
        twin = kind(model.inputs[0], outputs, name=model.name)
        losses, resize = [loss] * len(model.outputs), None
        if teacher is None:
            conventions = coarse.resizes(twin)
            losses = [loss if each is None else AtLabelSize(loss, each) for each in conventions]
            resize = conventions[0]
        else:
            # A teacher is compared with at images' size.
            _check_teacher(teacher, source)
            own = settings.teaching
            twin.taught(teacher, own.weight, own.temperature, source.ignore_label)
        twin.spec = spec_of(model)
        several = len(model.outputs) > 1
        twin.compile(
            optimizer=make_optimizer(twin, settings),
            loss=losses if several else losses[0],
            loss_weights=[1.0, settings.loss.auxiliary_weight] if several else None,
            metrics=[
                MeanIoU(source.num_classes, source.ignore_label, resize=resize),
                *([LossStep(loss)] if step_variables(loss) else []),
            ],
            # XLA is all there is to JAX; elsewhere it makes depthwise convolutions far slower on CPUs.
            jit_compile=settings.jit_compile or keras.backend.backend() == "jax",
            auto_scale_loss=False,
        )
        if teacher is None:
            coarse.end_before_resize(twin, settings.recompute)
        elif settings.recompute:
            twin.called_for_training = recomputing(twin)
    return twin


@contextmanager
def _locked(run, hosts, restart):
    """A context in which a run's folder is this training's: the first of several hosts holds it for all."""
    with ExitStack() as held:
        error = None
        if hosts.first:
            try:
                held.enter_context(run.locked())
                if restart:
                    run.clear()
            except (OSError, ValueError) as problem:
                error = problem
        hosts.all_managed(error, f"train into {run.path}")
        yield


def _silent(line):
    pass


def _parts(model, hosts, source, settings, start_step):
    """What `fit` is given of a run's batches: all of them, or of several hosts this one's part, for its devices."""
    part = batches(source, settings, start_step, (hosts.index, hosts.count))
    strategy = strategy_of(model)
    if strategy is None or not hosts.several:
        return part
    each = settings.batch_size // strategy.num_replicas_in_sync
    return strategy.distribute_datasets_from_function(lambda context: part.rebatch(each, drop_remainder=True))


def _calibrate(model, source, settings):
    """Gives new layers of batch normalisation the statistics of 32 training crops."""
    with data.readable_errors():
        shown = batches(source, settings.with_options(batch_size=8)).take(4).as_numpy_iterator()
        batch_norm.calibrate(model, (images for images, _ in shown))


def batches(source: Source, settings: TrainSettings, start_step: int = 0, part: tuple[int, int] = (0, 1)) -> Any:
    """The endless data set of a run's batches behind a step, or of parts of them, see `data.pipeline.training`."""
    return pipeline.training(
        source,
        batch_size=settings.batch_size,
        crop_size=settings.crop_size,
        seed=settings.seed,
        start_step=start_step,
        part=part,
        **settings.augmentation.values(),
    )


def _calibrated_line(settings, by_default):
    clip = settings.optimization.global_clipnorm
    why = " (by default below 8 crops a step)" if by_default else ""
    return (
        f"batch normalisation is calibrated{why}: new layers have the statistics of 32 crops, and all keep theirs"
        + (f"; gradients are clipped to a norm of {clip:g}" if clip else "")
    )


def _validation(model, source, settings, interrupts, progress):
    own = settings.validation
    scored = Validation(
        source, limit=own.limit, input_size=own.input_size, progress=progress, within=interrupts.at_once
    )
    scored.set_model(model)
    return scored


def _lacks_validation(state, every, steps):
    """Whether a run was ended at a step that has a validation, before that was made."""
    step = state["step"]
    return bool(step) and (step % every == 0 or step == steps) and "validation_mean_iou" not in state["history"][-1]


def _name_stray_label(source, settings, keeper):
    """Raises a ValueError with the label that made a loss NaN, where one did: it is no class."""
    for _, labels in batches(source, settings, keeper.step - 1).take(1).as_numpy_iterator():
        greatest = int(
            max((label for label in set(labels.ravel().tolist()) if label != source.ignore_label), default=0)
        )
        if greatest >= source.num_classes:
            raise ValueError(
                f"step {keeper.step}: a label map holds {greatest}, which is neither one of the classes "
                f"0..{source.num_classes - 1} nor the ignored label {source.ignore_label}. {keeper.kept()}"
            ) from None


def _check_arguments(model, source, validation, settings):
    if keras.backend.backend() not in ("tensorflow", "jax"):
        raise ValueError(
            f"training runs on the TensorFlow and JAX backends and this is {keras.backend.backend()}: set "
            "KERAS_BACKEND to one of them"
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
    if settings.batch_size % replicas_of(model):
        raise OptionError(
            "{batch_size} must be a multiple of the number of devices, {devices}; received {size}",
            devices=str(replicas_of(model)),
            size=str(settings.batch_size),
        )
    accumulated = settings.optimization.gradient_accumulation_steps > 1
    if accumulated and keras.backend.backend() == "tensorflow" and replicas_of(model) > 1:
        raise OptionError(
            "{gradient_accumulation_steps} doesn't go with several devices on the TensorFlow backend, whose "
            "optimizers can't take both: leave it at 1, or set KERAS_BACKEND=jax"
        )
    if not model.trainable_variables:
        raise ValueError("the model has no trainable variables: set trainable = True on the layers to train")


def _check_teacher(teacher, source):
    try:
        objectives.check_model(teacher, source)
    except ValueError as error:
        raise ValueError(f"the teacher can't teach this data: {error}") from error
    stride = spec_of(teacher).logits_stride
    if stride not in (1, None):  # where nothing tells, the loss compares the sizes
        raise ValueError(
            f"the teacher's logits have stride {stride}, and must have the images' size: load it with "
            "upsample_logits=True"
        )


def _described(model):
    """A model as plain values: its size, and a digest of its layers."""
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
        "layers": len(layers),
        "parameters": model.count_params(),
        "trainable_parameters": sum(math.prod(variable.shape) for variable in model.trainable_variables),
        "architecture": digest[:12],
    }


def _describe(model, source):
    """What a run depends on besides its settings, as plain values."""
    return {
        "model": _described(model),
        "source": source.name,
        "num_examples": source.num_examples,
        "classes": list(source.classes),
        "ignore_label": source.ignore_label,
    }


def _plain(value):
    # Only numbers and text tell one architecture from another; an object's repr may hold its address.
    return type(value).__name__


def _compare(config, state, path):
    # An option that didn't exist when the run began had the value that is its default now.
    absent = {name: plain(entry.default) for name, entry in options(TrainSettings).items() if name in config}
    absent["teacher"] = None
    saved = absent | (state["config"] or {})
    # The values themselves tell what was overridden.
    names = [name for name in {**saved, **config} if name != "overridden" and saved.get(name) != config.get(name)]
    if "steps" in names and state["step"] == saved.get("steps") < config["steps"]:
        names.remove("steps")  # a finished run goes on
    if names:
        lines = [f"  {name}: {saved.get(name)!r} there, {config.get(name)!r} now" for name in names]
        more = "; more steps can be given once it is finished" if "steps" in names else ""
        raise ValueError(
            f"{path} holds a run with other settings:\n"
            + "\n".join(lines)
            + f"\nGive the same settings to go on{more}, another "
            "run_dir to train beside it, or restart=True (--restart) to remove it and begin anew"
        )


def _tell(record, state, source, settings, log):
    log(record_line(record, settings.total_steps, state["best"] and state["best"]["step"]))
    for line in validation_lines(record, source.classes):
        log(line)


def _result(run, state):
    return {
        "step": state["step"],
        "history": state["history"],
        "best": state["best"],
        "seconds": state["seconds"],
        "last": str(run.last),
        "best_model": str(run.best) if state["best"] else None,
    }
