"""A training in a folder: its records and checkpoints, from which another process goes on to the bit."""

import math
import os
import time
from collections.abc import Callable
from typing import Any

import keras

from keras_deeplab.reports.history import problem_of, recorded
from keras_deeplab.training.averages import averaged
from keras_deeplab.training.batch_norm import as_built
from keras_deeplab.training.callbacks.epochs import Epochs
from keras_deeplab.training.optimizers import scheduled_rate
from keras_deeplab.training.replicas import synchronized
from keras_deeplab.training.run_directory import RunDirectory


class TrainingRun(Epochs):
    """Keeps a `fit` in a run folder: `last.keras`, `best.keras`, `history.jsonl` (see `RunDirectory`).

    A checkpoint is made every `every` steps, at the end of every epoch, and wherever training is stopped in the middle
    of one; with each goes a record of the steps since the one before, also into the history. A checkpoint holds all
    that the next step depends on: weights, the optimizer's variables with averages and accumulated gradients, the
    states of random layers. So `restore` and the batches from its step on give the weights, to the bit, of a run that
    was never interrupted:

        run = TrainingRun("runs/a")
        step = run.restore(model)  # 0 the first time
        fit(model, lambda step: pipeline.training(source, start_step=step, ...), start=step, steps=1000,
            steps_per_epoch=100, callbacks=[Validation(source), run])

    It stands behind the callbacks whose logs it shall record and that may stop training in an epoch. `best.keras` is
    that of the greatest `"val_mean_iou"` in the logs, with the moving average of the weights where there is one.

    Args:
        run: the folder.
        every: steps between checkpoints.
        saved: the model to write; None for the one that is trained. It has the same variables.
        config: what the run depends on, as plain values; it goes into the checkpoints and back into `state`.
        scoring: likewise what validations depend on: where it was another, the best model is chosen anew.
        log: called with lines of text.
        on_record: called with each record and the state, once they are written.
        writes: whether this process writes; of several hosts that see one folder, the first one does.

    Attributes:
        state: dict of "step", "config", "history" (list of records), "best" ({"step", "mean_iou"} or None), "scoring",
            "seconds" of training.
        error: the ValueError that ended the training: a loss or a weight that is no finite number. `fit` returns then,
            and whoever called it raises it: inside `fit` it would keep the iterator over the data alive.
    """

    def __init__(
        self,
        run: RunDirectory | str | os.PathLike,
        *,
        every: int = 200,
        saved: keras.Model | None = None,
        config: dict[str, Any] | None = None,
        scoring: dict[str, Any] | None = None,
        log: Callable[[str], None] = print,
        on_record: Callable[[dict[str, Any], dict[str, Any]], None] | None = None,
        writes: bool = True,
    ) -> None:
        super().__init__()
        self.run = run if isinstance(run, RunDirectory) else RunDirectory(run)
        self.every, self.saved, self.log, self.on_record = every, saved, log, on_record
        self.writes = writes
        self.state: dict[str, Any] = {
            "step": 0,
            "config": config or {},
            "history": [],
            "best": None,
            "scoring": scoring,
            "seconds": 0.0,
        }
        self.step = 0  # that is done; the state's is that of the last checkpoint
        self.error: ValueError | None = None
        self._began = time.monotonic()

    # Going on ---------------------------------------------------------------------------------------------------

    def restore(self, model: keras.Model, compare: Callable[[dict[str, Any]], None] = lambda state: None) -> int:
        """Gives a compiled model the state of the folder's last checkpoint; its step, 0 where there is none.

        Args:
            model: compiled, its optimizer built.
            compare: called with the checkpoint's `state` before anything is changed; it may raise.

        Raises:
            ValueError: there are checkpoints and all are damaged, or it is one of another model.
        """
        self.set_model(model)
        found = self.run.read_checkpoint(self.log, _problem)
        if found is None:
            self._write_texts()
            return 0
        path, state, arrays = found
        compare(state)
        (self.saved or model).load_weights(path)
        for prefix, variables in other_variables(model).items():
            for index, variable in enumerate(variables):
                variable.assign(arrays[f"{prefix}{index}"])
        state["config"] = self.state["config"] or state["config"]
        scoring = self.state["scoring"]
        if scoring is not None and state["best"] and state["scoring"] != scoring:
            self.log(f"validation was {state['scoring']} and is {scoring} now: the best model is chosen anew")
            state["best"] = None
        state["scoring"] = scoring or state["scoring"]
        self.state, self.step = state, state["step"]
        self._miss_best()
        # Lines of steps after the checkpoint, and one cut short by a kill, go; what is not the run's own text too.
        self._write_texts()
        self.log(f"going on from {path} at step {state['step']}")
        return self.step

    def amend(self, scores: dict[str, Any]) -> None:
        """Adds the scores of a validation, which a signal had kept from being made, to the last record."""
        self._keep(self.state["history"].pop() | recorded(scores))

    # Hooks ------------------------------------------------------------------------------------------------------

    def on_train_begin(self, logs: Any = None) -> None:
        self._began = time.monotonic() - self.state["seconds"]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_end(batch, logs)
        self.step += 1
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            self._fail(f"the loss is {loss} at step {self.step}, learning rate {self._rate_text()}.")
        elif self.step % self.every == 0 and not self.is_last_batch and not self.model.stop_training:
            self._record(None)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.error is None and self.step > self.state["step"]:
            self._record(logs or {})

    def _record(self, logs: Any) -> None:
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()  # on JAX the variables are behind while an epoch runs
        unsound = next((each for each in self.model.weights if not _finite(each)), None)
        if unsound is not None:  # a loss can be finite when the step it led to is not
            self._fail(f"{unsound.path} is no longer finite after step {self.step}, learning rate {self._rate_text()}.")
            return
        if logs is None:  # those of a step are of one replica, where there are several
            results = self.model.get_metrics_result().items()
            logs = {name: float(keras.ops.convert_to_numpy(value)) for name, value in results}
        self._keep({"step": self.step, "learning_rate": self.learning_rate(self.step)} | recorded(logs))
        # The next record is of the steps from here on.
        self.model.reset_metrics()

    def _keep(self, record: dict[str, Any]) -> None:
        """Writes a record with its checkpoint; the best model before them, so that a kill between leaves no record."""
        state, saved = self.state, self.saved or self.model
        if self.writes and not self.run.path.is_dir():
            self.log(f"{self.run.path} was removed while it was trained into: it is made anew, from this step on")
            self.run.write_config(state["config"])
        self._miss_best()
        score, best = record.get("validation_mean_iou"), state["best"]
        if score is not None and (best is None or score > best["mean_iou"]):
            with averaged(self.model), synchronized(saved, False), as_built(saved):
                if self.writes:
                    self.run.save_best(saved)
            state["best"] = {"step": record["step"], "mean_iou": score}
        state["step"], state["seconds"] = record["step"], time.monotonic() - self._began
        record["seconds"] = round(state["seconds"], 1)
        state["history"].append(record)
        arrays = {
            f"{prefix}{index}": keras.ops.convert_to_numpy(variable)
            for prefix, variables in other_variables(self.model).items()
            for index, variable in enumerate(variables)
        }
        if self.writes:
            self.run.write_history(state["history"])
            with synchronized(saved, False), as_built(saved):
                self.run.save_checkpoint(saved, state, arrays)
        if self.on_record is not None:
            self.on_record(record, state)

    def _write_texts(self) -> None:
        if self.writes:
            self.run.write_config(self.state["config"])
            self.run.write_history(self.state["history"])

    def _miss_best(self) -> None:
        """Chooses the best model anew where its file is gone: a greater score alone would never bring it back."""
        best = self.state["best"]
        if self.writes and best is not None and not self.run.best.is_file():
            self.log(f"{self.run.best} of step {best['step']} is gone: the best model is chosen anew")
            self.state["best"] = None

    # Words ------------------------------------------------------------------------------------------------------

    def learning_rate(self, step: int) -> float:
        """The learning rate that a step (counted from 1) was taken with."""
        rate = scheduled_rate(self.model.optimizer, step)
        return float(self.model.optimizer.learning_rate) if rate is None else rate

    def _rate_text(self) -> str:
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        return f"{self.learning_rate(self.step):.3g}"

    def _fail(self, problem: str) -> None:
        advice = (
            "A lower learning_rate or a longer warm-up (warmup_steps) usually helps; start it with restart=True "
            "(--restart) or in another run_dir"
        )
        self.error = ValueError(f"{problem} {self.kept()} {advice}")
        self.model.stop_training = True

    def kept(self) -> str:
        """Which checkpoint there is, a sentence."""
        if self.state["step"] == 0:
            return f"No checkpoint was written yet in {self.run.path}."
        return f"The checkpoint of step {self.state['step']} is kept in {self.run.path}."


