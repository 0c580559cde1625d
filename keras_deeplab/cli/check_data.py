"""`keras-deeplab check-data`."""

from typing import TYPE_CHECKING

from keras_deeplab.cli.shared import DATA, load_data
from keras_deeplab.cli.train import Arguments as TrainArguments
from keras_deeplab.data.settings import DataOptions
from keras_deeplab.options import OptionError, Options, Size, in_flags, nested, option, record

if TYPE_CHECKING:
    from keras_deeplab.data.source import Source

HELP = "Look for what is wrong with a data set, before training on it."


@record
class Arguments(Options):
    data: str = option(help=DATA, flag=None, metavar="DATA")
    split: str = option("train", "which split of it is to be trained on")
    val_split: str = option("val", "split to validate on; none: no validation")
    crop_size: Size = option(513, "of the training crops")
    html: str | None = option(None, "a page with pictures of all that is found, to be written here", metavar="FILE")
    all: bool = option(False, "whether every file of a finding is listed")
    reading: DataOptions = nested(DataOptions)


def run(arguments: Arguments) -> int:
    from keras_deeplab._helpers.files import in_a_folder
    from keras_deeplab.data import doctor

    if arguments.html is not None:
        in_a_folder(arguments.html)
    parts = {arguments.split: _loaded(arguments, arguments.split)}
    if arguments.val_split.lower() != "none":
        name = doctor.other_name(arguments.val_split, arguments.split)
        parts[name] = _loaded(arguments, arguments.val_split)
    examination = doctor.examine(
        parts,
        arguments.data,
        reading=arguments.reading.given(),
        crop_size=arguments.crop_size,
        progress=True,
    )
    print(examination.summary())
    for finding in examination.findings:
        print(in_flags(finding.told(None) if arguments.all else finding.told(), TrainArguments))
    if not examination.findings:
        print("nothing found")
    if shares := examination.shares():
        print(shares)
    if arguments.html is not None:
        from keras_deeplab.reports.data import data_page

        path = data_page(examination, f"Data: {arguments.data}", lambda text: in_flags(text, TrainArguments)).write(
            arguments.html
        )
        print(f"pictures: {path}")
    return 1 if examination.errors else 0


def _loaded(arguments: Arguments, split: str) -> "Source | Exception":
    """A split, or why it can't be read; mistakes in the options of this command are raised."""
    try:
        return load_data(arguments.data, split, arguments.reading)
    except OptionError:
        raise
    except (ValueError, OSError) as error:
        return error
