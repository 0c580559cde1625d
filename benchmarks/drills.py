"""Strikes running commands at random moments, and looks at what they leave and whether the same command goes on.

    python benchmarks/drills.py --rounds 3
    python benchmarks/drills.py --only train --only "full disk" --seed 7
    python benchmarks/drills.py --only "again and again" --rounds 12 --backend jax

A round plays each row of `DRILLS` once: signals, a full disk, a closed folder, memory that runs out, data that vanish
or break, a loss that is no number, two processes in one folder, a server that is killed, a clock that jumps, times of
files in the future. Whatever is struck, files with final names must be whole, errors must be told in a line with a
status that isn't 0, nothing half may be left beside (by a signal that a command doesn't catch aside), and the same
command must then give what it gives undisturbed: of trainings the weights and the optimizer, to the bit.

The network is tiny and has all that a checkpoint must hold: batch statistics, dropout, momentum, a moving average of
the weights, accumulated gradients. Moments are drawn from the seed; what a process does by then depends on the machine.
Status 1 where anything failed. Of Linux. A drill is a function of a `Try` and a row.
"""

import argparse
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from folder_of_many import as_anyone  # noqa: E402
from serving_load import start_server, stop_server  # noqa: E402

CLASSES = ("background", "person", "car")
LIMIT = 300  # seconds for a command, then it hangs
PROMPT = 5  # seconds from a signal to the end of the process
TRAIN = "--batch-size 2 --crop-size 32 --validation-every 100 --checkpoint-every 7 --learning-rate 0.05 --momentum 0.9"
TRAIN += " --steps 200 --gradient-accumulation-steps 2 --ema-momentum 0.9 --batch-norm batch --seed 3"

# The words of each command, and what it leaves; each is run in a folder with `in/`, and writes below `out/`.
JOBS = {
    "train": (f"train in/data --run-dir out/run --weights in/model.keras {TRAIN}", "out/run/last.keras"),
    "evaluate": ("evaluate in/model.keras in/data --json out/scores.json", "out/scores.json"),
    "predict": ("predict in/model.keras in/data/images --output-dir out/labels --write labels,areas", "out/labels"),
    "tiles": ("tiles write in/model.keras in/large.png --output out/large.png --tile 64 --halo 8", "out/large.png"),
    "convert": ("convert_checkpoint in/model.keras out/model.keras", "out/model.keras"),
    "export-tflite": ("export_tflite in/model.keras out/model.tflite --input-size 32", "out/model.tflite"),
    "export-saved-model": ("export_saved_model in/model.keras out/served", "out/served"),
    "segment": ("segment --server {server} --model drilled in/data/images --output-dir out/labels", "out/labels"),
}
# What makes a command ask for more memory than it has: further words, and the size of an image in its folder.
HUNGRY = {
    "train": (("--crop-size", "4097", "--batch-size", "8"), None),
    "predict": (("--max-pixels", "100000000"), 8000),
    "export-tflite": (("--input-size", "9001"), None),
}
# Put before Python's own start of a command: its clock jumps by up to a day, to and fro, each time it is looked at.
JUMPING_CLOCK = """
import random, time
def jumping(read=time.time, draw=random.Random({seed})):
    return read() + draw.uniform(-86400, 86400)
time.time = jumping
"""


def make_inputs(folder: Path) -> None:
    """Drawn images and masks, a large image, and a model of one block."""
    import keras

    from keras_deeplab._helpers.opencv import cv2
    from keras_deeplab.specs import Classes
    from keras_deeplab.specs.model import with_spec

    draw = np.random.default_rng(1)
    for part in ("images", "masks"):
        (folder / "data" / part).mkdir(parents=True)
    (folder / "data" / "classes.txt").write_text("\n".join(CLASSES))
    for number in range(24):
        mask = np.kron(draw.integers(0, 3, (6, 7), "uint8"), np.ones((8, 8), "uint8"))
        cv2.imwrite(str(folder / "data" / "masks" / f"{number:02d}.png"), mask)
        cv2.imwrite(str(folder / "data" / "images" / f"{number:02d}.png"), np.repeat(mask[..., None], 3, 2) * 100)
    cv2.imwrite(str(folder / "large.png"), draw.integers(0, 256, (700, 600, 3), "uint8"))
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    x = keras.layers.Dropout(0.2)(x)
    model = keras.Model(inputs, keras.layers.Conv2D(3, 1)(x))
    with_spec(model, classes=Classes(CLASSES)).save(folder / "model.keras")


