"""The command line: `keras-deeplab <command>`, and the same commands as scripts in `tools/`."""

import argparse
import json
import os
import sys
from pathlib import Path

from keras_deeplab._version import __version__

_CHECKPOINT = "checkpoint that keras_deeplab.load reads (TF1 prefix, folder, .tar.gz, .pth, .h5, ..., published name)"
_MODEL = f"a .keras file, or any {_CHECKPOINT}"
_DATA = "folder with images/, masks/, splits/; VOC devkit; tfds:NAME; or synthetic"


def main(arguments=None):
    """Runs a command and returns its exit status: 0, or 1 after an error, which is told in words on stderr."""
    parser = _parser()
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        return options.run(options) or 0
    except (ValueError, OSError, ImportError) as error:
        if options.traceback:
            raise
        print(f"keras-deeplab {options.command}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        print(f"keras-deeplab {options.command}: interrupted. {interrupt}".rstrip(), file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser("keras-deeplab", description="DeepLab semantic segmentation for Keras 3.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, run, text):
        sub = commands.add_parser(
            name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        sub.set_defaults(run=run)
        sub.add_argument("--traceback", action="store_true", help="show where an error arose")
        return sub

    _add_train(command("train", _train, "Train a DeepLab on a data set; the same command continues a killed run."))
    _add_evaluate(command("evaluate", _evaluate, "Score a model on a data set: IoU of each class and the mean."))
    _add_predict(command("predict", _predict, "Segment photographs: label PNGs and colour overlays."))
    _add_saved_model(command("export-saved-model", _export_saved_model, "Write a SavedModel for TensorFlow Serving."))
    _add_serving_config(
        command("serving-config", _serving_config, "Write what TensorFlow Serving needs beside exported models.")
    )
    _add_segment(command("segment", _segment, "Segment photographs by way of a TensorFlow Serving."))
    _add_tflite(command("export-tflite", _export_tflite, "Write TFLite files and compare them with the model."))
    _add_onnx(command("export-onnx", _export_onnx, "Write an ONNX file and compare it with the model."))
    _add_demo(
        command("demo", _demo, "Make a page that runs a TFLite file in the browser, and show it on this machine.")
    )
    _add_inspect(command("inspect", _inspect, "Print what a file of weights holds; nothing in it is run."))
    _add_convert(command("convert", _convert, "Turn a checkpoint of other code into a file of Keras."))
    _add_export_weights(command("export-weights", _export_weights, "Write a model's weights as other code has them."))
    _add_receptive_field(command("receptive-field", _receptive_field, "Print what each layer of a network sees."))
    _add_models(command("models", _models, "List the published models: their cost here and accuracy there."))
    quickstart = command("quickstart", _quickstart, "Train, evaluate and export a small model on drawn images.")
    quickstart.add_argument("--output", default="quickstart", help="folder for everything it writes")
    quickstart.add_argument("--steps", type=_positive, default=None, help="training steps; by default enough")
    return parser


# Argument types and groups ----------------------------------------------------------------------------------


def _positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, received {value}")
    return value


def _size(text):
    """`513` to 513, `321x513` to (321, 513)."""
    parts = [_positive(part) for part in text.lower().split("x")]
    if len(parts) > 2:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor HEIGHTxWIDTH")
    return parts[0] if len(parts) == 1 else tuple(parts)


def _numbers(text):
    return tuple(float(part) for part in text.split(","))


def _add_data(parser, split):
    parser.add_argument("data", metavar="DATA", help=_DATA)
    parser.add_argument("--split", default=split, help="which split of it")
    _add_data_options(parser)


def _add_data_options(parser):
    group = parser.add_argument_group("how masks are read (where the data set's files don't tell)")
    group.add_argument("--num-classes", type=_positive, help="number of classes, without a classes.txt")
    group.add_argument("--mask-encoding", choices=["auto", "grey", "palette", "rgb"], help="what the mask files are")
    group.add_argument("--colors", metavar="FILE", help="text file of the colours of RGB masks: R G B a line, by class")
    group.add_argument("--ignore-label", type=int, help="number in the masks to ignore, besides 255")
    group.add_argument("--label-offset", type=int, help="added to the masks' numbers, e.g. -1 where they start at 1")
    group.add_argument("--data-dir", help="where TensorFlow Datasets keeps its data")


def _load_data(options, name, split):
    from keras_deeplab import data

    names = ("num_classes", "mask_encoding", "ignore_label", "label_offset", "data_dir")
    given = {key: getattr(options, key) for key in names if getattr(options, key) is not None}
    if options.colors:
        rows = [line.split()[:3] for line in Path(options.colors).read_text("utf-8").splitlines() if line.strip()]
        try:
            given["colors"] = [tuple(int(value) for value in row) for row in rows]
        except ValueError as error:
            raise ValueError(f"{options.colors} must hold three numbers a line (R G B): {error}") from error
    try:
        return data.load(name, split=split, **given)
    except TypeError as error:
        flags = ", ".join("--" + key.replace("_", "-") for key in given)
        raise ValueError(f"{name} doesn't take all of {flags}: {error}") from error


def _add_model(parser):
    parser.add_argument("model", metavar="MODEL", help=_MODEL)
    parser.add_argument("--output-stride", type=_positive, help="for checkpoints: 8, 16 (their default) or 32")


def _load_model(options):
    import keras_deeplab

    settings = {} if options.output_stride is None else {"output_stride": options.output_stride}
    if settings and options.model.endswith(".keras"):
        raise ValueError("--output-stride is for checkpoints; a .keras file has its own")
    return keras_deeplab.load(options.model, **settings)


def _class_names(model_path, classes_file, num_classes):
    """Names of a model's classes: a file's, those its training run noted, VOC's where the number fits, or None."""
    if classes_file:
        names = Path(classes_file).read_text("utf-8").split("\n")
        names = [name.strip() for name in names if name.strip()]
        if len(names) != num_classes:
            raise ValueError(f"{classes_file} names {len(names)} classes, the model has {num_classes}")
        return names
    config = Path(model_path).parent / "config.json"
    if config.is_file():
        names = json.loads(config.read_text("utf-8")).get("classes", [])
        if len(names) == num_classes:
            return names
    if num_classes == 21:
        from keras_deeplab.data.voc import CLASSES

        return list(CLASSES)
    return None


# train ------------------------------------------------------------------------------------------------------


def _add_train(parser):
    _add_data(parser, "train")
    parser.add_argument("--val-split", default="val", help="split to validate on; none: no validation")
    parser.add_argument("--run-dir", required=True, help="folder of the run: checkpoints, history, settings")
    model = parser.add_argument_group("model")
    model.add_argument("--model", choices=["deeplabv3", "deeplabv3plus"], default="deeplabv3plus", help="architecture")
    model.add_argument("--backbone", default="mobilenet_v2", help="registered backbone")
    model.add_argument(
        "--output-stride",
        type=_positive,
        help="stride of the features: 8, 16 or 32; by default that of --weights, or 16",
    )
    model.add_argument("--backbone-weights", help="'imagenet' (downloaded) or the path of ImageNet weights")
    model.add_argument(
        "--weights", help="checkpoint to start from; of a TF1 one with other classes all but the last layer is kept"
    )
    model.add_argument("--dtype-policy", default="float32", help="or mixed_float16, mixed_bfloat16")
    run = parser.add_argument_group("training")
    run.add_argument("--crop-size", type=_size, default=513, help="N or HEIGHTxWIDTH of the training crops")
    run.add_argument("--batch-size", type=_positive, default=16, help="crops in a step")
    run.add_argument("--steps", type=_positive, help="optimizer steps; or --epochs")
    run.add_argument("--epochs", type=float, help="passes over the data set, instead of --steps")
    run.add_argument("--optimizer", choices=["sgd", "adam", "adamw"], default="sgd", help="optimizer")
    run.add_argument("--learning-rate", type=float, help="at the start; by default 0.007 for sgd, else 0.0005")
    run.add_argument("--weight-decay", type=float, help="by default 4e-5, 0.01 for adamw")
    run.add_argument("--power", type=float, default=0.9, help="of the polynomial decay")
    run.add_argument("--warmup-steps", type=int, default=0, help="steps of linear warm-up")
    run.add_argument("--scale-range", type=_numbers, default=(0.5, 2.0), metavar="LOW,HIGH", help="random scaling")
    run.add_argument("--scale-step", type=float, default=0.25, help="step of the scales; 0: any between")
    run.add_argument("--no-flip", action="store_true", help="don't mirror images at random")
    run.add_argument("--colour-jitter", type=float, default=0.0, help="brightness, contrast, saturation, e.g. 0.2")
    run.add_argument("--class-weights", type=_numbers, metavar="W,W,...", help="weight of each class in the loss")
    run.add_argument("--top-k-fraction", type=float, default=1.0, help="share of hardest pixels that are learnt")
    run.add_argument("--freeze-batch-norm", action="store_true", help="keep statistics: for batches under about 8")
    run.add_argument("--head-multiplier", type=float, default=1.0, help="factor on the head's learning rate")
    run.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation")
    run.add_argument("--validation-every", type=_positive, help="steps between validations; by default ten in a run")
    run.add_argument("--validation-limit", type=_positive, help="images of a validation; by default all")
    run.add_argument("--input-size", type=_size, help="validation images are padded to it; by default not at all")
    run.add_argument("--checkpoint-every", type=_positive, default=200, help="steps between checkpoints")
    run.add_argument("--restart", action="store_true", help="begin anew where the folder holds a run")
    run.add_argument("--check-data", action=argparse.BooleanOptionalAction, default=True, help="read every mask first")


def _train(options):
    if (options.steps is None) == (options.epochs is None):
        raise ValueError("give --steps or --epochs: how long to train")
    if options.weights and options.backbone_weights:
        raise ValueError("--weights holds the backbone too: give it or --backbone-weights, not both")
    source = _load_data(options, options.data, options.split)
    validation = None
    if options.val_split.lower() != "none":
        validation = _load_data(options, options.data, options.val_split)
    if options.check_data and options.data != "synthetic":
        for part in filter(None, (source, validation)):
            counts = part.check()
            absent = [name for name, count in zip(part.classes, counts, strict=False) if not count]
            print(f"{part.name}: {part.num_examples} samples read" + (f"; none of {', '.join(absent)}" * bool(absent)))
    steps = options.steps or max(1, round(options.epochs * source.num_examples / options.batch_size))

    import keras

    import keras_deeplab

    keras.utils.set_random_seed(options.seed)
    keras.config.set_dtype_policy(options.dtype_policy)
    if options.weights:
        model = keras_deeplab.load(options.weights, output_stride=options.output_stride, num_classes=source.num_classes)
    else:
        builder = keras_deeplab.DeepLabV3 if options.model == "deeplabv3" else keras_deeplab.DeepLabV3Plus
        model = builder(
            options.backbone,
            num_classes=source.num_classes,
            output_stride=options.output_stride or 16,
            backbone_weights=options.backbone_weights,
        )
    print(f"{model.name}: {model.count_params():,} parameters; {source.num_examples} samples, {steps} steps")
    multipliers = None
    if options.head_multiplier != 1.0:
        head = "^(image_pooling|aspp|concat_projection|feature_projection|decoder|logits)"
        multipliers = {head: options.head_multiplier}
    result = keras_deeplab.train(
        model,
        source,
        options.run_dir,
        steps=steps,
        crop_size=options.crop_size,
        batch_size=options.batch_size,
        optimizer=options.optimizer,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        power=options.power,
        warmup_steps=options.warmup_steps,
        learning_rate_multipliers=multipliers,
        scale_range=options.scale_range,
        scale_step=options.scale_step,
        flip=not options.no_flip,
        brightness=options.colour_jitter,
        contrast=options.colour_jitter,
        saturation=options.colour_jitter,
        class_weights=options.class_weights,
        top_k_fraction=options.top_k_fraction,
        freeze_batch_norm=options.freeze_batch_norm,
        validation=validation,
        validation_every=options.validation_every,
        validation_limit=options.validation_limit,
        validation_input_size=options.input_size,
        checkpoint_every=options.checkpoint_every,
        seed=options.seed,
        restart=options.restart,
    )
    best = result["best"]
    if best is not None:
        print(f"best: mIoU {best['mean_iou']:.4f} at step {best['step']}: {result['best_model']}")
    print(f"last: {result['last']}")


# evaluate ---------------------------------------------------------------------------------------------------


def _add_predictor(parser):
    parser.add_argument("model", metavar="MODEL", help=_MODEL + ", .tflite file, or SavedModel folder")
    parser.add_argument("--output-stride", type=_positive, help="for checkpoints: 8, 16 (their default) or 32")
    parser.add_argument("--input-size", type=_size, help="pad images to N or HEIGHTxWIDTH, at the bottom and right")
    parser.add_argument("--scales", type=_numbers, default=(1.0,), metavar="S,S,...", help="average over image scales")
    parser.add_argument("--flip", action="store_true", help="average over the mirrored image too")


def _make_predictor(options):
    from keras_deeplab.inference.predictor import predictor

    return predictor(options.model, options.input_size, options.output_stride, scales=options.scales, flip=options.flip)


def _add_evaluate(parser):
    _add_predictor(parser)
    _add_data(parser, "val")
    parser.add_argument("--limit", type=_positive, help="number of images; by default all")
    parser.add_argument("--json", metavar="FILE", help="write the figures to a file too")


def _evaluate(options):
    from keras_deeplab.data.masks import write_whole
    from keras_deeplab.inference.evaluation import evaluate

    source = _load_data(options, options.data, options.split)
    matrix = evaluate(_make_predictor(options), source, limit=options.limit)
    print(matrix.table(source.classes))
    if options.json:
        write_whole(options.json, json.dumps(matrix.to_dict(), indent=1).encode())


# predict ----------------------------------------------------------------------------------------------------


def _add_predict(parser):
    _add_predictor(parser)
    _add_segmented(parser)


def _add_segmented(parser):
    parser.add_argument("inputs", metavar="IMAGE", nargs="+", help="image files, folders, or patterns")
    parser.add_argument("--output-dir", default="predictions", help="folder for the label and overlay PNGs")
    parser.add_argument("--classes", metavar="FILE", help="text file of class names, for the legend")
    parser.add_argument("--alpha", type=float, default=0.5, help="weight of the colours in the overlay")


def _predict(options):
    predict = _make_predictor(options)
    classes = None
    if options.classes and predict.num_labels:
        classes = _class_names(options.model, options.classes, predict.num_labels)
    return _segment_files(predict, options, classes)


def _segment_files(predict, options, classes):
    from keras_deeplab.inference.files import segment_files

    written, failures = segment_files(predict, options.inputs, options.output_dir, classes=classes, alpha=options.alpha)
    print(f"{len(written)} images segmented into {options.output_dir}")
    if failures:
        print(f"{len(failures)} failed, each told above", file=sys.stderr)
    return 1 if failures else 0


# export -----------------------------------------------------------------------------------------------------


def _add_saved_model(parser):
    _add_model(parser)
    parser.add_argument(
        "output", metavar="OUT", help="folder of the model's versions, e.g. savedmodels/voc; a new version is added"
    )
    parser.add_argument("--version", type=_positive, help="the version's number; by default the next")
    parser.add_argument("--overwrite", action="store_true", help="replace that version")
    parser.add_argument("--classes", metavar="FILE", help="text file of class names to put beside the model")
    parser.add_argument("--portable", action="store_true", help="for GPUs and processors other than x86; slower")
    parser.add_argument("--max-pixels", type=_positive, default=1 << 24, help="refuse larger images unread")
    parser.add_argument("--warmup-size", type=_size, default=513, help="N or HEIGHTxWIDTH of the warm-up requests")
    parser.add_argument("--no-warmup", action="store_true", help="leave the warm-up requests out")
    parser.add_argument(
        "--batch-requests", type=_positive, metavar="N", help="let the server compute N images of several calls at once"
    )


def _export_saved_model(options):
    from keras_deeplab.export.saved_model import export_saved_model, next_version
    from keras_deeplab.serving.config import FILES, MODELS_CONFIG, update_models_config

    model = _load_model(options)
    target = Path(options.output) / str(options.version) if options.version else next_version(options.output)
    path = export_saved_model(
        model,
        target,
        classes=_class_names(options.model, options.classes, model.output_shape[-1]),
        overwrite=options.overwrite,
        portable=options.portable,
        max_pixels=options.max_pixels,
        warmup_size=None if options.no_warmup else options.warmup_size,
        batch_requests=options.batch_requests,
    )
    print(f"SavedModel: {path} (signatures serving_default, logits, probabilities, encoded, encoded_labels)")
    # Only where somebody serves: no files appear in a folder that is for something else.
    folder = path.absolute().parent.parent
    if any((folder / name).exists() for name in (MODELS_CONFIG, *FILES)) and update_models_config(folder):
        print(f"{folder / MODELS_CONFIG}: now names {path.absolute().parent.name}")


def _add_serving_config(parser):
    parser.add_argument(
        "folder", metavar="FOLDER", nargs="?", default="savedmodels", help="folder of the models' folders"
    )


def _serving_config(options):
    from keras_deeplab.serving.config import write_config

    written = write_config(options.folder)
    print(f"{options.folder}: " + (f"wrote {', '.join(written)}" if written else "has all files and names all models"))


def _add_segment(parser):
    parser.add_argument("--server", required=True, help="grpc://HOST:8500 or http://HOST:8501")
    parser.add_argument("--model", required=True, metavar="NAME", help="the model's name on the server")
    parser.add_argument("--version", type=_positive, help="one of its versions; by default the newest")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds for an image, with all attempts")
    parser.add_argument("--retries", type=int, default=4, help="new attempts where the server is too busy")
    _add_segmented(parser)


def _segment(options):
    from keras_deeplab.serving import Client

    settings = {"version": options.version, "timeout": options.timeout, "retries": options.retries}
    with Client(options.server, options.model, **settings) as client:
        states = client.status()
        if not any(entry["state"] == "AVAILABLE" for entry in states):
            raise OSError(f"{client.server} has the model {options.model}, but no version of it is ready: {states}")
        count = client.num_classes()
        # The place of the model's own files, which only the server knows.
        classes = _class_names(os.devnull, options.classes, count) if count else None
        return _segment_files(client.segment, options, classes)


def _add_output(parser):
    group = parser.add_argument_group("what the file takes and returns")
    group.add_argument("--output-kind", choices=["labels", "logits", "probabilities"], default="labels", help="output")
    group.add_argument(
        "--no-upsample", action="store_true", help="leave the last resize of logits and probabilities to the caller"
    )
    group.add_argument("--classes", metavar="FILE", help="text file of class names, for the file's metadata")
    group.add_argument("--palette", metavar="FILE", help="text file of their colours: R G B a line, by class")


def _add_comparison(parser):
    group = parser.add_argument_group("comparison with the model")
    group.add_argument("--evaluate", metavar="DATA", help="data set with masks to compare on")
    group.add_argument("--split", default="val", help="split of it to compare on")
    group.add_argument("--limit", type=_positive, help="images to compare on; by default all")
    group.add_argument(
        "--max-miou-drop", type=float, metavar="SHARE", help="refuse a file that loses more mIoU, e.g. 0.003"
    )
    group.add_argument("--rounds", type=_positive, default=20, help="how often each file is timed; the least counts")
    group.add_argument("--threads", type=_positive, help="threads of the runtimes; by default all cores")
    _add_data_options(parser)


def _notes(options, model, source):
    """Class names and colours for an exported file: those of the files named, else of the data it is compared on."""
    classes, palette = None, None
    if source is not None and source.num_classes == model.output_shape[-1]:
        classes, palette = list(source.classes), source.palette
    if options.classes or classes is None:
        classes = _class_names(options.model, options.classes, model.output_shape[-1])
    if options.palette:
        import numpy as np

        rows = [line.split()[:3] for line in Path(options.palette).read_text("utf-8").splitlines() if line.strip()]
        try:
            palette = np.array([[int(value) for value in row] for row in rows], np.uint8)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{options.palette} must hold three numbers in 0..255 a line (R G B): {error}") from error
    return {"classes": classes, "palette": palette}


def _add_tflite(parser):
    _add_model(parser)
    parser.add_argument(
        "output", metavar="OUT.tflite", help="file to write; of several precisions OUT-PRECISION.tflite"
    )
    parser.add_argument(
        "--precision",
        type=lambda text: text.split(","),
        default=["float32"],
        help="float32, float16, dynamic, int8_weights, int8, int16x8, several with commas, or all",
    )
    parser.add_argument(
        "--input-size",
        type=_sizes,
        help="N or HEIGHTxWIDTH of the images on the device; several with commas for one file that takes each; or "
        "dynamic for a file that takes any",
    )
    parser.add_argument(
        "--calibration",
        metavar="FOLDER",
        help="a data set (its training split) or a folder of photographs: int8 and int16x8 need it, dynamic and "
        "int8_weights lose less with it",
    )
    parser.add_argument("--calibration-samples", type=_positive, default=100, help="images to calibrate on")
    parser.add_argument(
        "--input-type",
        choices=["uint8", "float32", "int8"],
        help="type of its input; by default uint8 for int8, else float32",
    )
    parser.add_argument(
        "--output-type", choices=["int8", "uint8", "float32"], help="type of an int8 file's logits or probabilities"
    )
    parser.add_argument("--allow-float", action="store_true", help="an int8 file may have operators in floating point")
    parser.add_argument(
        "--float-tensors",
        type=int,
        default=0,
        help="keep so many tensors of an int8 file, the most sensitive, in float",
    )
    parser.add_argument(
        "--fine-tune-steps", type=int, default=0, help="train an int8 file's kernels for so many steps; needs no labels"
    )
    parser.add_argument(
        "--layer-errors",
        type=_positive,
        nargs="?",
        const=4,
        metavar="IMAGES",
        help="print the error of each layer of an int8 or int16x8 file on so many calibration images",
    )
    parser.add_argument(
        "--runtimes",
        type=lambda text: text.split(","),
        default=[],
        help="rows for an ONNX file of the model in these: onnxruntime, openvino",
    )
    _add_output(parser)
    _add_comparison(parser)


def _sizes(text):
    """As `_size`; `257,321x513` to [257, (321, 513)] and `dynamic` to itself."""
    if text == "dynamic":
        return text
    sizes = [_size(part) for part in text.split(",")]
    return sizes[0] if len(sizes) == 1 else sizes


def _export_tflite(options):
    from keras_deeplab.export import compare
    from keras_deeplab.export.tflite import PRECISIONS, export_precisions

    precisions = list(PRECISIONS) if options.precision == ["all"] else options.precision
    model = _load_model(options)
    data = options.evaluate
    if data is None and options.calibration and (Path(options.calibration) / "masks").is_dir():
        data = options.calibration
    if data is None and options.max_miou_drop is not None:
        raise ValueError("--max-miou-drop needs labelled images to compare on: give --evaluate DATA")
    source = None if data is None else _load_data(options, data, options.split)
    settings = {
        "input_size": options.input_size,
        "calibration": options.calibration,
        "calibration_samples": options.calibration_samples,
        "output": options.output_kind,
        "upsample": not options.no_upsample,
        "input_type": options.input_type,
        "output_type": options.output_type,
        "allow_float": options.allow_float,
        "float_tensors": options.float_tensors,
        "fine_tune_steps": options.fine_tune_steps,
        "layer_errors": options.layer_errors or 0,
        **_notes(options, model, source),
    }
    files, rows = export_precisions(
        model,
        options.output,
        precisions,
        source,
        limit=options.limit,
        max_miou_drop=options.max_miou_drop,
        rounds=options.rounds,
        num_threads=options.threads,
        runtimes=options.runtimes,
        **settings,
    )
    for file in files:
        if file.layer_errors is not None:
            print(f"{file.path}: error of each layer\n{compare.layer_table(file.layer_errors)}\n")
    for file in files:
        kinds = ", ".join(f"{count} {name}" for name, count in sorted(file.operators.items()))
        sizes = ", ".join(f"{height}x{width}" for height, width in file.input_sizes) or "any"
        print(f"{file.path}: {file.bytes:,} bytes, {file.precision}, input {sizes}\n  {kinds}")
    print(f"\n{compare.table(rows)}")
    if source is None:
        print("not compared with the model: give --evaluate DATA, a data set with masks")
    return _refused(files, rows)


def _refused(files, rows):
    """Says which files lost too much; the command's exit status."""
    paths = {file.path for file in files}
    refused = [row for row in rows if row.rejected and row.path in paths]
    for row in refused:
        at = f" at {row.size[0]}x{row.size[1]}" if row.size else ""
        print(
            f"keras-deeplab: error: the converted file is no good{at}: {row.verification}. It was left as {row.path} "
            "for inspection; nothing was written under the name asked for",
            file=sys.stderr,
        )
    return 1 if refused else 0


def _add_onnx(parser):
    _add_model(parser)
    parser.add_argument("output", metavar="OUT.onnx", help="file to write")
    parser.add_argument("--input-size", type=_size, help="N or HEIGHTxWIDTH of the images; by default any")
    parser.add_argument("--input-type", choices=["float32", "uint8"], default="float32", help="type of its input")
    parser.add_argument(
        "--runtimes",
        type=lambda text: text.split(","),
        default=["onnxruntime"],
        help="what to compare it in: onnxruntime, openvino or both with a comma",
    )
    _add_output(parser)
    _add_comparison(parser)


def _export_onnx(options):
    from keras_deeplab.export import compare
    from keras_deeplab.export.onnx import export_compared

    model = _load_model(options)
    if options.evaluate is None and options.max_miou_drop is not None:
        raise ValueError("--max-miou-drop needs labelled images to compare on: give --evaluate DATA")
    source = None if options.evaluate is None else _load_data(options, options.evaluate, options.split)
    file, rows = export_compared(
        model,
        options.output,
        source,
        runtimes=options.runtimes,
        limit=options.limit,
        max_miou_drop=options.max_miou_drop,
        rounds=options.rounds,
        num_threads=options.threads,
        input_size=options.input_size,
        input_type=options.input_type,
        output=options.output_kind,
        upsample=not options.no_upsample,
        **_notes(options, model, source),
    )
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(file.operators.items()))
    size = "{}x{}".format(*file.input_size) if file.input_size else "any"
    print(f"{file.path}: {file.bytes:,} bytes, input {size}\n  {kinds}\n\n{compare.table(rows)}")
    if source is None:
        print("not compared with the model: give --evaluate DATA, a data set with masks")
    return _refused([file], rows)


