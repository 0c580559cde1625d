"""Sends a server good and malformed requests at once: what comes back, how fast, and what it does to the server.

    python benchmarks/serving_load.py savedmodels/NAME/1 --images FOLDER

starts a server process for each protocol, has a client of 16 threads send 1,000 requests, of which 5 % are malformed,
and prints a table: good requests with the right mask (that of TensorFlow in this process), malformed ones with an error
that says what is wrong, times, and the server's resident memory after the first 200 requests and at the end. The exit
status is 1 if anything was wrong.

The server is tests/serving_server.py (gRPC by TensorFlow Serving's stubs, and its REST). With --kserve PYTHON, an
interpreter that has kserve and tensorflow, the REST rows are KServe's.
"""

import argparse
import collections
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from keras_deeplab.serving import Client
from keras_deeplab.serving.config import write_config

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# What the error of a malformed request must say.
COMPLAINTS = {
    "truncated JPEG": r"cut short: the JPEG file ends after \d+ bytes",
    "0 bytes": r"is empty: it has 0 bytes",
    "text": r"is no JPEG, PNG or BMP file",
    "30,000-pixel header": r"declares 30000x30000 pixels",
    "wrong dtype": r"float|0\.5",
}
# Small, but an image: it has a right answer.
ONE_PIXEL = "1-pixel PNG"


def start_server(root, kserve=None):
    """A process that serves the models of a folder; returns it with its addresses by protocol."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if kserve is None:
        command = [sys.executable, str(ROOT / "tests" / "serving_server.py"), str(root)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        ports = json.loads(process.stdout.readline())
        addresses = {"rest": f"http://127.0.0.1:{ports['rest']}"}
        if ports["grpc"]:
            addresses["grpc"] = f"grpc://127.0.0.1:{ports['grpc']}"
        return process, addresses
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [kserve, str(ROOT / "benchmarks" / "kserve_server.py"), str(root), str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, **quiet)
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process, {"rest": f"http://127.0.0.1:{port}"}
        if process.poll() is not None:
            break
        time.sleep(0.1)
    process.kill()
    raise OSError(f"KServe did not start: {' '.join(command)}")


def stop_server(process):
    """Ends a process of `start_server`."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def resident_bytes(pid):
    """A process's resident memory, or None where the system doesn't tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def photographs(folder, count, size, seed):
    """`count` images (H, W, 3) from a folder, or drawn without one, scaled to sides of up to `size`."""
    random = np.random.default_rng(seed)
    if folder is None:
        noise = [cv2.resize(random.integers(0, 256, (5, 7, 3), np.uint8), (size, size)) for _ in range(count)]
    else:
        files = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        noise = [cv2.imread(str(files[index]))[..., ::-1] for index in random.choice(len(files), count)]
    images = []
    for image in noise:
        height, width = image.shape[:2]
        scale = random.uniform(0.6, 1.0) * size / max(height, width)
        extent = (max(1, round(width * scale)), max(1, round(height * random.uniform(0.7, 1.0) * scale)))
        images.append(np.ascontiguousarray(cv2.resize(image, extent, interpolation=cv2.INTER_AREA)))
    return images


def file_bytes(image, suffix):
    """An image (H, W, 3) to the bytes of a file."""
    return cv2.imencode(suffix, image[..., ::-1])[1].tobytes()


def huge_png():
    """A PNG of 45 bytes whose header declares 30,000 x 30,000 pixels."""

    def chunk(kind, contents):
        return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", zlib.crc32(kind + contents))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


def make_requests(images, labels_of, count, share, seed):
    """A list of (kind, call of a client, expected result or None), of which `share` are malformed, in random order.

    Args:
        images: list of uint8 arrays (H, W, 3).
        labels_of: maps such an array, or the bytes of a file, to the right labels.
        count: how many.
        share: of malformed ones.
        seed: of the order.
    """
    random = np.random.default_rng(seed)
    jpegs, pngs = [file_bytes(image, ".jpg") for image in images], [file_bytes(image, ".png") for image in images]
    right = [labels_of(image) for image in images]
    right_jpeg = [labels_of(data) for data in jpegs]
    pixel = file_bytes(images[0][:1, :1], ".png")
    right_pixel = labels_of(pixel)

    def good(kind, index):
        other = (index + 1) % len(images)
        if kind == "array":
            return lambda client: client.segment(images[index]), right[index]
        if kind == "JPEG":
            return lambda client: client.segment(jpegs[index]), right_jpeg[index]
        if kind == "PNG":
            return lambda client: client.segment(pngs[index]), right[index]
        if kind == "batch":
            several = [pngs[index], images[other], jpegs[other]]
            return lambda client: client.segment_batch(several), [right[index], right[other], right_jpeg[other]]
        return lambda client: class_ids(client, jpegs[index]), right_jpeg[index]

    def class_ids(client, data):
        return client.predict({"image_bytes": [data]}, "encoded_labels")["labels"][0]

    def malformed(kind, index):
        if kind == ONE_PIXEL:
            return lambda client: client.segment(pixel), right_pixel
        if kind == "wrong dtype":
            values = np.full((1, 8, 8, 3), 0.5, np.float32)
            return lambda client: client.predict({"images": values}), None
        cut = jpegs[index][: random.integers(4, len(jpegs[index]) - 2)]
        data = {"truncated JPEG": cut, "0 bytes": b"", "text": b"<html>502 Bad Gateway</html>"}.get(kind, huge_png())
        return lambda client: client.segment(data), None

    wrong = [*COMPLAINTS, ONE_PIXEL]
    bad = round(count * share)
    kinds = [(malformed, wrong[number % len(wrong)]) for number in range(bad)]
    names = ["array", "JPEG", "PNG", "batch", "class ids"]
    kinds += [(good, names[number % len(names)]) for number in range(count - bad)]
    random.shuffle(kinds)
    return [(kind, *make(kind, int(random.integers(len(images))))) for make, kind in kinds]


def same(result, expected):
    """Whether labels are the expected ones: all but one pixel in ten thousand, of the same shape."""
    if isinstance(expected, list):
        return len(result) == len(expected) and all(same(*pair) for pair in zip(result, expected, strict=True))
    result = np.asarray(result)
    return result.shape == expected.shape and np.count_nonzero(result != expected) <= expected.size // 10_000


def load(address, model, requests, concurrency, pid, **settings):
    """Sends the requests with `concurrency` threads and one client; returns figures as a dict.

    "wrong" lists what went wrong, as text; it is empty if all is well.
    """
    times, wrong, kinds = [], [], collections.Counter()
    memory, done, lock = {}, 0, threading.Lock()

    def send(request):
        nonlocal done
        kind, call, expected = request
        begin = time.perf_counter()
        try:
            result, error = call(client), None
        except (ValueError, OSError) as raised:
            result, error = None, raised
        seconds = time.perf_counter() - begin
        if expected is None:
            fault = None if isinstance(error, ValueError) and re.search(COMPLAINTS[kind], str(error)) else "not refused"
        elif error is not None:
            fault = "failed"
        else:
            fault = None if same(result, expected) else "another mask"
        with lock:
            done += 1
            times.append(seconds)
            if fault:
                wrong.append(f"{kind}: {fault}: {error!r}")
            else:
                kinds[kind] += 1
            if done == 200:
                memory["200"] = resident_bytes(pid)

    with Client(address, model, timeout=120.0, **settings) as client:
        memory["start"] = resident_bytes(pid)
        begin = time.perf_counter()
        with ThreadPoolExecutor(concurrency) as pool:
            list(pool.map(send, requests))
        seconds = time.perf_counter() - begin
        memory["end"] = resident_bytes(pid)
        if not any(entry["state"] == "AVAILABLE" for entry in client.status()):
            wrong.append("the server is no longer ready")
    refused = sum(kinds[kind] for kind in COMPLAINTS)
    return {
        "requests": len(requests),
        "answered": sum(kinds.values()) - refused,
        "refused": refused,
        "kinds": dict(kinds),
        "wrong": wrong,
        "seconds": seconds,
        "median": float(np.median(times)),
        "p95": float(np.percentile(times, 95)),
        "memory": memory,
    }


def local_labels(saved_model):
    """The function from an image or the bytes of a file to labels, as TensorFlow computes them in this process."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(saved_model))
    arrays, files = loaded.signatures["serving_default"], loaded.signatures["encoded"]

    def labels_of(image, loaded=loaded):
        if isinstance(image, bytes):
            return cv2.imdecode(
                np.frombuffer(files(image_bytes=tf.constant([image]))["labels_png_bytes"].numpy()[0], np.uint8),
                cv2.IMREAD_UNCHANGED,
            )
        return arrays(images=tf.constant(image[None]))["labels"].numpy()[0]

    return labels_of


