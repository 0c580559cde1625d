"""Ours beside its peers, the same network with the same values, in interleaved rounds of fresh processes.

    benchmarks/run                       everything: some hours
    benchmarks/run train infer           some parts: train, infer, int8, throughput, folder, evaluate, pipeline,
                                         startup, growth
    benchmarks/run int8 --weights FILE.pth --classes 7 --data FOLDER    trained weights and photographs
    benchmarks/run infer --backbones mobilenet_v2 --sizes 256 --rounds 3
    benchmarks/run --page                docs/benchmarks.md again, from the results that are kept

Both sides are first compared: logits of one image, then labels of every file. A round runs each cell once, in an order
of its own, in a fresh process with `--threads` threads: untimed calls, then timed ones, of which the median counts.
Each setting's rounds are kept in results.jsonl, and the page has, of the latest of each setting, the medians over
rounds, the ratios to the best peer of the same round, and the memory of the process at most.
"""

import argparse
import datetime
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
PARTS = ("train", "infer", "int8", "throughput", "folder", "evaluate", "pipeline", "startup", "growth")
# Size, classes, stride of the growth.
GROWTH = [(257, 21, 16), (513, 21, 16), (1025, 21, 16), (513, 150, 16), (513, 1000, 16), (513, 21, 8)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--backbones", default="mobilenet_v2,resnet50")
    parser.add_argument("--sizes", default="256,512", help="multiples of 16, which the peer takes alone")
    parser.add_argument("--batch", type=int, default=4, help="of a training step and the pipeline")
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--stride", type=int, default=16)
    parser.add_argument("--weights", help="a .pth file of the peer's network, instead of weights from a seed")
    parser.add_argument("--data", help="a data set for pictures of inference, instead of smooth patches with noise")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=4.0, help="of timed calls in a process")
    parser.add_argument("--without", default="", help="names of cells to leave out, such as train/torch/compiled")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        _run_cell(**json.loads(arguments.cell), seconds=arguments.seconds)
        return
    from page import RESULTS, write

    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    for part in [] if arguments.page else arguments.parts or PARTS:
        for setting in _settings(part, arguments):
            result = _measured(part, setting, arguments)
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
            write()
    print(write())


def _settings(part: str, arguments: argparse.Namespace) -> Iterator[dict]:
    """The settings that a part is measured in."""
    shared = {"batch": arguments.batch, "threads": arguments.threads}
    shared |= {"weights": arguments.weights, "photographs": arguments.data}
    if part == "growth":
        for size, classes, stride in GROWTH:
            yield {**shared, "backbone": "mobilenet_v2", "size": size, "classes": classes, "stride": stride}
        return
    backbones, sizes = arguments.backbones.split(","), [int(size) for size in arguments.sizes.split(",")]
    if part in ("startup", "pipeline"):
        backbones = backbones[:1]
    if part == "startup":
        sizes = sizes[:1]
    for backbone in backbones:
        for size in sizes:
            if size % 16:
                raise SystemExit(f"the peer's network takes multiples of 16 alone; received {size}")
            own = {"backbone": backbone, "size": size, "classes": arguments.classes, "stride": arguments.stride}
            yield {**shared, **own}


def _measured(part: str, setting: dict, arguments: argparse.Namespace) -> dict:
    from cells import CELLS

    print(part, setting, flush=True)
    growth = part == "growth"
    names = ["infer/ours/litert", "int8/ours/litert"] if growth else [n for n in CELLS if n.startswith(f"{part}/")]
    names = [name for name in names if name not in arguments.without.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        compared = not growth and part not in ("startup", "evaluate", "pipeline")
        told = _prepared("int8" if growth else part, setting, folder, peers=compared)
        loads = [os.getloadavg()[0]]
        rounds = []
        for _ in range(arguments.rounds):
            order = random.sample(names, len(names))
            rounds.append({n: _cell(n, {**setting, "folder": folder}, arguments.seconds) for n in order})
            loads.append(os.getloadavg()[0])
    # The files' names, and not where they lie on this machine.
    kept = {name: Path(value).name if isinstance(value, str) else value for name, value in setting.items()}
    result = {"date": str(datetime.date.today()), "part": part, "setting": kept, "told": told, "rounds": rounds}
    return {**result, "load": [min(loads), max(loads)]}


# Rounds -----------------------------------------------------------------------------------------------------------


def _cell(name: str, setting: dict, seconds: float) -> tuple[float, float]:
    """(seconds of a call, MiB of the process at most) of one cell in a process of its own."""
    told = json.dumps({"name": name, "setting": setting})
    threads = str(setting["threads"])
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": threads,
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, str(HERE / "main.py"), "--cell", told, "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr[-2000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    return round(result["seconds"], 6), round(result["mebibytes"], 1)


def _run_cell(name: str, setting: dict, seconds: float) -> None:
    import resource
    import statistics

    from cells import CELLS, Seconds

    call = CELLS[name](**setting)
    for _ in range(2):
        call()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        began = time.perf_counter()
        result = call()
        # A process that is started to time something in it says how long that took.
        times.append(result if isinstance(result, Seconds) else time.perf_counter() - began)
    mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": statistics.median(times), "mebibytes": mebibytes}))


# What is compared before anything is timed --------------------------------------------------------------------------


def _prepared(part: str, setting: dict, folder: str, peers: bool = True) -> str:
    """Writes the files of both sides and compares them, in a process of its own; a line on it."""
    told = json.dumps({"part": part, "setting": setting, "folder": folder, "peers": peers})
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, str(HERE / "prepare.py"), told], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise RuntimeError(f"preparing failed: {done.stderr[-3000:]}")
    return done.stdout.splitlines()[-1]


if __name__ == "__main__":
    main()
