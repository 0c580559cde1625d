"""A folder of 1,000 entries, 50 of them bad: `python benchmarks/folder_of_many.py [--count 1000] [--each 5]`.

Makes the folder, runs `keras-deeplab predict` on it and checks that every good file has its answer and every bad one a
reason with its name. Prints what was answered, the exit status, the seconds and the most memory that the command had.
The model is one convolution, so that the seconds are those of reading and writing.
"""

import argparse
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# Of Linux: by these two root reads files that are closed to it, and this takes them from a program that is started.
DAC_OVERRIDE, DAC_READ_SEARCH, PR_CAPBSET_DROP = 1, 2, 24


def png(width, height, pixels):
    def chunk(kind, contents):
        checksum = struct.pack(">I", zlib.crc32(contents, zlib.crc32(kind)))
        return struct.pack(">I", len(contents)) + kind + contents + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def unreadable(path, good):
    path.write_bytes(good)
    path.chmod(0)


BAD = {
    "empty.jpg": lambda path, good: path.write_bytes(b""),
    "text.jpg": lambda path, good: path.write_text("not an image\n" * 100),
    "truncated.jpg": lambda path, good: path.write_bytes(good[: len(good) // 2]),
    "truncated.png": lambda path, good: path.write_bytes(png(500, 375, bytes(375 * 1501))[:600]),
    "30000x30000.png": lambda path, good: path.write_bytes(png(30000, 30000, bytes(100000))),
    "pipe.png": lambda path, good: os.mkfifo(path),
    "loop.jpg": lambda path, good: path.symlink_to(path.name),
    "unreadable.jpg": unreadable,
    "device.jpg": lambda path, good: path.symlink_to("/dev/zero"),
    "folder.jpg": lambda path, good: path.mkdir(),
}


def make_folder(folder, count, each):
    """{names of bad files}, in a folder with as many good ones that it has `count` entries."""
    import cv2

    random, good = np.random.default_rng(0), b""
    for number in range(count - each * len(BAD)):
        small = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        image = cv2.resize(small, (500, 375), interpolation=cv2.INTER_CUBIC)
        good = cv2.imencode(".jpg", image)[1].tobytes()
        (folder / f"{number:04d}.jpg").write_bytes(good)
    bad = set()
    for name, make in BAD.items():
        for number in range(each):
            path = folder / f"{number:02d}_{name}"
            make(path, good)
            bad.add(path.name)
    return bad


def as_anyone():
    import ctypes

    for capability in (DAC_OVERRIDE, DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def make_model(path):
    import keras

    from keras_deeplab.specs import Classes
    from keras_deeplab.specs.model import with_spec

    keras.utils.set_random_seed(0)
    images = keras.Input((None, None, 3))
    model = keras.Model(images, keras.layers.Conv2D(4, 1)(images))
    with_spec(model, classes=Classes(("background", "one", "two", "three"))).save(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--each", type=int, default=5, help="bad files of each of ten kinds")
    parser.add_argument("--write", default="labels,overlay,polygons,coco,areas")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as where:
        where = Path(where)
        folder, out = where / "in", where / "out"
        for path in (folder, out):
            path.mkdir()
        bad = make_folder(folder, options.count, options.each)
        make_model(where / "model.keras")
        command = [sys.executable, str(ROOT / "tools" / "predict.py"), str(where / "model.keras"), str(folder)]
        command += ["--output-dir", str(out), "--write", options.write]
        started = time.monotonic()
        settings = {"preexec_fn": as_anyone} if os.geteuid() == 0 else {}
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=3600, **settings)
        seconds = time.monotonic() - started
        reasons = [line for line in done.stdout.splitlines() if line.startswith("failed: ")]
        named = {name for name in bad if sum(f"/{name}" in line for line in reasons) == 1}
        answers = {path.stem for path in out.glob("*.png") if not path.stem.endswith("_overlay")}
        wanted = {path.stem for path in folder.iterdir() if path.name not in bad}
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        leftovers = [path.name for path in out.iterdir() if path.name.startswith(".")]
        if not reasons:
            print(done.stdout[-2000:], done.stderr[-2000:])
        for name in BAD:
            told = next((line for line in reasons if name in line), f"{name}: no reason is told")
            print(told.replace(str(where), ""))
        print(f"{len(answers & wanted)} of {len(wanted)} answered, {len(named)} of {len(bad)} bad files named")
        print(f"exit status {done.returncode}, {seconds:.1f} s, {peak:.2f} GiB at most, {len(leftovers)} half files")
        fine = (
            answers == wanted and named == bad and done.returncode == 1 and len(reasons) == len(bad) and not leftovers
        )
        return 0 if fine and peak <= 2 else 1


if __name__ == "__main__":
    sys.exit(main())
