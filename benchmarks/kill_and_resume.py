"""Ends trainings at random moments, lets them go on, and compares the final weights, bit by bit, with those of a run
that nothing interrupted.

    python benchmarks/kill_and_resume.py --kills 50 --terms 20
    KERAS_BACKEND=jax python benchmarks/kill_and_resume.py --kills 50 --terms 20

The network has all that a checkpoint must hold: batch statistics, dropout, momentum, a moving average of the weights,
gradients that are being accumulated. Prints what was ended where, how long SIGTERM took from the signal to the end of
the process, and how many runs came out equal. Ends with status 1 where one did not, or a process hung.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from keras_deeplab import data
from keras_deeplab.training.trainer import train

LIMIT = 120  # seconds after a SIGTERM or for a whole run, then the process counts as hung


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    x = keras.layers.Dropout(0.2)(x)
    return keras.Model(inputs, keras.layers.Conv2D(6, 1)(x))


def child(folder: Path, steps: int) -> int:
    """A process that trains into a folder and leaves the weights beside it; its number."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        with open(folder / "log.txt", "a") as log:
            os.dup2(log.fileno(), 2)
            model = network()
            train(
                model,
                data.load("synthetic", size=32, num_examples=16),
                folder / "run",
                validation=data.load("synthetic", split="val", size=32, num_examples=4),
                validation_input_size=32,
                validation_every=40,
                checkpoint_every=7,
                steps=steps,
                batch_size=2,
                crop_size=32,
                learning_rate=0.05,
                gradient_accumulation_steps=2,
                ema_momentum=0.9,
                progress=False,
                log=lambda line: print(line, file=log, flush=True),
            )
            np.savez(folder / "weights.npz", *[keras.ops.convert_to_numpy(variable) for variable in model.weights])
            status = 0
    except KeyboardInterrupt as interrupt:
        status = 128 + getattr(interrupt, "signal", signal.SIGINT)
    finally:
        os._exit(status)


def wait(process: int, seconds: float) -> int | None:
    """The status of a process, or None where it runs on after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return status
        time.sleep(0.005)
    return None


def ended(folder: Path) -> str:
    """The last line of a run's log."""
    lines = (folder / "log.txt").read_text().splitlines() if (folder / "log.txt").exists() else []
    return lines[-1][:70] if lines else "before the first step"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--terms", type=int, default=20)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    signals = [signal.SIGKILL] * arguments.kills + [signal.SIGTERM] * arguments.terms
    rng = random.Random(arguments.seed)
    rng.shuffle(signals)
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place, "whole")
        whole.mkdir()
        began = time.monotonic()
        if wait(child(whole, arguments.steps), 10 * LIMIT) != 0:
            sys.exit(f"the run that nothing interrupts failed: {(whole / 'log.txt').read_text()}")
        duration = time.monotonic() - began
        print(f"{keras.backend.backend()}: {arguments.steps} steps took {duration:.1f} s", flush=True)
        with np.load(whole / "weights.npz") as arrays:
            expected = list(arrays.values())
        equal = runs = problems = 0
        delays: list[float] = []
        while signals:
            folder = Path(place, str(runs))
            folder.mkdir()
            runs += 1
            while True:
                process = child(folder, arguments.steps)
                if not signals:
                    status = wait(process, 10 * LIMIT)
                else:
                    status = wait(process, rng.uniform(0.0, 1.1 * duration))
                if status is not None:  # it came to its end first
                    problems += status != 0
                    break
                number = signals.pop()
                sent = time.monotonic()
                os.kill(process, number)
                status = wait(process, LIMIT)
                if number == signal.SIGTERM:
                    delays.append(time.monotonic() - sent)
                print(f"{number.name:8} {time.monotonic() - sent:6.2f} s  {ended(folder)}", flush=True)
                if status is None:
                    print("hung", flush=True)
                    problems += 1
                    os.kill(process, signal.SIGKILL)
                    os.waitpid(process, 0)
            with np.load(folder / "weights.npz") as arrays:
                same = all(np.array_equal(mine, other) for mine, other in zip(arrays.values(), expected, strict=True))
            equal += same
            print(f"run {runs}: {'equal' if same else 'DIFFERENT'}", flush=True)
        print(
            f"{equal} of {runs} runs equal to the bit, {problems} problems; SIGTERM to the end of the process: ", end=""
        )
        print(f"median {np.median(delays):.2f} s, greatest {max(delays):.2f} s" if delays else "none sent")
        sys.exit(0 if equal == runs and not problems else 1)


if __name__ == "__main__":
    main()
