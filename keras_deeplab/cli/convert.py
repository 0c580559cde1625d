"""`keras-deeplab convert`."""

import os

from keras_deeplab.cli.inspect import SOURCE
from keras_deeplab.cli.shared import CHECKPOINT, Identity
from keras_deeplab.options import Options, nested, option, record

HELP = "Turn a checkpoint of other code into a file of Keras."


@record
class Arguments(Options):
    checkpoint: str = option(help=f"any {CHECKPOINT}", flag=None, metavar="IN")
    output: str = option(help="file to write: .keras, or .weights.h5 with the network beside", flag=None, metavar="OUT")
    source: str = option("auto", SOURCE)
    backbone: str | None = option(None, "which of those that its arrays fit, where they fit several and nothing tells")
    output_stride: int | None = option(None, "8, 16 or 32; by default the source's own", minimum=1)
    num_classes: int | None = option(
        None, "other than the checkpoint's: the last layer starts anew", minimum=1, maximum=65535
    )
    preprocessing: bool = option(True, "whether the model takes pixels and normalises them itself")
    identity: Identity = nested(Identity)


def run(arguments: Arguments) -> None:
    from keras_deeplab import load
    from keras_deeplab.weights import opened
    from keras_deeplab.weights.describe import text
    from keras_deeplab.weights.writers import save_keras, suffix_of_keras

    suffix_of_keras(arguments.output)  # before the work
    with opened(arguments.checkpoint) as stored:
        print(text(stored, arguments.source))
        chosen = {} if arguments.backbone is None else {"backbone": arguments.backbone}
        model = load(
            stored,
            **chosen,
            source=arguments.source,
            output_stride=arguments.output_stride,
            num_classes=arguments.num_classes,
            include_preprocessing=arguments.preprocessing,
        )
    model = arguments.identity.named(model)
    save_keras(model, arguments.output)
    size = os.path.getsize(arguments.output)
    print(f"{arguments.output}: {model.name}, {model.count_params():,} parameters, {size:,} bytes")
