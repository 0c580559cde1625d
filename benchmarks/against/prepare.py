"""The files of both sides, and how alike they are: a process of its own for `main.py`."""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
from network import images, normalised, own_network, torch_network


def main() -> None:
    told = json.loads(sys.argv[1])
    setting, folder, part = told["setting"], Path(told["folder"]), told["part"]
    arguments = [setting[name] for name in ("backbone", "classes", "stride")]
    size, model = setting["size"], own_network(*arguments)
    lines = []
    if told["peers"]:
        lines.append(_logits(model, torch_network(*arguments), size))
    # What runs ours reads a file, so that it doesn't hold the peer as well.
    model.save(folder / "ours.keras")
    if part in ("infer", "int8"):
        import keras_deeplab
        from keras_deeplab.export.onnx import export_onnx

        keras_deeplab.export_tflite(model, folder / "ours.tflite", input_size=size)
        if part == "infer":
            export_onnx(model, folder / "ours.onnx", input_size=size)
        else:
            calibration = list(images(8, size))
            keras_deeplab.export_tflite(
                model, folder / "ours_int8.tflite", precision="int8", input_size=size, calibration=calibration
            )
        if told["peers"]:
            _write_peers(torch_network(*arguments), folder, size, quantised=part == "int8")
            lines.append(_labels(model, folder, size, part))
    if part == "folder":
        import cv2

        import keras_deeplab

        keras_deeplab.export_tflite(model, folder / "ours.tflite", input_size=size)
        (folder / "photographs").mkdir()
        for index, image in enumerate(images(16, size)):
            cv2.imwrite(str(folder / "photographs" / f"{index}.jpg"), image[..., ::-1])
        lines.append("16 JPEG files, label maps as PNG files")
    print("; ".join(lines))


def _logits(model, network, size: int) -> str:
    import torch

    pixels = images(1, size)
    padding = -size % 16
    padded = np.pad(normalised(pixels), ((0, 0), (0, 0), (0, padding), (0, padding)))
    grey = np.pad(pixels, ((0, 0), (0, padding), (0, padding), (0, 0)))
    with torch.inference_mode():
        theirs = network(torch.from_numpy(normalised(grey))).numpy().transpose(0, 2, 3, 1)
    del padded
    ours = np.asarray(model(grey))
    difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    if difference > 1e-4:
        raise SystemExit(f"the two networks differ by {difference:.1e} of the largest logit")
    return f"logits differ by {difference:.1e} of the largest"


def _write_peers(network, folder: Path, size: int, quantised: bool) -> None:
    import torch

    class Labels(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, pixels):
            return self.network(pixels).argmax(1).to(torch.uint8)

    side = size + -size % 16
    sample = torch.zeros(1, 3, side, side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Labels().eval(), (sample,), folder / "torch.onnx", opset_version=17, dynamo=False)
    if not quantised:
        return
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            pixels = normalised(images(8, size))
            pixels = np.pad(pixels, ((0, 0), (0, 0), (0, side - size), (0, side - size)), mode="edge")
            self.left = [{"pixels": each[None]} for each in pixels]

        def get_next(self):
            return self.left.pop() if self.left else None

    name = _input_name(folder / "torch.onnx")
    reader = Reader()
    reader.left = [{name: each["pixels"]} for each in reader.left]
    quantization.quantize_static(
        str(folder / "torch.onnx"),
        str(folder / "torch_int8.onnx"),
        reader,
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
    )


def _input_name(path: Path) -> str:
    import onnx

    return onnx.load(path).graph.input[0].name


def _labels(model, folder: Path, size: int, part: str) -> str:
    """Shares of pixels whose labels are those of the Keras model, file by file."""
    import onnxruntime

    import keras_deeplab

    pixels = images(4, size)
    predict = keras_deeplab.predictor(model)
    wanted = np.stack([predict(image) for image in pixels])
    seen = len(np.unique(wanted))
    if seen < 3:
        raise SystemExit(f"the labels are {seen} classes, which would be equal whatever computes them")
    names = {"infer": ["ours.tflite", "ours.onnx"], "int8": ["ours_int8.tflite"]}[part]
    found = {}
    for name in names:
        file = keras_deeplab.predictor(str(folder / name))
        found[name] = np.stack([file(image) for image in pixels])
    theirs = "torch.onnx" if part == "infer" else "torch_int8.onnx"
    session = onnxruntime.InferenceSession(str(folder / theirs), providers=["CPUExecutionProvider"])
    padded = np.pad(normalised(pixels), ((0, 0), (0, 0), (0, -size % 16), (0, -size % 16)), mode="edge")
    source = session.get_inputs()[0].name
    labels = [session.run(None, {source: each[None]})[0][0, :size, :size] for each in padded]
    found[theirs] = np.stack(labels)
    return f"labels of {seen} classes equal to the Keras model's: " + ", ".join(
        f"{name} {100 * np.mean(labels == wanted):.2f} %" for name, labels in found.items()
    )


if __name__ == "__main__":
    main()
