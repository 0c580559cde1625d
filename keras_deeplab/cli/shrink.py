"""`keras-deeplab shrink`."""

import sys
from pathlib import Path

from keras_deeplab.cli.shared import DATA, Identity, StoredModel, load_data
from keras_deeplab.data.settings import DataOptions
from keras_deeplab.export.settings import ShrinkOptions
from keras_deeplab.options import Names, OptionError, Options, nested, option, record

HELP = "Search the TFLite file of a model that is fast enough and as good, and show what there is to choose from."


@record
class Arguments(Options):
    network: StoredModel = nested(StoredModel)
    data: str = option(help=DATA, flag=None, metavar="DATA")
    path: str = option(help="file to write, if one meets what is asked for", flag=None, metavar="OUT.tflite")
    search: ShrinkOptions = nested(ShrinkOptions)
    split: str = option("val", "split of DATA that files are scored on")
    training_split: str = option("train", "split of DATA that channels are looked at and calibrated on")
    also: Names | None = option(
        None, "further .keras files to try with the same classes, such as a pruned one that was trained again"
    )
    folder: str | None = option(
        None, "for all files, table, plot and measurements, which later runs go on from; by default OUT.choices"
    )
    identity: Identity = nested(Identity)
    reading: DataOptions = nested(DataOptions)

    def checked(self) -> None:
        if self.split == self.training_split:
            raise OptionError("{split} scores what {training_split} chose: they must be different splits")
        for name in self.also or ():
            if not name.endswith(".keras"):
                raise OptionError("{also} takes .keras files; received {name}", name=repr(name))


def run(arguments: Arguments) -> int:
    from keras_deeplab import load
    from keras_deeplab.export.front import nearest
    from keras_deeplab.export.shrinking import shrink

    model = arguments.identity.named(arguments.network.load())
    source = load_data(arguments.data, arguments.split, arguments.reading, model.spec)
    training = load_data(arguments.data, arguments.training_split, arguments.reading, model.spec)
    path = Path(arguments.path).expanduser()
    folder = Path(arguments.folder).expanduser() if arguments.folder else path.with_name(f"{path.stem}.choices")
    search = arguments.search
    found = shrink(
        model,
        source,
        path,
        training=training,
        also={Path(name).stem: load(name) for name in arguments.also or ()},
        folder=folder,
        log=lambda line: print(line, flush=True),
        **search.values(),
    )
    print(f"\n{found.table()}\n* no other is as fast and as good")
    print(
        f"times: {found.program}, {found.threads} thread{'s' * (found.threads > 1)}, least of {search.rounds}; scores: "
        f"{found.images} images of {source.name}. Files, table, plot (front.png) and numbers (choices.json): {folder}"
    )
    if found.take is None:
        print(
            "keras-deeplab shrink: error: no file meets what was asked for; nothing was written to "
            f"{path}.\n  " + "\n  ".join(nearest(found.choices, search.target_latency, search.max_miou_drop)),
            file=sys.stderr,
        )
        return 1
    print(f"{path}: {found.choices[found.take].told()}")
    return 0
