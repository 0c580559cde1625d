"""python benchmarks/tiles.py photo MODEL IMAGE | raster [--side N] [--model MODEL] [--kill SHARE] [--folder FOLDER]

`photo`: an image put to a model whole, and by tiles, each in a process of its own: seconds of wall and of processor,
peak memory above the loaded model, and how many labels differ.

`raster`: a GeoTIFF of N x N pixels, written window by window, segmented by tiles in a process of its own, with its peak
memory; beside it the time of the bare tiles, that is `predictor(tile)` alone for some of them, by the number of tiles;
once more in a process that is killed on the way and started again, whose file must have the same bytes. Without --model
the network is a small one without weights of worth: convolutions to stride 16, rates 1 to 4, 21 classes.
"""

import argparse
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("photo", "raster", "worker"))
    parser.add_argument("words", nargs="*")
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--model")
    parser.add_argument("--tile", type=int, default=2048)
    parser.add_argument("--halo", type=int)
    parser.add_argument("--means", default="image")
    parser.add_argument("--kill", type=float, default=0.5, help="share of the rows after which it is killed")
    parser.add_argument("--samples", type=int, default=6, help="how many bare tiles are timed")
    parser.add_argument("--folder", default="/tmp/keras_deeplab_tiles")
    options = parser.parse_args()
    {"photo": photo, "raster": raster, "worker": worker}[options.what](options)


# In a process of its own ------------------------------------------------------------------------------------------


def worker(options):
    """One measurement: `whole IMAGE`, `tiles IMAGE`, `write IMAGE TARGET` or `bare HEIGHT WIDTH COUNT`."""
    from keras_deeplab.inference.predictor import predictor
    from keras_deeplab.inference.strategies import Tiles
    from keras_deeplab.inference.tiles.raster import segment_raster
    from keras_deeplab.inference.tiles.settings import TileOptions

    what, *words = options.words
    tiles = TileOptions.of(tile=options.tile, halo=options.halo, image_means=options.means)
    strategy = (lambda runtime, size: Tiles(runtime, size, tiles)) if what == "tiles" else None
    predict = predictor(options.model or small_network(), strategy=strategy)
    predict(np.zeros((65, 65, 3), np.uint8))
    before, start, processor = peak(), time.perf_counter(), time.process_time()
    found = {}
    if what in ("whole", "tiles"):
        from keras_deeplab.data.images import read_image

        labels = (predict if what == "tiles" else predict.in_one_piece)(read_image(words[0]))
        np.save(words[1], labels)
    elif what == "write":
        written = segment_raster(predict, *words, tiles=tiles, progress=False)
        found = {"plan": written.plan, "resumed_rows": written.resumed_rows}
    else:
        height, width, count = map(int, words)
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        predict.in_one_piece(image)  # traces
        start, processor = time.perf_counter(), time.process_time()
        for _ in range(count):
            predict.in_one_piece(image)
    found |= {"seconds": time.perf_counter() - start, "processor": time.process_time() - processor}
    print(json.dumps(found | {"before_gb": before, "peak_gb": peak()}))


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def small_network():
    """Images to 21 classes at stride 16, with a receptive field of some 250 pixels and random weights."""
    import keras

    from keras_deeplab.specs.model import with_spec

    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    for filters in (8, 12, 16, 24):
        x = keras.layers.Conv2D(filters, 3, 2, padding="same", activation="relu")(x)
    for rate in (1, 2, 4):
        x = keras.layers.Conv2D(24, 3, dilation_rate=rate, padding="same", activation="relu")(x)
    return with_spec(keras.Model(inputs, keras.layers.Conv2D(21, 1)(x)), logits_stride=16)


def run(options, *words, **settings):
    """A worker's figures."""
    return json.loads(start(options, *words, **settings).communicate()[0].splitlines()[-1])


