"""`keras-deeplab convert`."""

import os

from keras_deeplab.cli.shared import CHECKPOINT, SOURCE, CheckpointOptions, Identity
from keras_deeplab.options import OptionError, Options, Range, nested, option, record
from keras_deeplab.specs import checked_range

HELP = "Turn a checkpoint of other code into a file of Keras."


@record
class Arguments(Options):
    checkpoint: str = option(help=f"any {CHECKPOINT}", flag=None, metavar="IN")
    output: str = option(help="file to write: .keras, or .weights.h5 with the network beside", flag=None, metavar="OUT")
    source: str = option("auto", SOURCE)
    output_stride: int | None = option(None, "8, 16 or 32; by default the source's own", minimum=1)
    num_classes: int | None = option(
        None, "other than the checkpoint's: the last layer starts anew", minimum=1, maximum=65535
    )
    preprocessing: bool = option(True, "whether the model takes pixels and normalises them itself")
    channels: int | None = option(
        None, "of its images, by default the checkpoint's; more are added behind those", minimum=1, maximum=4096
    )
    stem: str | None = option(
        None,
        "how the first kernel gets other channels, by default zero for more (the model computes what it did, whatever "
        "they hold) and sum for fewer",
        choices=("zero", "mean", "sum", "repeat"),
        metavar="WAY",
    )
    image_range: Range | None = option(
        None, "of images of more than 8 bits, the numbers that were 0 and 255 when it was trained: into its record"
    )
    reading: CheckpointOptions = nested(CheckpointOptions)
    identity: Identity = nested(Identity)

    def checked(self) -> None:
        if self.reading.normalisation is not None and not self.preprocessing:
            raise OptionError("{normalisation} is how the model normalises pixels, which {preprocessing} leaves out")
        if self.image_range is not None:
            try:
                checked_range(self.image_range)
            except ValueError as error:
                raise OptionError(str(error).replace("image_range", "{image_range}")) from None


def run(arguments: Arguments) -> None:
    from keras_deeplab import load
    from keras_deeplab.specs.model import with_spec
    from keras_deeplab.weights import opened
    from keras_deeplab.weights.describe import text
    from keras_deeplab.weights.writers import save_keras, suffix_of_keras

    suffix_of_keras(arguments.output)  # before the work
    with opened(arguments.checkpoint) as stored:
        print(text(stored, arguments.source, prefix=arguments.reading.prefix))
        model = load(
            stored,
            **{"include_preprocessing": arguments.preprocessing, **arguments.reading.settings()},
            source=arguments.source,
            output_stride=arguments.output_stride,
            num_classes=arguments.num_classes,
            input_shape=None if arguments.channels is None else (None, None, arguments.channels),
            stem=arguments.stem,
        )
    model = arguments.identity.named(model)
    if arguments.image_range is not None:
        model = with_spec(model, image_range=arguments.image_range)
    save_keras(model, arguments.output)
    size = os.path.getsize(arguments.output)
    print(f"{arguments.output}: {model.name}, {model.count_params():,} parameters, {size:,} bytes")
