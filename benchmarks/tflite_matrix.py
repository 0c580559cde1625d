"""Converts, allocates and runs every precision of every MobileNet, ResNet-50 and Xception-65 model at three sizes.

    python benchmarks/tflite_matrix.py RESULTS.jsonl [--models PATTERN] [--sizes 257 321x513 513] [--precisions ...]
    python benchmarks/tflite_matrix.py RESULTS.jsonl --table

Each case is a line of RESULTS.jsonl: the bytes of the file, whether it ran, and the share of labels that equal those of
the Keras model on a smooth random picture. Cases that are there already are not run again, so the same command
continues a run that was stopped. A process of its own runs the cases of one model, so that memory is given back.

Weights are random and scaled so that features keep their size, and batch norms have the statistics of such pictures:
labels vary from pixel to pixel, but classes are closer together than a trained model's, so the shares of int8 are lower
than what training gives.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

FAMILIES = ("mobilenet", "resnet50", "resnet_v1_50", "xception_65")
SIZES = ("257", "321x513", "513")
PRECISIONS = ("float32", "float16", "dynamic", "int8_weights", "int8", "int16x8")


def networks():
    """{name: published model}, those of the three families that are different networks."""
    from keras_deeplab import MODELS

    found = {}
    for published in MODELS.values():
        if published.backbone.startswith(FAMILIES):
            settings = {key: value for key, value in published.settings.items() if key != "num_classes"}
            key = (published.builder, published.backbone, published.output_stride, repr(settings))
            found.setdefault(key, published)
    return {published.name: published for published in found.values()}


def build(name):
    """The model with random weights, and statistics of batch norm measured on pictures."""
    import keras

    import keras_deeplab

    published = networks()[name]
    keras.utils.set_random_seed(0)
    settings = {**published.settings, "output_stride": published.output_stride}
    settings.pop("auxiliary_head", None)  # a file has one output
    model = getattr(keras_deeplab, published.builder)(published.backbone, **settings)
    generator = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
            for variable, low, high in ((layer.gamma, 0.7, 1.3), (layer.beta, -0.3, 0.3)):
                if variable is not None:
                    variable.assign(generator.uniform(low, high, variable.shape))
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(generator.normal(0, 0.1, layer.bias.shape))
    # With no momentum one pass leaves the statistics of its batch.
    model(np.stack([picture(129, 129, seed) for seed in range(4)]).astype(np.float32), training=True)
    for variable in model.layers[-2 if "upsample" in model.layers[-1].name else -1].weights:
        variable.assign(generator.normal(0, 1, variable.shape))
    return model


def picture(height, width, seed):
    """A smooth random picture with some noise, uint8 (height, width, 3)."""
    from keras_deeplab._opencv import cv2

    generator = np.random.default_rng(seed)
    coarse = generator.uniform(0, 255, (6, 7, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(np.rint(smooth + generator.normal(0, 12, smooth.shape)), 0, 255).astype(np.uint8)


def run_cases(name, size, precisions, results):
    """The cases of one model at one size, each written to `results` as soon as it is known."""
    from keras_deeplab.export.tflite import export_tflite
    from keras_deeplab.predict import predictor

    sides = [int(side) for side in size.split("x")]
    height, width = sides if len(sides) == 2 else sides * 2
    model, image = build(name), picture(height, width, 100)
    expected = predictor(model, (height, width))(image)
    with tempfile.TemporaryDirectory() as folder:
        for precision in precisions:
            options = {}
            if precision in ("int8", "int16x8"):
                options["calibration"] = [picture(height, width, seed) for seed in range(2)]
            case = {"model": name, "size": size, "precision": precision}
            try:
                path = Path(folder) / "model.tflite"
                written = export_tflite(model, path, precision=precision, input_size=(height, width), **options)
                labels = predictor(path)(image)
                case |= {
                    "bytes": written.bytes,
                    "equal": float(np.mean(labels == expected)),
                    "classes": len(np.unique(expected)),
                    "float_operators": sorted(set(written.float_operators)) if options else [],
                }
            except Exception as error:  # whatever a converter raises is what the table is about
                case["error"] = f"{type(error).__name__}: {str(error)[:300]}"
            with open(results, "a", encoding="utf-8") as file:
                file.write(json.dumps(case) + "\n")


def read(results):
    lines = Path(results).read_text("utf-8").splitlines() if Path(results).exists() else []
    cases = [json.loads(line) for line in lines]
    return {(case["model"], case["size"], case["precision"]): case for case in cases}


def table(cases):
    """A line for each model: of each precision the megabytes, and the per cent of equal labels at each size."""
    rows = {}
    for (model, size, precision), case in cases.items():
        rows.setdefault(model, {}).setdefault(precision, {})[size] = case
    print(f"| model | {' | '.join(PRECISIONS)} |\n|{'---|' * (1 + len(PRECISIONS))}")
    for model, found in rows.items():
        print(f"| {model} | {' | '.join(_cell(found.get(precision, {})) for precision in PRECISIONS)} |")
    failed = [case for case in cases.values() if "error" in case]
    floating = {(case["model"], case["precision"]) for case in cases.values() if case.get("float_operators")}
    print(f"\n{len(cases) - len(failed)} of {3 * len(PRECISIONS) * len(networks())} cases ran; {len(failed)} failed")
    for case in failed:
        print(f"failed: {case['model']}, {case['precision']}, {case['size']}: {case['error']}")
    for model, precision in sorted(floating):
        print(f"with operators in floating point: {model}, {precision}")


def _cell(found):
    """The cases of a model and a precision, by size."""
    if not found:
        return ""
    shares = ["-" if size not in found else f"{100 * found[size].get('equal', np.nan):.4g}" for size in SIZES]
    megabytes = max(case.get("bytes", 0) for case in found.values()) / 1e6
    return f"{megabytes:.1f}: {', '.join(shares)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results")
    parser.add_argument("--models", default="", help="part of a name")
    parser.add_argument("--sizes", nargs="+", default=SIZES, choices=SIZES)
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--table", action="store_true", help="print what there is; run nothing")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_cases(*options.one, options.precisions, options.results)
        return
    if options.table:
        table(read(options.results))
        return
    for size in options.sizes:
        for name in networks():
            done = read(options.results)
            missing = [precision for precision in options.precisions if (name, size, precision) not in done]
            if options.models not in name or not missing:
                continue
            print(f"{name} {size}: {', '.join(missing)}", flush=True)
            command = [sys.executable, __file__, options.results, "--one", name, size, "--precisions", *missing]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                print(f"  the process ended with {result.returncode}: {result.stderr.strip()[-500:]}", flush=True)
    table(read(options.results))


if __name__ == "__main__":
    main()