# demo -------------------------------------------------------------------------------------------------------


def _add_demo(parser):
    parser.add_argument("model", metavar="MODEL.tflite", help="file that export-tflite wrote, of a fixed input size")
    parser.add_argument("--output", default="demo", help="folder of the page; any web server can publish it")
    parser.add_argument("--classes", metavar="FILE", help="text file of class names, instead of those in the model")
    parser.add_argument(
        "--input-range",
        type=_numbers,
        default=(0.0, 255.0),
        metavar="LOW,HIGH",
        help="what 0..255 is mapped to, for float files that don't normalise themselves",
    )
    parser.add_argument(
        "--runtime", metavar="FOLDER", help="node_modules with LiteRT; by default a cache, which npm fills once"
    )
    parser.add_argument("--no-serve", action="store_true", help="write the page and end")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve it on; this machine only by default")
    parser.add_argument("--port", type=int, default=8000, help="port to serve it on, 0 for any")


def _demo(options):
    from keras_deeplab.demo.page import check_model, write_page
    from keras_deeplab.demo.server import serve

    facts = check_model(options.model)
    classes = None  # those in the file
    if facts.num_classes and (options.classes or not facts.classes):
        classes = _class_names(options.model, options.classes, facts.num_classes)
    elif options.classes:
        classes = [line.strip() for line in Path(options.classes).read_text("utf-8").splitlines() if line.strip()]
    folder = write_page(
        options.model, options.output, classes=classes, input_range=options.input_range, runtime=options.runtime
    )
    print(f"page: {folder} (images of {facts.input_size[0]}x{facts.input_size[1]}, {facts.input_type})", flush=True)
    if not options.no_serve:
        serve(folder, options.host, options.port)


