"""Sizes, equal labels and times of what this package's export and ai-edge-quantizer make of the same float32 model.

    pip install ai-edge-quantizer==0.10.0
    python benchmarks/tflite_converters.py MODEL DATA [--input-size 513] [--limit 30] [--samples 40]

DATA is a data set with a training split, which calibrates, and a val split, which is compared on.
"""

import argparse
import tempfile
from pathlib import Path

import keras_deeplab
from keras_deeplab import data, quantize
from keras_deeplab.export import compare, flatbuffer, graph, tflite
from keras_deeplab.export.calibration import Calibration


def quantized(source, target, recipe, images=None):
    """A float32 file to ai-edge-quantizer's of a recipe."""
    from ai_edge_quantizer import quantizer

    worker = quantizer.Quantizer(str(source), recipe)
    samples = None
    if images:
        samples = worker.calibrate({"serving_default": [{"images": image} for image in images]})
    Path(target).write_bytes(bytes(worker.quantize(samples).quantized_model))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--input-size", type=int, default=513)
    parser.add_argument("--limit", type=int, default=30)
    parser.add_argument("--samples", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    from ai_edge_quantizer import recipe

    model, size = keras_deeplab.load(options.model), (options.input_size,) * 2
    calibration = data.load(options.data, "train")
    images = Calibration(calibration, options.samples).images(size)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        # What int8 is made of has other layers than a float file: see keras_deeplab.export.tflite.
        prepared = quantize.fold(graph.inference_model(graph.network(model)[0], size))
        for name, source in (("float32", model), ("prepared", prepared)):
            tflite.export_tflite(source, folder / f"{name}.tflite", input_size=size)
        files = []
        for precision in ("dynamic", "int8_weights", "int8", "int16x8"):
            calibrated = precision in ("int8", "int16x8")
            settings = {"calibration": calibration, "calibration_samples": options.samples} if calibrated else {}
            file = folder / f"{precision}, here.tflite"
            tflite.export_tflite(model, file, precision=precision, input_size=size, **settings)
            files.append(file)
        for precision, source, made in (
            ("dynamic", "float32", recipe.dynamic_wi8_afp32()),
            ("int8_weights", "float32", recipe.weight_only_wi8_afp32()),
            ("int8", "prepared", recipe.static_wi8_ai8()),
        ):
            file = folder / f"{precision}, ai-edge-quantizer.tflite"
            quantized(folder / f"{source}.tflite", file, made, images if precision == "int8" else None)
            files.append(file)
        scores = compare.verify_all(files, model, data.load(options.data, "val"), limit=options.limit, input_size=size)
        times = compare.latencies(files, options.rounds)
        for file, score, milliseconds in zip(files, scores, times, strict=True):
            _, floating = flatbuffer.operators(file.read_bytes())
            print(
                f"{file.stem:30} {score.bytes:>10,} bytes  {100 * score.equal_labels:.3f} % equal  "
                f"{milliseconds:7.1f} ms  {len(floating)} float operators"
            )
        # Its int16 files take int16 images, which nothing here feeds: the size alone.
        quantized(folder / "prepared.tflite", folder / "int16.tflite", recipe.static_wi8_ai16(), images)
        print(f"{'int16x8, ai-edge-quantizer':30} {(folder / 'int16.tflite').stat().st_size:>10,} bytes")


if __name__ == "__main__":
    main()
