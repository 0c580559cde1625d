#!/usr/bin/env python3
"""Prints on how many pixels the page of `keras-deeplab demo` gives the labels of the Python interpreter, and its times.

    python benchmarks/browser_agreement.py MODEL.tflite PHOTOGRAPH_OR_FOLDER... [--limit N] [--single-thread]

Needs Chromium, and LiteRT's runtime in the cache (python -m keras_deeplab.demo.runtime). The browser is given the files
themselves, decodes them on its own and can resolve no name but this machine's. Photographs must not be larger than the
model's images: the two would scale them down differently.
"""

import argparse
import base64
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np

from keras_deeplab.data.images import read_image
from keras_deeplab.data.masks import decode_label_png
from keras_deeplab.demo.page import write_page
from keras_deeplab.demo.server import make_server
from keras_deeplab.inference.files import image_files
from keras_deeplab.inference.predictor import predictor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import chromium


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("photographs", nargs="+")
    parser.add_argument("--limit", type=int, default=20, help="photographs, evenly spaced")
    parser.add_argument("--single-thread", action="store_true", help="serve the page without isolation")
    options = parser.parse_args()

    files = image_files(options.photographs)
    count = min(options.limit, len(files))
    files = [files[index * len(files) // count] for index in range(count)]
    reference = predictor(options.model)
    with tempfile.TemporaryDirectory() as folder:
        page = write_page(options.model, folder)
        server = make_server(page, port=0, isolated=not options.single_thread)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = chromium.Browser(chromium.executable())
        try:
            browser.open("http://{}:{}/".format(*server.server_address))
            browser.wait("document.body.dataset.state === 'ready'")
            print(browser.evaluate("document.getElementById('facts').innerText").replace("\n", ", "))
            rows = [compare(browser, reference, file) for file in files]
        finally:
            browser.close()
            server.shutdown()
            server.server_close()
    shares, times = zip(*rows, strict=True)
    print(f"{len(rows)} photographs: equal labels {100 * np.mean(shares):.4f} %, least {100 * min(shares):.4f} %")
    print(f"milliseconds in the browser: median {np.median(times):.0f}, least {min(times):.0f}")


def compare(browser, reference, file):
    """Segments a file in both and returns (share of equal labels, milliseconds)."""
    browser.evaluate("document.getElementById('download').removeAttribute('href')")
    chooser = browser.call("Runtime.evaluate", expression="document.getElementById('file')")["result"]["objectId"]
    browser.call("DOM.setFileInputFiles", files=[str(Path(file).resolve())], objectId=chooser)
    address = browser.wait("document.getElementById('download').getAttribute('href')")
    labels, _ = decode_label_png(base64.b64decode(address.split(",")[1]))
    expected = reference(read_image(file))
    if labels.shape != expected.shape:
        raise SystemExit(f"{file}: {labels.shape} in the browser, {expected.shape} in Python; is it turned by EXIF?")
    share = float(np.mean(labels == expected))
    milliseconds = float(browser.evaluate("document.getElementById('milliseconds').innerText").split()[0])
    print(f"{Path(file).name}: {100 * share:.4f} % of {labels.size:,} labels equal, {milliseconds:.0f} ms", flush=True)
    return share, milliseconds


if __name__ == "__main__":
    main()