# inspect, convert, export-weights ----------------------------------------------------------------------------


def _add_source(parser):
    parser.add_argument(
        "--source", default="auto", help="who wrote it: tf1, vainf, torchvision, ...; by default its names tell"
    )


def _add_inspect(parser):
    parser.add_argument("file", metavar="FILE", help=_MODEL)
    parser.add_argument("--names", action="store_true", help="list all arrays: name, shape, type")
    _add_source(parser)


def _inspect(options):
    from keras_deeplab.metadata import tflite as _tflite_metadata
    from keras_deeplab.weights.describe import describe

    print(describe(options.file, options.source, names=options.names))
    if options.file.lower().endswith(".tflite"):
        about = _tflite_metadata.describe(options.file)
        print(about or "no metadata of its own: class names and palette are unknown")


def _add_convert(parser):
    parser.add_argument("checkpoint", metavar="IN", help=f"any {_CHECKPOINT}")
    parser.add_argument("output", metavar="OUT", help="file to write: .keras, or .weights.h5 with the network beside")
    _add_source(parser)
    parser.add_argument("--output-stride", type=_positive, help="8, 16 or 32; by default the source's own")
    parser.add_argument("--num-classes", type=_positive, help="other than the checkpoint's: the last layer starts anew")
    parser.add_argument("--no-preprocessing", action="store_true", help="the model takes normalised images, not pixels")