# What commands leave ----------------------------------------------------------------------------------------------


def arrays_of(path: Path) -> dict:
    """All arrays of a .keras file, and of the training beside them, by name."""
    import h5py

    found = {}
    with zipfile.ZipFile(path) as archive:
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            file.visititems(lambda name, each: found.update({name: each[()]}) if hasattr(each, "shape") else None)
        if "training/arrays.npz" in archive.namelist():
            found["step"] = json.loads(archive.read("training/state.json"))["step"]
            found |= np.load(io.BytesIO(archive.read("training/arrays.npz")))
    return {name: np.asarray(value).tobytes() for name, value in found.items()}


def content(path: Path) -> object:
    """What two runs must have in common at a path; raises where there is none, or it is no whole file."""
    if path.is_dir():
        return {str(each.relative_to(path)): content(each) for each in sorted(path.rglob("*")) if each.is_file()}
    if (damage := damage_of(path)) is not None:
        raise ValueError(damage)
    if path.suffix == ".keras":
        return arrays_of(path)
    if path.suffix == ".pb" or path.name.startswith("variables"):
        return True  # it is whole; two exports number the names in graphs otherwise
    if path.suffix == ".tflite":
        return path.stat().st_size
    return path.read_bytes()


def damage_of(path: Path) -> str | None:
    """What is wrong with a file of a final name, or None."""
    try:
        data = path.read_bytes()
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                assert archive.testzip() is None, "checksum"
                json.loads(archive.read("config.json"))
            arrays_of(path)
        elif path.suffix == ".png":
            assert data.endswith(b"IEND\xaeB`\x82"), "no end"
        elif path.suffix == ".tflite":
            assert data[4:8] == b"TFL3", "no header"
        elif path.name == "saved_model.pb":
            from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

            assert SavedModel.FromString(data).meta_graphs, "no graph"
        elif path.suffix == ".json":
            json.loads(data)
        elif path.suffix == ".jsonl":
            assert not data or data.endswith(b"\n"), "half a line"  # none before the first record
            _ = [json.loads(line) for line in data.splitlines()]
        elif path.suffix == ".html":
            assert data.rstrip().endswith(b"</html>"), "no end"
        assert data or path.suffix == ".jsonl" or path.parent.name == "assets", "empty"
    except FileNotFoundError:
        return None  # it went as the process ended
    except Exception as error:
        return f"half-written {path.name}: {type(error).__name__} {error}"
    return None


def hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


class Server:
    """A process that serves a model by TensorFlow Serving's REST, which `segment` asks."""

    def __init__(self, root: Path):
        self.root = root
        self.process: subprocess.Popen | None = None
        self.url = ""

    def start(self) -> None:
        if not self.root.exists():
            from keras_deeplab import load
            from keras_deeplab.export.saved_model import export_saved_model
            from keras_deeplab.serving.config import write_config

            export_saved_model(load(self.root.parent / "in" / "model.keras"), self.root / "drilled" / "1")
            write_config(self.root)
        self.process, addresses = start_server(self.root)
        self.url = addresses["rest"]

    def kill(self) -> None:
        if self.process is not None:
            stop_server(self.process)
            self.process = None


# One try ----------------------------------------------------------------------------------------------------------


@dataclass
class Running:
    process: subprocess.Popen
    told: Path
    began: float = field(default_factory=time.monotonic)

    def end(self) -> tuple[int | None, str]:
        """Its status and what it told; None for one that hangs."""
        try:
            status = self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            status = None
        return status, self.told.read_text(errors="replace")


