"""`keras-deeplab serving-config`."""

from keras_deeplab.options import Options, option, record

HELP = "Write what TensorFlow Serving needs beside exported models."


@record
class Arguments(Options):
    folder: str = option("savedmodels", "folder of the models' folders", flag=None, metavar="FOLDER", nargs="?")


def run(arguments: Arguments) -> None:
    from keras_deeplab.serving.config import write_config

    written = write_config(arguments.folder)
    print(
        f"{arguments.folder}: " + (f"wrote {', '.join(written)}" if written else "has all files and names all models")
    )
