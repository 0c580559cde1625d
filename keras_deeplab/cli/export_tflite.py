"""`keras-deeplab export-tflite`."""

from keras_deeplab.cli.shared import Comparison, Identity, StoredModel, load_data, told_refusals
from keras_deeplab.export.settings import TFLiteOptions
from keras_deeplab.options import Names, Options, nested, option, record

HELP = "Write TFLite files and compare them with the model."


@record
class Arguments(Options):
    network: StoredModel = nested(StoredModel)
    path: str = option(
        help="file to write; of several precisions OUT-PRECISION.tflite", flag=None, metavar="OUT.tflite"
    )
    precision: Names | None = option(
        None,
        "float32, float16, dynamic, int8_weights, int8, int16x8, several with commas, or all; by default float32, or "
        "what --for takes",
    )
    settings: TFLiteOptions = nested(TFLiteOptions)
    identity: Identity = nested(Identity)
    comparison: Comparison = nested(Comparison)


def run(arguments: Arguments) -> int:
    from keras_deeplab import data
    from keras_deeplab.export import compare
    from keras_deeplab.export.tflite import PRECISIONS, export_precisions

    precisions = PRECISIONS if arguments.precision == ("all",) else arguments.precision
    model = arguments.identity.named(arguments.network.load())
    calibration, comparison = arguments.settings.calibration, arguments.comparison
    source = comparison.source(model.spec)
    if source is None and calibration and data.kind_of(calibration) is not None:
        source = load_data(calibration, comparison.split, comparison.reading, model.spec)
    compared = comparison.settings.values() | {"runtimes": comparison.settings.runtimes or ()}
    files, rows = export_precisions(
        model, arguments.path, precisions, source, **compared, **arguments.settings.values()
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
    return told_refusals(files, rows)
