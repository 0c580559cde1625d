"""`keras-deeplab report`: of a training's folder, or of a model on a data set."""

from pathlib import Path
from typing import Any

from keras_deeplab.cli.shared import DATA, MODEL, AnyModel, CheckpointOptions, load_data
from keras_deeplab.data.settings import CLASS_MAP, CLASS_MAP_HELP, DataOptions
from keras_deeplab.inference.protocols import ScoringOptions
from keras_deeplab.options import OptionError, Options, nested, option, options, record

HELP = (
    "Write a page about a model on a data set, or about two, for people to look at (report MODEL DATA); or the page, "
    "curves and table of a training run's folder again (report RUN_DIR)."
)
_PAGE = "report.html"


@record
class _Subject(AnyModel):
    model: str = option(
        help="folder of a training run, the one that has its history.jsonl; or a model to report on: "
        f"{MODEL}, .tflite or .onnx file, or SavedModel folder",
        flag=None,
        metavar="RUN_DIR|MODEL",
    )


@record
class OfARun(Options):
    """What is added to the page of a training run's folder."""

    TITLE = "report RUN_DIR"

    data: str | None = option(None, f"what the best model of the run is shown on: {DATA}", metavar="DATA")
    pictures: int | None = option(None, "how many of its images, by default 4", minimum=1)


@record
class OfAModel(Options):
    """What the page about a model on a data set is of."""

    TITLE = "report MODEL DATA"

    compare: str | None = option(
        None, "another model, put to the same images in the same way: how the first differs from it", metavar="OTHER"
    )
    output: str | None = option(None, f"the file to write, by default {_PAGE}", metavar="FILE")
    json: str | None = option(None, "write the figures to a file too", metavar="FILE")
    limit: int | None = option(None, "number of images; by default all", minimum=1)
    class_map: Any = option(None, CLASS_MAP_HELP, kind=CLASS_MAP)
    trimap: str | None = option(
        None,
        "what the bands of the trimap curve lie around: pixels of any other label (labels, the default), or ignored "
        "ones alone (ignored), which is the papers' band for PASCAL VOC",
        choices=("labels", "ignored"),
    )


@record
class Arguments(Options):
    subject: _Subject = nested(_Subject)
    dataset: str | None = option(
        None, f"for a model, what it is scored on: {DATA}", flag=None, metavar="DATA", nargs="?"
    )
    split: str = option("val", "which split of the data set")
    run: OfARun = nested(OfARun)
    of_model: OfAModel = nested(OfAModel)
    scoring: ScoringOptions = nested(ScoringOptions)
    reading: DataOptions = nested(DataOptions)


def run(arguments: Arguments) -> None:
    from keras_deeplab.reports.history import HISTORY

    first = Path(arguments.subject.model).expanduser()
    if (first / HISTORY).is_file():
        _of_a_run(arguments)
    elif arguments.dataset is not None:
        _of_a_model(arguments)
    elif first.is_dir():
        raise FileNotFoundError(
            f"{first} has no {HISTORY}: name the folder of a run, the run_dir (--run-dir) of its training; or, where "
            "it is a model, the data set to score it on behind it"
        )
    else:
        raise OptionError("{dataset} is missing: name the data set to score {name} on", name=repr(str(first)))


def _of_a_run(arguments: Arguments) -> None:
    from keras_deeplab.reports.history import read_run
    from keras_deeplab.reports.run import write_report

    folder = arguments.subject.model
    read_run(folder)  # refuses another folder before anything is predicted
    if arguments.dataset is not None:
        raise OptionError(
            "{folder} is the folder of a training run, and {dataset} is for a model: give it as {data} to show "
            "pictures in the run's page, or name the run's best.keras to report on it",
            folder=folder,
        )
    others = {**arguments.scoring.asked(), **arguments.subject.asked(), **arguments.of_model.asked()}
    _refuse(others, "{name} is for a model, not for a run's folder")
    if arguments.run.data is None:
        _refuse({**arguments.run.asked(), **arguments.reading.given()}, "{name} is for {data}, which isn't given")
    else:
        _draw(arguments)
    for path in write_report(folder):
        print(path)


def _of_a_model(arguments: Arguments) -> None:
    from keras_deeplab.reports.model import write_model_report

    _refuse(arguments.run.asked(), "{name} is for the folder of a training run, which {model} is not", arguments)
    settings = arguments.of_model
    subjects = [arguments.subject]
    if settings.compare is not None:
        # What is told of the one's arrays says nothing of the other's.
        untold = dict.fromkeys(options(CheckpointOptions))
        subjects.append(arguments.subject.with_options(model=settings.compare, **untold))
    models = {subject.model: subject.predictor() for subject in subjects}
    if len(models) < len(subjects):
        raise OptionError("{compare} is the same model: {model}", model=arguments.subject.model)
    first = models[arguments.subject.model]
    source = load_data(arguments.dataset or "", arguments.split, arguments.reading, first.spec)
    path = settings.output or _PAGE
    found = write_model_report(
        models,
        source,
        path,
        limit=settings.limit,
        class_map=settings.class_map,
        around=settings.trimap or "labels",
        scoring=arguments.scoring,
        figures=settings.json,
    )
    for measured in found:
        print(f"{measured.name}: mean IoU {measured.matrix.mean_iou:.4f}")
    print(path)


def _refuse(asked: dict[str, Any], message: str, arguments: Arguments | None = None) -> None:
    """Refuses the first of some options that were given, other than the words of the command itself."""
    others = [name for name in asked if name != "model"]
    if others:
        named = {} if arguments is None else {"model": arguments.subject.model}
        raise OptionError(message.replace("{name}", f"{{{others[0]}}}"), **named)


def _draw(arguments: Arguments) -> None:
    from keras_deeplab.inference.predictor import predictor
    from keras_deeplab.reports.panels import chosen, panel
    from keras_deeplab.reports.run import model_of, save_pictures

    folder = arguments.subject.model
    model = model_of(folder)
    predict = predictor(model)
    source = load_data(arguments.run.data or "", arguments.split, arguments.reading, predict.spec)
    samples = [sample.predicted(predict) for sample in chosen(source, arguments.run.pictures or 4)]
    titles = [f"{sample.name}: {model.name}" for sample in samples]
    pictures = [panel(sample, source.classes_spec) for sample in samples]
    save_pictures(folder, list(zip(pictures, titles, strict=True)))