def start(options, *words, **settings):
    values = {name: getattr(options, name) for name in ("tile", "halo", "means", "model")} | settings
    flags = [f"--{name}={value}" for name, value in values.items() if value is not None]
    command = [sys.executable, __file__, "worker", *map(str, words), *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


# Photographs ------------------------------------------------------------------------------------------------------


def photo(options):
    options.model, image = options.words
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{'':<6}  {'seconds':>8}  {'processor':>9}  {'GB above the model':>18}")
    for what in ("whole", "tiles"):
        row = run(options, what, image, folder / f"{what}.npy")
        print(
            f"{what:<6}  {row['seconds']:>8.1f}  {row['processor']:>9.1f}  {row['peak_gb'] - row['before_gb']:>18.2f}",
            flush=True,
        )
    whole, tiles = (np.load(folder / f"{what}.npy") for what in ("whole", "tiles"))
    print(f"{int((whole != tiles).sum())} of {whole.size} labels differ")


# Rasters ----------------------------------------------------------------------------------------------------------


def raster(options):
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / f"{options.side}.tif"
    if not image.exists():
        synthesise(image, options.side)
    print(f"{image}: {image.stat().st_size / 1e6:.0f} MB", flush=True)
    written = run(options, "write", image, folder / "labels.tif")
    print(written["plan"])
    print(
        f"by tiles: {written['seconds']:.1f} s, {written['processor']:.1f} s of processor, peak "
        f"{written['peak_gb']:.2f} GB of which {written['before_gb']:.2f} GB with the model loaded",
        flush=True,
    )
    count, (height, width) = [int(part) for part in written["plan"].split()[0].split("x")], tile_in(written["plan"])
    bare = run(options, "bare", height, width, options.samples)
    tiles = count[0] * count[1]
    seconds, processor = (bare[name] / options.samples * tiles for name in ("seconds", "processor"))
    print(
        f"bare tiles: {seconds:.1f} s, {processor:.1f} s of processor ({options.samples} timed, by {tiles}); ratio "
        f"{written['seconds'] / seconds:.2f}, of processor {written['processor'] / processor:.2f}",
        flush=True,
    )
    killed(options, image, folder)


def tile_in(plan):
    words = plan.split()
    return tuple(int(part) for part in words[words.index("pixels") - 1].split("x"))


def killed(options, image, folder):
    """Kills a process once it has done a share of the rows, starts it again, and compares bytes."""
    target = folder / "killed.tif"
    target.unlink(missing_ok=True)
    journal = folder / f".{target.name}.tiles" / "journal.json"
    process = start(options, "write", image, target)
    while process.poll() is None:
        time.sleep(0.05)
        if journal.exists() and json.loads(journal.read_text())["rows"] >= options.kill * options.side:
            process.send_signal(signal.SIGKILL)
            process.wait()
    again = run(options, "write", image, target)
    same = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("labels.tif", "killed.tif")]
    print(
        f"killed and started again: went on at row {again['resumed_rows']}, {again['seconds']:.1f} s more; "
        f"the bytes are {'the same' if same[0] == same[1] else 'DIFFERENT'} ({target.stat().st_size / 1e6:.1f} MB)"
    )


def synthesise(path, side):
    """A GeoTIFF of soft shapes and noise, written in bands of 256 rows."""
    import rasterio
    from rasterio.transform import from_origin

    from keras_deeplab._helpers.opencv import cv2

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (side // 100 + 3, side // 100 + 3, 3)).astype(np.float32)
    profile = {"driver": "GTiff", "height": side, "width": side, "count": 3, "dtype": "uint8", "tiled": True}
    profile |= {"blockxsize": 256, "blockysize": 256, "compress": "deflate", "zlevel": 1, "bigtiff": "IF_SAFER"}
    with (
        rasterio.Env(GDAL_CACHEMAX=64),
        rasterio.open(path, "w", **profile, crs="EPSG:32632", transform=from_origin(5e5, 5e6, 0.5, 0.5)) as file,
    ):
        for top in range(0, side, 256):
            rows = min(256, side - top)
            maps = np.meshgrid(
                np.arange(side, dtype=np.float32) / 100, np.arange(top, top + rows, dtype=np.float32) / 100
            )
            band = cv2.remap(coarse, *maps, cv2.INTER_LINEAR) + rng.integers(-12, 13, (rows, side, 1), np.int8)
            window = ((top, top + rows), (0, side))
            file.write(np.moveaxis(np.clip(band, 0, 255).astype(np.uint8), -1, 0), window=window)


if __name__ == "__main__":
    main()
