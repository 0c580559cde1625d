"""`keras-deeplab import-data`."""

from keras_deeplab.cli.shared import DATA, load_data
from keras_deeplab.data.settings import DataOptions
from keras_deeplab.options import Names, Options, nested, option, record

HELP = "Bring a data set of any kind into a folder with images/, masks/, splits/ and classes.txt."


@record
class Arguments(Options):
    source: str = option(help=DATA, flag=None, metavar="SOURCE")
    folder: str = option(help="folder to write; must not be there, or be empty", flag=None, metavar="FOLDER")
    splits: Names | None = option(None, "which splits, by default all that it has; all: every image, without lists")
    reading: DataOptions = nested(DataOptions)


def run(arguments: Arguments) -> None:
    from keras_deeplab import data
    from keras_deeplab.data.importing import write_folder

    splits = arguments.splits or data.splits_of(arguments.source)
    if arguments.splits is None and arguments.reading.val_share is not None and "val" not in splits:
        splits = (*splits, "val")  # divides train
    sources = {split: load_data(arguments.source, split, arguments.reading) for split in splits}
    written = write_folder(arguments.folder, sources, progress=True)
    for split, names in written.splits.items():
        print(f"{split}: {len(names)} image{'s' * (len(names) != 1)}")
    first = next(iter(sources.values()))
    print(
        f"{arguments.folder}: {written.copied} images copied as they are, {written.encoded} written anew; classes "
        f"{', '.join(first.classes)}"
    )
    channels = f" --channels {first.channels}" * (first.channels != 3)
    alone = " --split all --val-split none" * (splits == ("all",))
    print(f"keras-deeplab train {arguments.folder} --run-dir RUN{channels}{alone}")
