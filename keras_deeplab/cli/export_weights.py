"""`keras-deeplab export-weights`."""

from keras_deeplab.cli.shared import StoredModel
from keras_deeplab.options import Options, nested, option, record

HELP = "Write a model's weights as other code has them."


@record
class Arguments(Options):
    network: StoredModel = nested(StoredModel)
    output: str = option(
        help="file to write: .pth or .safetensors; for tf1 the prefix of a checkpoint, for transformers and keras_hub "
        "a folder",
        flag=None,
        metavar="OUT",
    )
    source: str = option(help="whose names: torchvision, vainf, tf1, ...")


def run(arguments: Arguments) -> None:
    import keras_deeplab

    arrays = keras_deeplab.export_weights(arguments.network.load(), arguments.output, arguments.source)
    print(f"{arguments.output}: {len(arrays)} arrays with the names of {arguments.source}")
