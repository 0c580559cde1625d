"""The files of both sides, and how alike they are: a process of its own for `main.py`."""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
from network import images, normalised, own_network, torch_network

CALIBRATION, KEPT = 32, 12  # images that ranges are read from, and that labels are compared on


def main() -> None:
    told = json.loads(sys.argv[1])
    setting, folder, part = told["setting"], Path(told["folder"]), told["part"]
    arguments = [setting[name] for name in ("backbone", "classes", "stride", "weights")]
    size, model, photographs = setting["size"], own_network(*arguments), setting["photographs"]
    lines = []
    if told["peers"]:
        lines.append(_logits(model, torch_network(*arguments), size))
    # What runs ours reads a file, so that it doesn't hold the peer as well.
    model.save(folder / "ours.keras")
    if part in ("infer", "int8", "throughput"):
        import keras_deeplab
        from keras_deeplab.export.onnx import export_onnx

        keras_deeplab.export_tflite(model, folder / "ours.tflite", input_size=size)
        if part != "int8":
            export_onnx(model, folder / "ours.onnx", input_size=size)
        else:
            # Without peers only the time counts, and of 1,000 classes each image takes a minute.
            calibration = list(images(CALIBRATION if told["peers"] else 2, size, photographs))
            keras_deeplab.export_tflite(
                model, folder / "ours_int8.tflite", precision="int8", input_size=size, calibration=calibration
            )
        if told["peers"]:
            _write_peers(torch_network(*arguments), folder, size, part == "int8", photographs)
            lines.append(_labels(model, folder, size, part, photographs))
    if part in ("folder", "evaluate", "startup"):
        import keras_deeplab

        keras_deeplab.export_tflite(model, folder / "ours.tflite", input_size=size)
    if part in ("folder", "evaluate"):
        _write_data(folder, 16, (size, size), setting["classes"])
        lines.append("16 JPEG files, label maps as PNG files")
    if part == "pipeline":
        _write_data(folder, 200, (375, 500), setting["classes"])
        lines.append(_batches(setting, folder))
    print("; ".join(lines))


def _logits(model, network, size: int) -> str:
    import torch

    pixels = images(1, size)
    padding = -size % 16
    grey = np.pad(pixels, ((0, 0), (0, padding), (0, padding), (0, 0)))
    with torch.inference_mode():
        theirs = network(torch.from_numpy(normalised(grey))).numpy().transpose(0, 2, 3, 1)
    ours = np.asarray(model(grey))
    difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    if difference > 1e-4:
        raise SystemExit(f"the two networks differ by {difference:.1e} of the largest logit")
    return f"logits differ by {difference:.1e} of the largest"


def _write_data(folder: Path, count: int, size: tuple[int, int], classes: int) -> None:
    """A data set of synthetic photographs, JPEG files with PNG masks, as training and evaluation read it."""
    import cv2

    random = np.random.default_rng(3)
    for name in ("images", "masks", "splits"):
        (folder / "data" / name).mkdir(parents=True)
    for index, image in enumerate(images(count, max(size))):
        height, width = size
        mask = cv2.resize(
            random.integers(0, classes, (6, 6), "uint8"), (width, height), interpolation=cv2.INTER_NEAREST
        )
        cv2.imwrite(str(folder / "data/images" / f"{index:04d}.jpg"), image[:height, :width, ::-1])
        cv2.imwrite(str(folder / "data/masks" / f"{index:04d}.png"), mask)
    names = "\n".join(f"{index:04d}" for index in range(count))
    for split in ("train", "val"):
        (folder / "data/splits" / f"{split}.txt").write_text(names)
    (folder / "data/classes.txt").write_text("\n".join(f"class {index}" for index in range(classes)))


