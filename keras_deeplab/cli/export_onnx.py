"""`keras-deeplab export-onnx`."""

from keras_deeplab.cli.shared import Comparison, Identity, StoredModel, told_refusals
from keras_deeplab.export.settings import ONNXOptions
from keras_deeplab.options import Options, nested, option, record

HELP = "Write an ONNX file and compare it with the model."


@record
class Arguments(Options):
    network: StoredModel = nested(StoredModel)
    path: str = option(help="file to write", flag=None, metavar="OUT.onnx")
    settings: ONNXOptions = nested(ONNXOptions)
    identity: Identity = nested(Identity)
    comparison: Comparison = nested(Comparison)


def run(arguments: Arguments) -> int:
    from keras_deeplab.export import compare
    from keras_deeplab.export.onnx import export_compared

    model = arguments.identity.named(arguments.network.load())
    source = arguments.comparison.source(model.spec)
    compared = arguments.comparison.settings
    file, rows = export_compared(
        model,
        arguments.path,
        source,
        **compared.values() | {"runtimes": compared.runtimes or ("onnxruntime",)},
        **arguments.settings.values(),
    )
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(file.operators.items()))
    size = "{}x{}".format(*file.input_size) if file.input_size else "any"
    print(f"{file.path}: {file.bytes:,} bytes, input {size}\n  {kinds}\n\n{compare.table(rows)}")
    print(f"on random pictures it differs from the model by {file.difference:.1g} of the range of the scores")
    if source is None:
        print("not compared on photographs: give --evaluate DATA, a data set with masks")
    return told_refusals([file], rows)
