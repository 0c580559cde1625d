"""`keras-deeplab report`."""

from keras_deeplab.cli.shared import DATA, load_data
from keras_deeplab.data.settings import DataOptions
from keras_deeplab.options import OptionError, Options, nested, option, record

HELP = "Write the page, curves and table of a training run's folder again; with a data set, pictures too."


@record
class Arguments(Options):
    run_dir: str = option(help="folder of the run", flag=None, metavar="RUN_DIR")
    data: str | None = option(None, f"what the best model is shown on: {DATA}", metavar="DATA")
    split: str = option("val", "which split of it")
    pictures: int = option(4, "how many of its images", minimum=1)
    reading: DataOptions = nested(DataOptions)

    def checked(self) -> None:
        if self.data is None and self.reading.given():
            raise OptionError(f"{{{next(iter(self.reading.given()))}}} is for {{data}}, which isn't given")


def run(arguments: Arguments) -> None:
    from keras_deeplab.reports.history import read_run
    from keras_deeplab.reports.run import write_report

    read_run(arguments.run_dir)  # refuses another folder before anything is predicted
    if arguments.data is not None:
        _draw(arguments)
    for path in write_report(arguments.run_dir):
        print(path)


def _draw(arguments: Arguments) -> None:
    from keras_deeplab.inference.predictor import predictor
    from keras_deeplab.reports.panels import chosen, panel
    from keras_deeplab.reports.run import model_of, save_pictures

    source = load_data(arguments.data or "", arguments.split, arguments.reading)
    model = model_of(arguments.run_dir)
    predict = predictor(model)
    samples = [sample.predicted(predict) for sample in chosen(source, arguments.pictures)]
    titles = [f"{sample.name}: {model.name}" for sample in samples]
    pictures = [panel(sample, source.classes_spec) for sample in samples]
    save_pictures(arguments.run_dir, list(zip(pictures, titles, strict=True)))