def other_variables(model: keras.Model) -> dict[str, list[keras.Variable]]:
    """What a model's file doesn't hold: the optimizer's variables, and the states of random layers."""
    weights = {id(variable) for variable in model.weights}
    random = [variable for variable in model.non_trainable_variables if id(variable) not in weights]
    return {"optimizer": list(model.optimizer.variables), "random": random}


def _finite(variable: keras.Variable) -> bool:
    return bool(keras.ops.all(keras.ops.isfinite(variable)))


def _problem(state: Any) -> str | None:
    """What a checkpoint's state has that none was written with, or None."""
    if not isinstance(state, dict):
        return "no object"
    step, history = state.get("step"), state.get("history")
    if type(step) is not int or step < 0 or not isinstance(history, list) or (step > 0) > bool(history):
        return "no step with a history"
    problem = next((found for record in history if (found := problem_of(record))), None)
    if problem is not None:
        return f"a history with {problem}"
    best, seconds = state.get("best"), state.get("seconds")
    if best is not None and not (isinstance(best, dict) and {"step", "mean_iou"} <= best.keys()):
        return f"{best!r:.40} for the best"
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        return f"{seconds!r:.40} seconds"
    config, missing = state.get("config"), {"config", "scoring"} - state.keys()
    if missing or not (config is None or isinstance(config, dict)):
        return f"no {' and no '.join(sorted(missing))}" if missing else f"{config!r:.40} for the settings"
    return None