@dataclass
class Try:
    """One drill, once: a folder of its own, and what came of it."""

    job: str
    folder: Path
    rng: random.Random
    server: Server
    expected: object = None
    seconds: float = 0.0
    whole: Path = Path()
    skipped: str = ""
    struck: float | None = None
    back: str = ""
    strikes: int = 0
    exits: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def target(self) -> Path:
        return self.folder / JOBS[self.job][1]

    def check(self, fine: object, problem: str) -> None:
        if not fine:
            self.problems.append(problem)

    def start(self, *words: str, before: Callable[[], None] = lambda: None, **environment: str) -> Running:
        if self.job == "segment" and self.server.process is None:
            self.server.start()
        script, *rest = JOBS[self.job][0].format(server=self.server.url).split()
        told = self.folder / f"told{len(list(self.folder.glob('told*')))}.txt"

        def prepare() -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
            before()

        with open(told, "w") as log:
            command = [sys.executable, str(ROOT / "tools" / f"{script}.py"), *rest, *words]
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                preexec_fn=prepare,
            )
        return Running(process, told)

    def wait_until_struck(self, running: Running, least: float = 0.0, most: float = 1.02) -> bool:
        """Waits for a moment that is drawn from the time an undisturbed run takes; whether it still runs then."""
        moment = self.rng.uniform(least, most) * self.seconds
        while running.process.poll() is None and time.monotonic() - running.began < moment:
            time.sleep(0.002)
        self.struck = time.monotonic() - running.began
        return running.process.poll() is None

    def steps_run(self) -> bool:
        return (self.out / "run" / "last.keras").exists()

    def look(self, killed: bool = False) -> None:
        """What a struck process left must be whole; beside it only what the next one goes on from."""
        for path in self.out.rglob("*"):
            inside = path.relative_to(self.out)
            if path.is_file() and not hidden(inside):
                damage = damage_of(path)
                self.check(damage is None, damage or "")
            elif hidden(inside) and not killed:
                kept = inside.parts[-1] == ".lock" or any(part.endswith(".tiles") for part in inside.parts)
                self.check(kept, f"left over: {inside}")

    def failed_well(self, status: int | None, text: str, *names: str) -> None:
        """An error is told in a line that has one of the names."""
        line = next((line for line in reversed(text.splitlines()) if ": error: " in line or "failed: " in line), "")
        self.back = self.back or line.split("error: ")[-1].replace(str(self.folder), "")[:90]
        self.check(status == 1, f"status {status}")
        # TensorFlow logs the traceback of what it calls while it reads data; Python's own would stand last.
        last = text.rstrip().rpartition("\n")[2]
        self.check(line and (": error: " in last or "Traceback" not in text), f"no error in words: {text[-400:]}")
        self.check(not names or any(name in text for name in names), f"{' or '.join(names)} is not in: {line[-300:]}")

    def again(self, *words: str) -> None:
        """The same command once more, undisturbed: what it leaves is what it always leaves."""
        first_stands = (self.target / "1").is_dir()
        status, text = self.start(*words).end()
        if self.job == "export-saved-model" and status == 1 and self.target.exists() and "already holds" in text:
            status = 0
        self.check(status == 0, f"the second try ended with {status}: {text[-400:]}")
        if first_stands:
            self.drop_second_version()
        self.same()

    def drop_second_version(self) -> None:
        """An export that begins when another is done adds a version, which is what it is told to do."""
        shutil.rmtree(self.target / "2", ignore_errors=True)

    def same(self) -> None:
        try:
            self.check(content(self.target) == self.expected, "DIFFERENT from the undisturbed run")
        except Exception as error:
            self.problems.append(f"nothing to compare: {error}")


# Drills -----------------------------------------------------------------------------------------------------------


def signalled(one: Try, number: signal.Signals) -> None:
    one.back = "finished" if strike(one, number) == 0 else "went on"
    one.again()


def signalled_until_done(one: Try, number: signal.Signals) -> None:
    """Struck, started again, struck again, until it gets through before the next strike."""
    while strike(one, number, most=0.7) not in (0, None):
        if one.strikes % 25 == 0:
            print(f"{one.strikes} signals", flush=True)
    one.back = f"{one.strikes} strikes"
    one.same()


