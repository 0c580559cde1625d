"""`keras-deeplab prune`."""

from typing import Any

from keras_deeplab.cli.shared import DATA, StoredModel, load_data
from keras_deeplab.data.settings import CLASS_MAP, CLASS_MAP_HELP, DataOptions
from keras_deeplab.options import Numbers, OptionError, Options, Size, nested, option, record

HELP = "Take the channels out of a model that its answers miss least, as measured on your data."


@record
class Arguments(Options):
    network: StoredModel = nested(StoredModel)
    data: str = option(help=DATA, flag=None, metavar="DATA")
    output: str = option(help="file to write", flag=None, metavar="OUT.keras")
    multiply_adds: float = option(0.75, "the share of the multiply-adds to keep", above=0, below=1)
    shares: Numbers = option((0.25, 0.5, 0.75), "of a group's channels to try without", above=0, below=1)
    split: str = option("train", "which split of the data channels are looked at and tried on")
    samples: int = option(32, "photographs that channels are looked at on", minimum=1)
    limit: int = option(16, "labelled photographs that each group is tried on", minimum=1)
    input_size: Size = option((513, 513), "of the images that multiply-adds are counted of")
    class_map: Any = option(None, CLASS_MAP_HELP, kind=CLASS_MAP)
    reading: DataOptions = nested(DataOptions)

    def checked(self) -> None:
        if not self.output.endswith(".keras"):
            raise OptionError("OUT must be the name of a .keras file; received {name}", name=repr(self.output))


def run(arguments: Arguments) -> None:
    from keras_deeplab import pruning
    from keras_deeplab._helpers.files import in_a_folder, replacing
    from keras_deeplab.export.calibration import Calibration
    from keras_deeplab.specs.model import spec_of
    from keras_deeplab.summary import count_parameters, multiply_adds

    output = in_a_folder(arguments.output)  # refused before any work
    model = arguments.network.load()
    source = load_data(arguments.data, arguments.split, arguments.reading, model.spec)
    own = tuple(model.inputs[0].shape[1:3])
    images = Calibration(source, arguments.samples, model.spec).images(None if None in own else own)
    look = pruning.Pruning(model, images)
    whole, measured = pruning.sensitivities(
        look, source, arguments.shares, limit=arguments.limit, class_map=arguments.class_map
    )
    print(pruning.table(measured, whole))
    size: Any = own if None not in own else arguments.input_size
    shares = pruning.shares_for(look, measured, arguments.multiply_adds, pruning.Costs(look, size))
    narrow = look.narrow(look.kept(shares))
    with replacing(output) as temporary:
        narrow.save(temporary)
    for title, count in (
        ("parameters", lambda one: count_parameters(one).total),
        (f"multiply-adds at {size[0]}x{size[1]}", lambda one: multiply_adds(one, size)),
    ):
        before, after = count(model), count(narrow)
        print(f"{title}: {before:,} to {after:,} ({after / before:.1%})")
    print(
        f"{output}: {len(spec_of(narrow).widths)} convolutions are narrower. Score it (evaluate {output} DATA), and "
        f"train it again where it lost too much (train DATA --weights {output})"
    )
