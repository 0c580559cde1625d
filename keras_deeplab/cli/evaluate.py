"""`keras-deeplab evaluate`."""

import json
from typing import Any

from keras_deeplab.cli.shared import DATA, AnyModel, load_data
from keras_deeplab.data.settings import CLASS_MAP, CLASS_MAP_HELP, DataOptions
from keras_deeplab.inference.protocols import ScoringOptions
from keras_deeplab.options import Options, nested, option, record

HELP = "Score a model on a data set: IoU of each class and the mean."


@record
class Arguments(Options):
    network: AnyModel = nested(AnyModel)
    scoring: ScoringOptions = nested(ScoringOptions)
    data: str = option(help=DATA, flag=None, metavar="DATA")
    split: str = option("val", "which split of it")
    limit: int | None = option(None, "number of images; by default all", minimum=1)
    class_map: Any = option(None, CLASS_MAP_HELP, kind=CLASS_MAP)
    json: str | None = option(None, "write the figures to a file too", metavar="FILE")
    reading: DataOptions = nested(DataOptions)


def run(arguments: Arguments) -> None:
    from keras_deeplab._helpers.files import write_whole
    from keras_deeplab.inference.evaluation import evaluate

    predict = arguments.network.predictor()
    source = load_data(arguments.data, arguments.split, arguments.reading, predict.spec)
    if predict.spec is None or predict.spec.classes.names is None:
        print(
            f"{arguments.network.model} doesn't tell its classes; they are taken to be those of the data, in its order "
            "(--classes names them)"
        )
    how = {**arguments.network.settings.values(), **arguments.scoring.values()}
    matrix = evaluate(predict, source, limit=arguments.limit, class_map=arguments.class_map, **how)
    print(matrix.table())
    if arguments.json:
        write_whole(arguments.json, json.dumps(matrix.to_dict(), indent=1).encode())
