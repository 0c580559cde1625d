"""Puts changed inputs to every door of the package: what is taken, what refused, what crashes, hangs or grows.

    python benchmarks/fuzz.py --inputs 200

has each door of tests/fuzz_doors.py in a process of its own, which draws the inputs by their numbers and puts them to
it, and prints a table. An input has 10 seconds, and the process 4 GiB of address space beside what it has when the door
is ready; whatever ends it counts as a crash, and the next input goes to a new process. What is raised must be an error
that the door documents and name the input; anything else is a fault, shown below the table with the input's number,
by which `--doors NAME --first NUMBER --inputs 1` shows it again. The exit status is 1 if anything was wrong.
"""

import argparse
import collections
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

SECONDS, MEMORY = 10.0, 4 << 30
READY_SECONDS = 300.0


def memory(field):
    """A figure of this process's memory in bytes, by its name in /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) << 10
    return 0


def work(door, pipe, log):
    """The process of a door: numbers of inputs come by the pipe, and what became of each goes back."""
    import warnings

    from fuzz_doors import DOORS, outcome

    for stream in (1, 2):
        os.dup2(log.fileno(), stream)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        ready = DOORS[door](Path(folder), setattr)
        if ready.valid is not None:
            ready.enter(ready.valid)
        size = memory("VmSize") + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        pipe.send("ready")
        while (number := pipe.recv()) is not None:
            made = ready.draw(random.Random(f"{door} {number}"), below=bool(number % 2))
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            before, begin = memory("VmRSS"), time.monotonic()
            kind, told = outcome(ready, made)
            seconds = time.monotonic() - begin
            pipe.send({"kind": kind, "told": told, "seconds": seconds, "memory": max(0, memory("VmHWM") - before)})
    os._exit(0)  # servers of doors need not end by themselves


class Worker:
    """A door's process, forked from this one, which has imported what takes long and computed nothing."""

    def __init__(self, door):
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        forking = multiprocessing.get_context("fork")
        self._pipe, theirs = forking.Pipe()
        self._process = forking.Process(target=work, args=(door, theirs, self._log), daemon=True)
        self._process.start()
        theirs.close()
        if self._answer(READY_SECONDS) != "ready":
            raise RuntimeError(f"{door} is not ready: {self.stop()}")

    def put(self, number):
        """What became of an input; None after the time, or the process's exit status where it ended."""
        self._pipe.send(number)
        return self._answer(SECONDS)

    def _answer(self, seconds):
        if not self._pipe.poll(seconds):
            return None
        try:
            return self._pipe.recv()
        except EOFError:
            self._process.join()
            return self._process.exitcode

    def stop(self):
        """Ends it; the end of what it wrote to its standard error."""
        self._process.kill()
        self._process.join()
        self._pipe.close()
        with self._log as file:
            file.seek(0)
            return file.read()[-1500:].decode("utf-8", "replace")


def fuzz(door, first, inputs):
    """Puts inputs to a door; (figures, what was wrong, as text)."""
    figures = {"inputs": 0, "accepted": 0, "refused": collections.Counter(), "faults": 0, "crashes": 0, "hangs": 0}
    figures |= {"seconds": 0.0, "memory": 0}
    wrong, worker = [], Worker(door)
    for number in range(first, first + inputs):
        found = worker.put(number)
        figures["inputs"] += 1
        if isinstance(found, dict):
            figures["seconds"] = max(figures["seconds"], found["seconds"])
            figures["memory"] = max(figures["memory"], found["memory"])
            if found["kind"] == "accepted":
                figures["accepted"] += 1
            elif found["kind"] == "refused":
                figures["refused"][found["told"]] += 1
            else:
                figures["faults"] += 1
                wrong.append(f"{door}, {number}: {found['told']}")
            continue
        what = "hangs" if found is None else "crashes"
        figures[what] += 1
        log = worker.stop()
        wrong.append(f"{door}, {number}: {what}" + ("" if found is None else f" with {found}: {log}"))
        worker = Worker(door)
    worker.stop()
    return figures, wrong


def main():
    """Runs it; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=200, help="to each door")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--doors", nargs="*", help="what their names begin with; all without")
    options = parser.parse_args()
    # Imported once for all processes.
    from fuzz_doors import DOORS

    import keras_deeplab.export.saved_model
    import keras_deeplab.export.tflite
    import keras_deeplab.inference.predictor
    import keras_deeplab.loading
    import keras_deeplab.training.trainer  # noqa: F401

    doors = [name for name in DOORS if not options.doors or name.startswith(tuple(options.doors))]
    print("| door | inputs | accepted | refused | faults | crashes | hangs | longest s | MiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    total, faults = collections.Counter(), []
    for door in doors:
        try:
            figures, wrong = fuzz(door, options.first, options.inputs)
        except RuntimeError as error:
            faults.append(str(error))
            print(f"wrong: {error}", file=sys.stderr, flush=True)
            continue
        refused = ", ".join(f"{count} {name}" for name, count in figures["refused"].most_common())
        print(
            f"| {door} | {figures['inputs']} | {figures['accepted']} | {refused} | {figures['faults']} "
            f"| {figures['crashes']} | {figures['hangs']} | {figures['seconds']:.1f} | {figures['memory'] >> 20} |",
            flush=True,
        )
        for line in wrong:
            print(f"wrong: {line}", file=sys.stderr, flush=True)
        faults += wrong
        total.update({key: figures[key] for key in ("inputs", "accepted", "faults", "crashes", "hangs")})
        total["refused"] += figures["refused"].total()
        total["seconds"] = max(total["seconds"], figures["seconds"])
        total["memory"] = max(total["memory"], figures["memory"])
    print(
        f"| all {len(doors)} | {total['inputs']} | {total['accepted']} | {total['refused']} | {total['faults']} "
        f"| {total['crashes']} | {total['hangs']} | {total['seconds']:.1f} | {total['memory'] >> 20} |"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