def main():
    """Runs it; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("saved_model", type=Path, help="folder of one version of a SavedModel")
    parser.add_argument("--images", help="folder of photographs; without it some are drawn")
    parser.add_argument("--size", type=int, default=257, help="longest side of the images")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--malformed", type=float, default=0.05, help="share of the requests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kserve", metavar="PYTHON", help="serve REST with KServe, by this interpreter")
    options = parser.parse_args()
    images = photographs(options.images, 24, options.size, options.seed)
    requests = make_requests(
        images, local_labels(options.saved_model), options.requests, options.malformed, options.seed
    )
    failed = False
    titles = "protocol|answered rightly|refused rightly|wrong|s|requests/s|median ms|95 % ms|MiB, 200|MiB, end"
    print(f"| {titles.replace('|', ' | ')} |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(options.saved_model, Path(folder) / "model" / "1")
        write_config(folder)
        for protocol in ("rest",) if options.kserve else ("grpc", "rest"):
            process, addresses = start_server(folder, options.kserve)
            try:
                figures = load(addresses[protocol], "model", requests, options.concurrency, process.pid)
                alive = process.poll() is None
            finally:
                stop_server(process)
            failed |= bool(figures["wrong"]) or not alive
            name = "REST, KServe" if options.kserve else {"grpc": "gRPC", "rest": "REST"}[protocol]
            memory = [f"{(figures['memory'].get(when) or 0) / 2**20:.0f}" for when in ("200", "end")]
            print(
                f"| {name} | {figures['answered']} | {figures['refused']} | {len(figures['wrong'])} "
                f"| {figures['seconds']:.1f} | {figures['requests'] / figures['seconds']:.1f} "
                f"| {figures['median'] * 1000:.0f} | {figures['p95'] * 1000:.0f} | {' | '.join(memory)} |",
                flush=True,
            )
            for line in figures["wrong"][:20]:
                print(f"wrong: {line}")
            if not alive:
                print("the server has ended")
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(figures["kinds"].items()))
            print(f"<!-- {kinds} -->")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