def _convert(options):
    from keras_deeplab import load
    from keras_deeplab.weights import opened
    from keras_deeplab.weights.describe import text
    from keras_deeplab.weights.writers import save_keras, suffix_of_keras

    suffix_of_keras(options.output)  # before the work
    with opened(options.checkpoint) as stored:
        print(text(stored, options.source))
        model = load(
            stored,
            source=options.source,
            output_stride=options.output_stride,
            num_classes=options.num_classes,
            include_preprocessing=not options.no_preprocessing,
        )
    save_keras(model, options.output)
    size = os.path.getsize(options.output)
    print(f"{options.output}: {model.name}, {model.count_params():,} parameters, {size:,} bytes")


def _add_export_weights(parser):
    _add_model(parser)
    parser.add_argument(
        "output", metavar="OUT", help="file to write: .pth or .safetensors; for tf1 the prefix of a checkpoint"
    )
    parser.add_argument("--source", required=True, help="whose names: torchvision, vainf, tf1, ...")


def _export_weights(options):
    from keras_deeplab.weights.writers import export_weights

    arrays = export_weights(_load_model(options), options.output, options.source)
    print(f"{options.output}: {len(arrays)} arrays with the names of {options.source}")


# receptive-field, models --------------------------------------------------------------------------------------


def _add_receptive_field(parser):
    parser.add_argument(
        "network",
        metavar="NETWORK",
        help="a registered backbone, a published model (see the command models), or a .keras file",
    )
    parser.add_argument(
        "--output-stride", type=_positive, help="for backbones and published models; by default their own"
    )
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")


def _receptive_field(options):
    from keras_deeplab.summary import field_table, open_network, receptive_field

    print(field_table(receptive_field(open_network(options.network, options.output_stride)), options.markdown))


def _add_models(parser):
    parser.add_argument("pattern", metavar="PATTERN", nargs="?", default="", help="part of a name or backbone")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table, with all accuracies")
    parser.add_argument(
        "--counts", action="store_true", help="compare published parameters and multiply-adds with the code's instead"
    )


def _models(options):
    from keras_deeplab.summary import comparison_table, summary_table

    table = comparison_table if options.counts else summary_table
    print(table(options.pattern, options.markdown, progress=True))


def _quickstart(options):
    from keras_deeplab.quickstart import quickstart

    settings = {} if options.steps is None else {"steps": options.steps}
    quickstart(options.output, **settings)


if __name__ == "__main__":
    sys.exit(main())
