"""`keras-deeplab quickstart`."""

from keras_deeplab.options import Options, option, record

HELP = "Train, evaluate and export a small model on drawn images."


@record
class Arguments(Options):
    output: str = option("quickstart", "folder for everything it writes", metavar="FOLDER")
    steps: int | None = option(None, "training steps; by default enough", minimum=1)


def run(arguments: Arguments) -> None:
    from keras_deeplab.quickstart import quickstart

    quickstart(**arguments.given())
