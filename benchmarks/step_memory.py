"""One and the same training step in process after process, under several ways to get memory from the system.

    python benchmarks/step_memory.py [--size 257] [--batch 8] [--rounds 4] [--only plain "kept by malloc"]

Each round starts a process of every way, one behind another, takes some steps in it, and prints the median step by the
clock and by the processor (in the program, in the system), and how many pages the system gave and took back in a step
(minor faults). A step whose arrays go back to the system at its end gets them anew, page by page, in the next.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

# What a process begins with: words before Python, and its environment (glibc's mallopt and tunables).
_KEPT = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 36), "MALLOC_TOP_PAD_": "67108864"}
WAYS = {
    "plain": ([], {}),
    "addresses not drawn": (["setarch", "-R"], {}),
    "kept by malloc": ([], _KEPT),
    "mapped by malloc": ([], {"MALLOC_MMAP_THRESHOLD_": "1048576"}),
    "large pages": ([], {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}),
    "kept, large pages": ([], {**_KEPT, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--size", type=int, default=257)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options)
        return
    found: dict[str, list[dict[str, float]]] = {way: [] for way in options.only}
    print("| way | round | ms a step | in the program | in the system | pages | GiB | load |")
    print("|---|---|---|---|---|---|---|---|")
    for number in range(options.rounds):
        for way in options.only:
            words, environment = WAYS[way]
            own = [str(Path(__file__).resolve()), "--one"]
            for name in ("backbone", "size", "batch", "steps"):
                own += [f"--{name}", str(getattr(options, name))]
            done = subprocess.run(
                [*words, sys.executable, *own],
                env=os.environ | environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                sys.exit(done.stderr[-2000:])
            row = json.loads(done.stdout.splitlines()[-1])
            found[way].append(row)
            print(f"| {way} | {number + 1} | {line(row)} | {os.getloadavg()[0]:.1f} |", flush=True)
    print("\n| way | ms a step | in the program | in the system | pages | GiB | fastest and slowest |")
    print("|---|---|---|---|---|---|---|")
    for way, rows in found.items():
        middle = {name: float(np.median([row[name] for row in rows])) for name in rows[0]}
        walls = [row["wall"] for row in rows]
        print(f"| {way} | {line(middle)} | {min(walls):.0f} to {max(walls):.0f} |")


def line(row: dict[str, float]) -> str:
    return (
        f"{row['wall']:.0f} | {row['user']:.0f} | {row['system']:.0f} | {row['faults']:,.0f} | "
        f"{row['peak'] / 2**30:.2f}"
    )


def one(options: argparse.Namespace) -> None:
    """The steps of this process, as a line of JSON."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf

    import keras_deeplab
    from keras_deeplab.training.coarse import end_before_resize, resizes
    from keras_deeplab.training.losses import AtLabelSize, SparseCategoricalCrossentropy

    keras.utils.set_random_seed(0)
    model = keras_deeplab.DeepLabV3Plus(options.backbone, num_classes=21)
    loss = AtLabelSize(SparseCategoricalCrossentropy(), resizes(model)[0])
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, jit_compile=False)
    end_before_resize(model)
    draw = np.random.default_rng(0)
    shape = (options.batch, options.size, options.size)
    data = draw.integers(0, 256, (*shape, 3), "uint8"), draw.integers(0, 21, shape, "uint8")
    step = iter(tf.data.Dataset.from_tensors(data).repeat())
    model.make_train_function()
    rows = []
    for _ in range(3 + options.steps):
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        model.train_function(step)
        after = resource.getrusage(resource.RUSAGE_SELF)
        rows.append(
            {
                "wall": 1000 * (time.perf_counter() - began),
                "user": 1000 * (after.ru_utime - before.ru_utime),
                "system": 1000 * (after.ru_stime - before.ru_stime),
                "faults": after.ru_minflt - before.ru_minflt,
            }
        )
    told = {name: float(np.median([row[name] for row in rows[3:]])) for name in rows[0]}
    print(json.dumps(told | {"peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


if __name__ == "__main__":
    main()