def strike(one: Try, number: signal.Signals, most: float = 1.02) -> int | None:
    """Starts the command and sends it a signal at a drawn moment; its status."""
    running = one.start()
    alive = one.wait_until_struck(running, most=most)
    steps = one.job != "train" or one.steps_run()
    sent = time.monotonic()
    running.process.send_signal(number)
    status, text = running.end()
    one.strikes += alive
    if alive and number != signal.SIGKILL and steps:
        one.exits.append(time.monotonic() - sent)
        one.check(one.exits[-1] <= PROMPT, f"{one.exits[-1]:.1f} s to the end")
    one.check(status is not None, "hangs")
    one.check(not alive or status != 0 or one.target.exists(), "status 0 without a result")
    uncaught = number == signal.SIGKILL
    # Python itself ends before the command is read, and at its own end.
    done = "\nlast: " in text if one.job == "train" else one.target.exists()
    outside = status == -number and ((one.struck or 0) < 1 or done)
    if status not in (0, None) and not uncaught and not outside:
        told = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
        one.check(told in text, f"no word of the interruption: {text[-300:]}")
        one.check("Traceback" not in text, text[text.find("Traceback") :][:3000])
        one.check(status == 128 + number, f"status {status}")
    one.check(not uncaught or status in (0, -number), f"status {status}: {text[-300:]}")
    one.look(killed=uncaught)
    return status