def _batches(setting: dict, folder: Path) -> str:
    """What a batch of each side's training pipeline holds, which must be alike in kind: no one computes less."""
    from cells import CELLS

    told = {**setting, "folder": str(folder)}
    ours, theirs = (CELLS[f"pipeline/{name}"](**told)() for name in ("ours/tf_data", "torch/dataloader"))
    pixels, labels = (np.asarray(part) for part in ours)
    other, masks = (part.numpy() for part in theirs)
    side = (setting["size"], setting["size"])
    wanted = ((setting["batch"], *side, 3), (setting["batch"], *side), (setting["batch"], 3, *side), labels.shape)
    received = (pixels.shape, labels.shape, other.shape, masks.shape)
    if received != wanted:
        raise SystemExit(f"the batches have shapes {received}, not {wanted}")
    if not pixels.any() or not other.any() or not set(np.unique(masks)) <= {*range(setting["classes"]), 255}:
        raise SystemExit("a batch holds no picture, or labels that are none")
    return (
        f"200 JPEG files of 500x375; crops scaled by 0.5 to 2, mirrored, padded; ours {pixels.dtype} with labels "
        f"{labels.dtype}, theirs normalised {other.dtype} with {masks.dtype}"
    )


def _write_peers(network, folder: Path, size: int, quantised: bool, photographs: str | None) -> None:
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
            self.left = [{name: each[None]} for each in pixels]

        def get_next(self):
            return self.left.pop() if self.left else None

    name = _input_name(folder / "torch.onnx")
    pixels = normalised(images(CALIBRATION, size, photographs))
    pixels = np.pad(pixels, ((0, 0), (0, 0), (0, side - size), (0, side - size)), mode="edge")
    _write_nncf(folder, pixels)
    reader = Reader()
    quantization.quantize_static(
        str(folder / "torch.onnx"),
        str(folder / "torch_int8.onnx"),
        reader,
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
    )


def _write_nncf(folder: Path, pixels: np.ndarray) -> None:
    """OpenVINO's own int8 file, by the tool that its makers name for it, with its defaults."""
    import nncf
    import openvino

    model = openvino.Core().read_model(folder / "torch.onnx")
    quantised = nncf.quantize(model, nncf.Dataset([each[None] for each in pixels]), subset_size=len(pixels))
    openvino.save_model(quantised, folder / "torch_int8.xml", compress_to_fp16=False)


def _input_name(path: Path) -> str:
    import onnx

    return onnx.load(path).graph.input[0].name


def _labels(model, folder: Path, size: int, part: str, photographs: str | None) -> str:
    """Shares of pixels whose labels are those of the Keras model, file by file."""
    import onnxruntime

    import keras_deeplab

    # Others than those of the calibration, of a data set: its first ones among fewer are spread otherwise.
    pixels = images(KEPT, size, photographs)
    predict = keras_deeplab.predictor(model)
    wanted = np.stack([predict(image) for image in pixels])
    seen = len(np.unique(wanted))
    if seen < 3:
        raise SystemExit(f"the labels are {seen} classes, which would be equal whatever computes them")
    names = ["ours_int8.tflite"] if part == "int8" else ["ours.tflite", "ours.onnx"]
    found = {}
    for name in names:
        file = keras_deeplab.predictor(str(folder / name))
        found[name] = np.stack([file(image) for image in pixels])
    theirs = "torch_int8.onnx" if part == "int8" else "torch.onnx"
    session = onnxruntime.InferenceSession(str(folder / theirs), providers=["CPUExecutionProvider"])
    padded = np.pad(normalised(pixels), ((0, 0), (0, 0), (0, -size % 16), (0, -size % 16)), mode="edge")
    source = session.get_inputs()[0].name
    labels = [session.run(None, {source: each[None]})[0][0, :size, :size] for each in padded]
    found[theirs] = np.stack(labels)
    if part == "int8":
        import openvino

        compiled = openvino.Core().compile_model(str(folder / "torch_int8.xml"), "CPU")
        found["torch_int8.xml"] = np.stack([compiled(each[None])[0][0, :size, :size] for each in padded])
    return f"labels of {seen} classes equal to the Keras model's: " + ", ".join(
        f"{name} {100 * np.mean(labels == wanted):.2f} %" for name, labels in found.items()
    )


if __name__ == "__main__":
    main()
