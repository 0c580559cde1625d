"""`keras-deeplab find-learning-rate`."""

from keras_deeplab.cli.network import Network
from keras_deeplab.cli.shared import DATA, load_data
from keras_deeplab.data.settings import DataOptions
from keras_deeplab.options import Options, in_flags, nested, option, record
from keras_deeplab.training.settings import RangeTest, TrainSettings

HELP = "Try learning rates on the first steps of a training, told by the options of train, and suggest one."


@record
class Arguments(Options):
    data: str = option(help=DATA, flag=None, metavar="DATA")
    split: str = option("train", "which split of it")
    output: str = option("learning_rate.png", "picture of the loss by learning rate", metavar="FILE")
    dtype_policy: str = option("float32", "float32, mixed_float16 or mixed_bfloat16", metavar="POLICY")
    test: RangeTest = nested(RangeTest)
    reading: DataOptions = nested(DataOptions)
    network: Network = nested(Network)
    settings: TrainSettings = nested(TrainSettings)


def run(arguments: Arguments) -> int:
    from keras_deeplab._helpers.files import in_a_folder, write_whole

    output = in_a_folder(arguments.output)  # refused before any work
    source = load_data(arguments.data, arguments.split, arguments.reading)

    import keras

    from keras_deeplab.reports.drawing import png
    from keras_deeplab.training import find_learning_rate

    keras.utils.set_random_seed(arguments.settings.seed)
    keras.config.set_dtype_policy(arguments.dtype_policy)
    found = find_learning_rate(arguments.network.build(source), source, arguments.settings, arguments.test)
    write_whole(output, png([[found.chart()]]))
    print(in_flags(found.told(), Arguments))
    print(f"the curve: {output}")
    return 0 if found.suggestion is not None else 1
