"""Converts, allocates and runs every precision of every MobileNet, ResNet-50 and Xception-65 model at three sizes.

    python benchmarks/tflite_matrix.py RESULTS.jsonl [--models PATTERN] [--precisions ...]
    python benchmarks/tflite_matrix.py RESULTS.jsonl --table

One file of each model and precision holds all three sizes. It is a line of RESULTS.jsonl: its bytes, and for each size
the share of labels that equal those of the Keras model on a smooth random picture. Lines that are there already are not
run again, so the same command continues a run that was stopped. A process of its own runs one model, so that memory is
given back.

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
SIZES = ((257, 257), (321, 513), (513, 513))
PRECISIONS = ("float32", "float16", "dynamic", "int8_weights", "int8", "int16x8")


def networks():
    """{name: published model}, those of the three families that are different networks."""
    from keras_deeplab import MODELS

    found = {}
    for published in MODELS.values():
        spec = published.spec
        if spec.backbone.startswith(FAMILIES):
            settings = {"flavour": spec.flavour, **spec.settings}
            key = (spec.builder, spec.backbone, spec.output_stride, repr(settings))
            found.setdefault(key, published)
    return {published.name: published for published in found.values()}


def build(name):
    """The model with random weights, and statistics of batch norm measured on pictures."""
    import keras

    import keras_deeplab

    spec = networks()[name].spec
    keras.utils.set_random_seed(0)
    one_output = {"auxiliary_head": False} if "auxiliary_head" in spec.settings else {}
    model = keras_deeplab.build(spec, **one_output)
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
    from keras_deeplab._helpers.opencv import cv2

    generator = np.random.default_rng(seed)
    coarse = generator.uniform(0, 255, (6, 7, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(np.rint(smooth + generator.normal(0, 12, smooth.shape)), 0, 255).astype(np.uint8)


def run_model(name, precisions, results):
    """The files of one model, each written to `results` as soon as it ran."""
    from keras_deeplab.export.tflite import export_tflite
    from keras_deeplab.inference.predictor import predictor

    model = build(name)
    images = {size: picture(*size, 100) for size in SIZES}
    expected = {size: predictor(model, size)(image) for size, image in images.items()}
    with tempfile.TemporaryDirectory() as folder:
        for precision in precisions:
            options = {}
            if precision in ("int8", "int16x8"):
                options["calibration"] = [picture(*max(SIZES), seed) for seed in range(2)]
            case = {"model": name, "precision": precision}
            try:
                path = Path(folder) / "model.tflite"
                written = export_tflite(model, path, precision=precision, input_size=list(SIZES), **options)
                case["bytes"] = written.bytes
                case["equal"] = {}
                for (height, width), image in images.items():
                    labels = predictor(path, (height, width))(image)
                    case["equal"][f"{height}x{width}"] = float(np.mean(labels == expected[height, width]))
                case["float_operators"] = sorted(set(written.float_operators)) if options else []
            except Exception as error:  # whatever a converter raises is what the table is about
                case["error"] = f"{type(error).__name__}: {str(error)[:300]}"
            with open(results, "a", encoding="utf-8") as file:
                file.write(json.dumps(case) + "\n")


def read(results):
    lines = Path(results).read_text("utf-8").splitlines() if Path(results).exists() else []
    return {(case["model"], case["precision"]): case for case in map(json.loads, lines)}


def table(cases):
    """A line for each model: of each precision the megabytes, and the per cent of equal labels at each size."""
    rows = {model: {} for model in networks()}
    for (model, precision), case in cases.items():
        rows[model][precision] = case
    print(f"| model | {' | '.join(PRECISIONS)} |\n|{'---|' * (1 + len(PRECISIONS))}")
    for model, found in rows.items():
        if not found:
            continue
        print(f"| {model} | {' | '.join(_cell(found.get(precision)) for precision in PRECISIONS)} |")
    failed = [case for case in cases.values() if "error" in case]
    whole = len(PRECISIONS) * len(rows)
    print(f"\n{len(cases) - len(failed)} of {whole} files ran at three sizes; {len(failed)} failed")
    for case in failed:
        print(f"failed: {case['model']}, {case['precision']}: {case['error']}")
    for case in cases.values():
        if case.get("float_operators"):
            print(f"in floating point: {', '.join(case['float_operators'])} of {case['model']}, {case['precision']}")


def _cell(case):
    if case is None:
        return ""
    if "error" in case:
        return "failed"
    return f"{case['bytes'] / 1e6:.1f}: {', '.join(f'{100 * share:.4g}' for share in case['equal'].values())}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results")
    parser.add_argument("--models", default="", help="part of a name")
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--table", action="store_true", help="print what there is; run nothing")
    parser.add_argument("--one", metavar="MODEL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_model(options.one, options.precisions, options.results)
        return
    if options.table:
        table(read(options.results))
        return
    for name in networks():
        done = read(options.results)
        missing = [precision for precision in options.precisions if (name, precision) not in done]
        if options.models not in name or not missing:
            continue
        print(f"{name}: {', '.join(missing)}", flush=True)
        command = [sys.executable, __file__, options.results, "--one", name, "--precisions", *missing]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            print(f"  the process ended with {result.returncode}: {result.stderr.strip()[-500:]}", flush=True)
    table(read(options.results))


if __name__ == "__main__":
    main()
