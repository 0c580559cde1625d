"""A folder of 1,000 images, 50 of them bad, through `keras-deeplab beam`: answers, reasons, exit status, memory.

    python benchmarks/beam_folder.py WORK_FOLDER [-- BEAM_OPTION ...]

Bad are files that are empty, text, cut short, or declare 30000x30000 pixels, and what is no file: pipes, links that
lead to themselves or to nothing, folders. The model is a small one with random weights, made here too. The command runs
twice: the second finds all finished.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
BAD = (
    "empty",
    "text",
    "cut short",
    "30000x30000",
    "pipe",
    "loop",
    "link to nothing",
    "folder",
    "unreadable",
    "checksum",
)


def make_images(folder, count=1000, bad=50, seed=0):
    """A folder of photograph-like images, `bad` of them of the kinds `BAD` in turn; {name: kind} of those."""
    from keras_deeplab._helpers.opencv import cv2

    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    kinds = {f"{number * (count // bad):04d}.jpg": BAD[number % len(BAD)] for number in range(bad)}
    data = b""
    for number in range(count):
        path = folder / f"{number:04d}.jpg"
        if path.name in kinds:
            _spoil(path, kinds[path.name], data)
            continue
        height, width = rng.integers(240, 500, 2)
        image = cv2.resize(rng.integers(0, 256, (12, 16, 3)).astype(np.uint8), (int(width), int(height)))
        data = cv2.imencode(".jpg", image)[1].tobytes()
        path.write_bytes(data)
    return kinds


def _spoil(path, kind, data):
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is no image\n" * 100)
    elif kind == "cut short":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "30000x30000":
        path.write_bytes(_png(30000, 30000))
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "link to nothing":
        path.symlink_to("nothing.jpg")
    elif kind == "folder":
        path.mkdir()
    elif kind == "checksum":
        image = bytearray(_png(8, 8))
        image[-20] ^= 1
        path.write_bytes(bytes(image))
    elif os.geteuid():
        path.write_bytes(data)
        path.chmod(0)
    else:  # root reads everything; a device in the place of a file is what it can't
        path.symlink_to("/dev/full")


def _png(width, height):
    """A PNG file of so many pixels by its header, with the pixels of one row at most."""

    def chunk(kind, contents):
        body = kind + contents
        return len(contents).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    rows = zlib.compress(bytes((3 * width + 1) * min(height, 1)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def make_model(path):
    """The published network of MobileNetV2 at half width, with random weights and VOC's 21 classes."""
    import keras

    import keras_deeplab

    keras.utils.set_random_seed(0)
    keras_deeplab.build("slim_deeplabv3_mobilenet_v2_dm05").save(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work_folder", type=Path)
    parser.add_argument("beam", nargs="*", help="what follows -- is handed on to Beam")
    parser.add_argument("--count", type=int, default=1000)
    arguments = parser.parse_args()
    work = arguments.work_folder
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    kinds = make_images(work / "images", arguments.count, arguments.count // 20)
    make_model(work / "model.keras")
    print(f"{arguments.count} images, {len(kinds)} of them bad: {', '.join(BAD)}")
    command = [sys.executable, "-c", "import sys; from keras_deeplab.cli import main; sys.exit(main())", "beam"]
    command += [str(work / "model.keras"), str(work / "images"), "--output-dir", str(work / "run")]
    command += ["--", *arguments.beam] if arguments.beam else []
    for title in ("first", "again"):
        started = time.perf_counter()
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        print(f"{title}: exit status {status}, {seconds:.0f} s, at most {peak:.2f} GiB (the greatest of both runs)")
    rows = (work / "run/predictions.jsonl").read_text().splitlines()
    failed = {each["name"]: each["reason"] for each in map(json.loads, (work / "run/failures.jsonl").open())}
    print(f"{len(rows)} answers, {len(failed)} reasons; the bad ones and no others: {failed.keys() == kinds.keys()}")
    told = {kind: failed.get(name, "NOT TOLD") for name, kind in reversed(kinds.items())}
    for kind, reason in told.items():
        print(f"  {kind}: {reason.replace(str(work), '...')[:150]}")


if __name__ == "__main__":
    main()
