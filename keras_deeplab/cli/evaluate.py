"""`keras-deeplab evaluate`."""

import json
from typing import Any

from keras_deeplab.cli.shared import DATA, AnyModel, load_data
from keras_deeplab.data.settings import DataOptions
from keras_deeplab.options import Kind, Options, nested, option, read_pairs, record

HELP = "Score a model on a data set: IoU of each class and the mean."


def _class_map(value: Any) -> Any:
    return value if value == "names" else {str(data): model or None for data, model in dict(value).items()}


CLASS_MAP = Kind(
    '"names", or a dict from names of the data to names of the model',
    _class_map,
    lambda text: text if text == "names" else read_pairs(text),
    "names, or DATA=MODEL,... (an empty name ignores)",
    "names|DATA=MODEL,...",
)


@record
class Arguments(Options):
    network: AnyModel = nested(AnyModel)
    data: str = option(help=DATA, flag=None, metavar="DATA")
    split: str = option("val", "which split of it")
    limit: int | None = option(None, "number of images; by default all", minimum=1)
    class_map: Any = option(
        None,
        "for data of other classes than the model's: names pairs them by name and ignores the rest; or which is which",
        kind=CLASS_MAP,
    )
    json: str | None = option(None, "write the figures to a file too", metavar="FILE")
    reading: DataOptions = nested(DataOptions)


def run(arguments: Arguments) -> None:
    from keras_deeplab._helpers.files import write_whole
    from keras_deeplab.inference.evaluation import evaluate

    source = load_data(arguments.data, arguments.split, arguments.reading)
    predict = arguments.network.predictor()
    matrix = evaluate(predict, source, limit=arguments.limit, class_map=arguments.class_map)
    print(matrix.table())
    if arguments.json:
        write_whole(arguments.json, json.dumps(matrix.to_dict(), indent=1).encode())
