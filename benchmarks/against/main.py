"""Ours beside its peers, the same network with the same values, in interleaved rounds of fresh processes.

    benchmarks/run                       everything: an hour or two
    benchmarks/run train infer           some parts: train, infer, int8, growth
    benchmarks/run infer --backbones mobilenet_v2 --sizes 257 --rounds 3

Both sides are first compared: logits of one image, then labels of every file. A round runs each cell once, in an order
of its own, in a fresh process with `--threads` threads: untimed calls, then timed ones, of which the median counts. The
table has the median over rounds, the lowest and highest ratio to the peer of the same round, and the memory of the
process at most. `--markdown FILE` writes the tables to a file.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
PARTS = ("train", "infer", "int8", "growth")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--backbones", default="mobilenet_v2,resnet50")
    parser.add_argument("--sizes", default="256,512", help="multiples of 16, which the peer takes alone")
    parser.add_argument("--batch", type=int, default=4, help="of a training step")
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--stride", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=4.0, help="of timed calls in a process")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        _run_cell(**json.loads(arguments.cell), seconds=arguments.seconds)
        return
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    lines = [f"Load at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {arguments.threads} threads.", ""]
    for part in arguments.parts or PARTS:
        for line in _growth(arguments) if part == "growth" else _part(part, arguments):
            print(line, flush=True)
            lines.append(line)
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(lines) + "\n", "utf-8")


def _part(part: str, arguments: argparse.Namespace) -> Iterator[str]:
    from cells import CELLS

    for backbone in arguments.backbones.split(","):
        for size in map(int, arguments.sizes.split(",")):
            if size % 16:
                raise SystemExit(f"the peer's network takes multiples of 16 alone; received {size}")
            setting = {
                **{"backbone": backbone, "size": size, "batch": arguments.batch, "classes": arguments.classes},
                **{"stride": arguments.stride, "threads": arguments.threads},
            }
            with tempfile.TemporaryDirectory() as folder:
                told = f"{size}x{size}, {arguments.classes} classes, stride {arguments.stride}"
                yield f"### {part}: v3+ {backbone}, {told}"
                yield ""
                told = _prepared(part, setting, folder)
                names = [name for name in CELLS if name.startswith(f"{part}/")]
                rounds = _rounds(names, {**setting, "folder": folder}, arguments)
                yield told
                yield ""
                yield from _table(names, rounds)
                yield ""


def _growth(arguments: argparse.Namespace) -> Iterator[str]:
    """Milliseconds of our files in LiteRT by pixels, classes and stride, and what they grow like."""
    yield "### growth: v3+ mobilenet_v2, LiteRT"
    yield ""
    yield "| size | classes | stride | float32 ms | MiB | int8 ms | MiB |"
    yield "|---|---|---|---|---|---|---|"
    points = []
    for size, classes, stride in [
        (257, 21, 16),
        (513, 21, 16),
        (1025, 21, 16),
        (513, 150, 16),
        (513, 1000, 16),
        (513, 21, 8),
    ]:
        setting = {"backbone": "mobilenet_v2", "size": size, "batch": 1, "classes": classes, "stride": stride}
        setting["threads"] = arguments.threads
        with tempfile.TemporaryDirectory() as folder:
            _prepared("int8", setting, folder, peers=False)
            names = ["infer/ours/litert", "int8/ours/litert"]
            rounds = _rounds(names, {**setting, "folder": folder}, arguments)
        cells = [
            (statistics.median(each[name][0] for each in rounds), max(each[name][1] for each in rounds))
            for name in names
        ]
        points.append((size, classes, stride, cells[0][0], cells[1][0]))
        told = " | ".join(f"{1000 * seconds:.0f} | {memory:.0f}" for seconds, memory in cells)
        yield f"| {size} | {classes} | {stride} | {told} |"
    yield ""
    for column, name in ((3, "float32"), (4, "int8")):
        few = [point for point in points if point[1:3] == (21, 16)]
        yield f"{name}: as the {_exponent([(p[0] ** 2, p[column]) for p in few]):.2f}th power of the pixels."


def _exponent(points: list[tuple[float, float]]) -> float:
    """The slope of a line through the logarithms of (x, y)."""
    import numpy as np

    return float(np.polyfit(*np.log(np.array(points)).T, 1)[0])


# Rounds -----------------------------------------------------------------------------------------------------------


def _rounds(names: list[str], setting: dict, arguments: argparse.Namespace) -> list[dict[str, tuple[float, float]]]:
    rounds = []
    for _ in range(arguments.rounds):
        order = random.sample(names, len(names))
        rounds.append({name: _cell(name, setting, arguments.seconds) for name in order})
    return rounds


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
    return result["seconds"], result["mebibytes"]


def _run_cell(name: str, setting: dict, seconds: float) -> None:
    import resource

    from cells import CELLS

    call = CELLS[name](**setting)
    for _ in range(3):
        call()
    times: list[float] = []
    while len(times) < 5 or sum(times) < seconds:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": statistics.median(times), "mebibytes": mebibytes}))


def _table(names: list[str], rounds: list[dict[str, tuple[float, float]]]) -> Iterator[str]:
    """A row a cell; ratios are to the peer with the lowest median, of the same round."""
    median = {name: statistics.median(each[name][0] for each in rounds) for name in names}
    peers = [name for name in names if "/ours/" not in name]
    best = min(peers, key=median.__getitem__)
    yield f"| | ms | ratio to {best.partition('/')[2]} | lowest to highest | MiB |"
    yield "|---|---|---|---|---|"
    for name in sorted(names, key=median.__getitem__):
        ratios = [each[name][0] / each[best][0] for each in rounds]
        memory = max(each[name][1] for each in rounds)
        yield (
            f"| {name.partition('/')[2]} | {1000 * median[name]:.1f} | {statistics.median(ratios):.2f} | "
            f"{min(ratios):.2f} to {max(ratios):.2f} | {memory:.0f} |"
        )


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
