"""A training run's folder belongs to one process at a time, however that process ends."""

import io
import json
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

from keras_deeplab import data
from keras_deeplab.training.run_directory import RunDirectory

HOLD = """
import sys, time
from keras_deeplab.training.run_directory import RunDirectory
with RunDirectory(sys.argv[1]).locked():
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_lock_keeps_other_processes_out_and_ends_with_a_killed_one(tmp_path):
    run = RunDirectory(tmp_path / "run")
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        with (
            pytest.raises(ValueError, match=r"another process is training into .*run: wait for it, end it"),
            run.locked(),
        ):
            pass
        other.kill()
    with run.locked():
        pass


def test_a_lock_ends_with_its_context_and_holds_within_a_process(tmp_path):
    run = RunDirectory(tmp_path)
    with run.locked(), pytest.raises(ValueError, match="another process"), RunDirectory(tmp_path).locked():
        pass
    with pytest.raises(RuntimeError, match="training failed"), run.locked():
        raise RuntimeError("training failed")
    with run.locked():
        pass


def checkpoint(step):
    """The bytes of a checkpoint as far as it is looked at here."""
    buffer, arrays = io.BytesIO(), io.BytesIO()
    np.savez(arrays, optimizer0=np.arange(3))
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(20))
        archive.writestr("training/arrays.npz", arrays.getvalue())
        archive.writestr("training/state.json", json.dumps({"step": step}))
    return buffer.getvalue()


def test_whatever_bit_of_the_last_checkpoint_is_turned_the_one_before_is_gone_on_from(tmp_path):
    run, told = RunDirectory(tmp_path), []
    whole = checkpoint(2)
    run.previous.write_bytes(checkpoint(1))
    directory = whole.index(b"PK\1\2")
    steps = set()
    for bit in range(8 * directory, 8 * len(whole), 5):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        run.last.write_bytes(broken)
        path, state, arrays = run.read_checkpoint(told.append)
        assert (path, state["step"]) in {(run.last, 2), (run.previous, 1)}
        assert list(arrays["optimizer0"]) == [0, 1, 2]
        steps.add(state["step"])
    assert steps == {1, 2}
    assert all("last.keras is damaged (" in line and "previous.keras, step 1, instead" in line for line in told)


def test_a_checkpoint_that_lost_a_part_is_damaged(tmp_path):
    run = RunDirectory(tmp_path)
    with zipfile.ZipFile(io.BytesIO(checkpoint(2))) as whole, zipfile.ZipFile(run.last, "w") as archive:
        for name in whole.namelist():
            if name != "model.weights.h5":
                archive.writestr(name, whole.read(name))
    with pytest.raises(ValueError, match=r"last\.keras is damaged \(it has no model\.weights\.h5\).*restart=True"):
        run.read_checkpoint(print)


def trained(folder, steps=4, callbacks=(), log=print):
    """A run with a validation every other step whose first score stays the best: nothing is learnt."""
    from keras_deeplab.training.trainer import train

    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(6, 1)(keras.layers.Rescaling(1 / 255)(inputs)))
    return train(
        model,
        data.load("synthetic", size=16, num_examples=4),
        folder,
        validation=data.load("synthetic", split="val", size=16, num_examples=2),
        validation_every=2,
        steps=steps,
        batch_size=2,
        crop_size=16,
        learning_rate=1e-9,
        callbacks=callbacks,
        progress=False,
        log=log,
    )


@pytest.mark.slow
def test_a_best_model_that_is_gone_is_missed_and_chosen_anew(tmp_path):
    run, told = RunDirectory(tmp_path), []
    assert trained(run.path)["best"]["step"] == 2
    run.best.unlink()
    finished = trained(run.path, log=told.append)
    assert (finished["best"], finished["best_model"]) == (None, None)
    assert any("best.keras of step 2 is gone: the best model is chosen anew" in line for line in told)
    assert trained(run.path, steps=8)["best"]["step"] == 6
    assert run.best.is_file()


@pytest.mark.slow
def test_a_run_whose_folder_is_removed_goes_on_in_a_new_one(tmp_path):
    run, told = RunDirectory(tmp_path / "run"), []

    class Removed(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                shutil.rmtree(run.path)

    result = trained(run.path, steps=8, callbacks=[Removed()], log=told.append)
    assert (result["step"], result["best"]["step"]) == (8, 4)
    assert {"last.keras", "best.keras", "history.jsonl", "config.json"} <= {file.name for file in run.path.iterdir()}
    assert len(run.history.read_text().splitlines()) == 4
    assert sum("was removed while it was trained into" in line for line in told) == 1
    assert trained(run.path, steps=8)["step"] == 8
