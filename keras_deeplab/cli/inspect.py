"""`keras-deeplab inspect`."""

from keras_deeplab.cli.shared import MODEL
from keras_deeplab.options import Options, option, record

HELP = "Print what a file of weights holds; nothing in it is run."
PREFIX = "what the names of the arrays begin with, of a file that holds several networks, such as ema_model"
SOURCE = "who wrote it: tf1, vainf, torchvision, ...; auto where its names tell"


@record
class Arguments(Options):
    file: str = option(help=MODEL, flag=None, metavar="FILE")
    names: bool = option(False, "whether all arrays are listed: name, shape, type")
    source: str = option("auto", SOURCE)
    prefix: str | None = option(None, PREFIX)


def run(arguments: Arguments) -> None:
    from keras_deeplab.loading import refusal
    from keras_deeplab.metadata import tflite
    from keras_deeplab.weights.describe import describe

    print(describe(arguments.file, arguments.source, arguments.names, arguments.prefix, refusal))
    if arguments.file.lower().endswith(".tflite"):
        print(tflite.describe(arguments.file) or "no metadata of its own: class names and palette are unknown")
