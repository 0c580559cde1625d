"""`keras-deeplab inspect`."""

from keras_deeplab.cli.shared import MODEL, PREFIX, SOURCE
from keras_deeplab.options import Options, option, record

HELP = "Print what a file of weights holds; no code in it is run."


@record
class Arguments(Options):
    file: str = option(help=MODEL, flag=None, metavar="FILE")
    names: bool = option(False, "whether all arrays are listed: name, shape, type")
    source: str = option("auto", SOURCE)
    prefix: str | None = option(None, PREFIX)


def run(arguments: Arguments) -> None:
    from keras_deeplab.loading import planned, refusal
    from keras_deeplab.metadata import tflite
    from keras_deeplab.weights.describe import describe

    print(describe(arguments.file, arguments.source, arguments.names, arguments.prefix, refusal, planned))
    if arguments.file.lower().endswith(".tflite"):
        print(tflite.describe(arguments.file) or "no metadata of its own: class names and palette are unknown")