def full_disk(one: Try) -> None:
    """A disk of a drawn size below that of the results: then it has room."""
    files = [path for path in (one.whole, *one.whole.rglob("*")) if path.is_file()]
    pages = sum(-(-each.stat().st_size // 4096) for each in files)
    disk = ["mount", "-t", "tmpfs", "-o", f"size={4096 * one.rng.randint(1, max(1, pages))}", "tmpfs", str(one.out)]
    if subprocess.run(disk, capture_output=True, check=False).returncode != 0:
        one.skipped = "no disk can be mounted here"
        return
    try:
        running = one.start()
        status, text = running.end()
        one.struck = time.monotonic() - running.began
        if status == 0:
            one.back = "fitted"
            one.same()
        else:
            one.failed_well(status, text, "No space left", "space")
        one.look()
        subprocess.run(["mount", "-o", "remount,size=64m", str(one.out)], check=True)
        one.again()
    finally:
        subprocess.run(["umount", "-l", str(one.out)], check=True)


def closed_folder(one: Try) -> None:
    """Nothing may be written into the folder of results, from the start or from a drawn moment on."""
    late = one.job == "train" and one.rng.random() < 0.5
    place = one.out / "run" if late else one.out
    if not late:
        place.chmod(0o555)
    running = one.start(before=as_anyone if os.geteuid() == 0 else lambda: None)
    if late:
        while not one.steps_run() and running.process.poll() is None:
            time.sleep(0.005)
        place.chmod(0o555)
    one.struck = time.monotonic() - running.began
    status, text = running.end()
    place.chmod(0o755)
    if status == 0:
        one.back = "finished"
        one.same()
    else:
        one.failed_well(status, text, "ermission", "read-only")
    one.look()
    one.again()


def broken_data(one: Try, how: str) -> None:
    """An image or mask that goes, breaks, or holds what it can't, while the command runs; then it is as before."""
    part = (
        "images" if one.job == "predict" else "masks" if how == "stray label" else one.rng.choice(("images", "masks"))
    )
    victim = one.folder / "in" / "data" / part / f"{one.rng.randrange(24):02d}.png"
    good = victim.read_bytes()
    running = one.start()
    one.wait_until_struck(running, 0.3)
    if how == "removed":
        victim.unlink()
    elif how == "truncated":
        victim.write_bytes(good[: len(good) // 2])
    elif how == "replaced":
        victim.write_text("no image\n")
    else:
        from keras_deeplab._helpers.opencv import cv2

        cv2.imwrite(str(victim), np.full((48, 56), 77, np.uint8))
    status, text = running.end()
    listed = how == "removed" and one.job != "train"  # it may have gone before the folder was read
    if status == 0:
        one.back = "read before"
        if not listed:
            one.same()
    else:
        one.failed_well(status, text, victim.name, "77")
    one.look()
    victim.write_bytes(good)
    one.again()


def no_number(one: Try) -> None:
    """A learning rate that makes the loss no number; then a good one in the same folder."""
    running = one.start("--learning-rate", f"1e{one.rng.randrange(12, 30)}")
    status, text = running.end()
    one.struck = time.monotonic() - running.began
    one.failed_well(status, text, "nan", "inf", "finite")
    one.look()
    one.again("--restart")


def out_of_memory(one: Try) -> None:
    """Less memory than a huge crop, image or input takes; where TensorFlow's C++ ends by it, nothing can tell."""
    words, size = HUNGRY[one.job]
    huge = one.folder / "in" / "data" / "images" / "huge.png"
    if size is not None:
        from keras_deeplab._helpers.opencv import cv2

        cv2.imwrite(str(huge), np.zeros((size, size, 3), np.uint8))
    limit = one.rng.randrange(3 << 29, 3 << 30)
    running = one.start(*words, before=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)))
    status, text = running.end()
    one.struck = time.monotonic() - running.began
    if status in (-signal.SIGSEGV, -signal.SIGABRT):
        one.back = f"{signal.Signals(-status).name} in TensorFlow, {limit >> 20} MiB"
    else:
        one.failed_well(status, text, "not enough memory")
    one.look()
    huge.unlink(missing_ok=True)
    one.again(*(["--restart"] if one.job == "train" else []))


def server_killed(one: Try) -> None:
    """The server goes while images are sent to it; another one is there for the second try."""
    running = one.start("--timeout", "5")
    alive = one.wait_until_struck(running, 0.1, 0.9)
    one.server.kill()
    status, text = running.end()
    if status == 0:
        one.back = "finished"
        one.check(not alive or one.target.exists(), "status 0 without a result")
        one.same()
    else:
        one.failed_well(status, text, "127.0.0.1")
    one.look()
    one.again()


def jumping_clock(one: Try) -> None:
    """The clock goes to and fro, from before the command's first line to its end."""
    place = one.folder / "clock"
    place.mkdir()
    (place / "sitecustomize.py").write_text(JUMPING_CLOCK.format(seed=one.rng.randrange(1 << 30)))
    running = one.start(PYTHONPATH=str(place))
    status, text = running.end()
    one.struck = time.monotonic() - running.began
    one.check(status == 0, f"status {status}: {text[-400:]}")
    one.same()
    one.look()


def two_at_once(one: Try) -> None:
    first = one.start()
    one.struck = one.rng.uniform(0, 0.5) * one.seconds
    time.sleep(one.struck)
    ends = [running.end() for running in (first, one.start())]
    one.check(any(status == 0 for status, _ in ends), f"both failed: {ends}")
    for status, text in ends:
        if status != 0:
            one.failed_well(status, text, "another process", "already holds", "is there already")
    one.back = one.back or "both finished"
    one.look()
    if one.job == "export-saved-model" and all(status == 0 for status, _ in ends):
        one.check((one.target / "2").is_dir(), "both finished, and there is one version")
        one.drop_second_version()
    one.same()


def future_times(one: Try) -> None:
    """Killed; then every file is ten years younger than now."""
    running = one.start()
    one.wait_until_struck(running)
    running.process.kill()
    running.end()
    later = time.time() + 10 * 365 * 86400
    for path in one.folder.rglob("*"):
        os.utime(path, (later, later))
    one.back = "struck after steps" if one.steps_run() else ""
    one.again()


@dataclass(frozen=True)
class Drill:
    name: str
    job: str
    play: Callable[[Try], None]


SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
DRILLS = [
    *(Drill(f"{each.name}, {job}", job, partial(signalled, number=each)) for each in SIGNALS for job in JOBS),
    *(
        Drill(f"{each.name} again and again, train", "train", partial(signalled_until_done, number=each))
        for each in SIGNALS
    ),
    *(Drill(f"full disk, {job}", job, full_disk) for job in JOBS),
    *(Drill(f"closed folder, {job}", job, closed_folder) for job in JOBS),
    *(
        Drill(f"data {how}, {job}", job, partial(broken_data, how=how))
        for how in ("removed", "truncated", "replaced")
        for job in ("train", "evaluate", "predict")
    ),
    Drill("data stray label, train", "train", partial(broken_data, how="stray label")),
    *(Drill(f"out of memory, {job}", job, out_of_memory) for job in HUNGRY),
    Drill("loss is no number, train", "train", no_number),
    Drill("server killed, segment", "segment", server_killed),
    *(Drill(f"two at once, {job}", job, two_at_once) for job in JOBS),
    *(Drill(f"clock jumps, {job}", job, jumping_clock) for job in JOBS),
    *(Drill(f"times in the future, {job}", job, future_times) for job in ("train", "tiles")),
]


# Playing ----------------------------------------------------------------------------------------------------------


def play(drills: list[Drill], rounds: int, seed: int, place: Path, server: Server) -> dict[str, list[Try]]:
    """Plays each drill so many times and prints what failed, as it does."""
    make_inputs(place / "in")
    undisturbed: dict[str, Try] = {}
    done: dict[str, list[Try]] = {drill.name: [] for drill in drills}

    def prepared(job: str, name: str, rng: random.Random) -> Try:
        folder = place / name
        shutil.copytree(place / "in", folder / "in")
        (folder / "out").mkdir()
        return Try(job, folder, rng, server)

    for number in range(rounds):
        began = time.monotonic()
        for drill in drills:
            print(f"{drill.name} ...", flush=True)
            if drill.job not in undisturbed:
                whole = prepared(drill.job, f"whole-{drill.job}", random.Random(0))
                running = whole.start()
                status, text = running.end()
                whole.seconds = time.monotonic() - running.began
                if status != 0:
                    sys.exit(f"{drill.job} fails undisturbed: {text}")
                whole.expected = content(whole.target)
                whole.look()
                if whole.problems:
                    sys.exit(f"{drill.job} undisturbed: {whole.problems}")
                undisturbed[drill.job] = whole
                print(f"{drill.job} undisturbed: {whole.seconds:.1f} s", flush=True)
            whole = undisturbed[drill.job]
            one = prepared(drill.job, "try", random.Random(f"{seed} {number} {drill.name}"))
            one.expected, one.seconds, one.whole = whole.expected, whole.seconds, whole.target
            drill.play(one)
            if one.skipped:
                print(f"skipped {drill.name}: {one.skipped}", flush=True)
            else:
                done[drill.name].append(one)
            for problem in one.problems:
                print(f"FAILED {drill.name}, round {number}, at {one.struck or 0:.2f} s: {problem}", flush=True)
            shutil.rmtree(one.folder)
        print(f"round {number + 1} of {rounds}: {time.monotonic() - began:.0f} s", flush=True)
    return done


def table(done: dict[str, list[Try]]) -> str:
    lines = ["| drill | run | failed | signals | struck at, s | what came back | longest exit, s |"]
    lines.append("|---|--:|--:|--:|---|---|--:|")
    for name, tries in done.items():
        struck = [one.struck for one in tries if one.struck is not None]
        moments = f"{min(struck):.1f} to {max(struck):.1f}" if struck else ""
        exits = [each for one in tries for each in one.exits]
        signals = sum(one.strikes for one in tries) or ""
        back = "; ".join(dict.fromkeys(one.back for one in tries if one.back)).replace("|", "/")[:160]
        failed = sum(bool(one.problems) for one in tries)
        worst = f"{max(exits):.2f}" if exits else ""
        lines.append(f"| {name} | {len(tries)} | {failed} | {signals} | {moments} | {back} | {worst} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="how often each drill is played")
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="drills with this in their name; may be given again"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", choices=("tensorflow", "jax"), default="tensorflow", help="Keras's, of commands")
    options = parser.parse_args()
    os.environ["KERAS_BACKEND"] = options.backend
    drills = [each for each in DRILLS if not options.only or any(name in each.name for name in options.only)]
    if not drills:
        parser.error(f"--only must be in one of {', '.join(each.name for each in DRILLS)}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        server = Server(Path(place) / "models")
        try:
            done = play(drills, options.rounds, options.seed, Path(place), server)
        finally:
            server.kill()
    tries = [one for each in done.values() for one in each]
    failed = sum(bool(one.problems) for one in tries)
    exits = [each for one in tries for each in one.exits]
    print("\n" + table(done) + "\n")
    print(
        f"{len(tries)} drills, {failed} failed, {time.monotonic() - began:.0f} s, seed {options.seed}; longest from a "
        f"signal to the end of the process {max(exits, default=0):.2f} s ({len(exits)} measured)"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
