"""`keras-deeplab tune-crf`."""

from pathlib import Path
from typing import Any

from keras_deeplab.cli.shared import DATA, AnyModel, load_data
from keras_deeplab.data.settings import CLASS_MAP, CLASS_MAP_HELP, DataOptions
from keras_deeplab.inference.crf.settings import NORMALISATIONS, Parameters, written
from keras_deeplab.options import Numbers, OptionError, Options, nested, option, record

HELP = "Search the parameters of a dense CRF behind a model, as the DeepLab papers did, and keep the best for --crf."

# The papers' grids: w1, sigma_alpha, sigma_beta.
GRIDS = {
    "v1": (tuple(range(5, 11)), tuple(range(50, 101, 10)), tuple(range(3, 11))),
    "v2": (tuple(range(3, 7)), tuple(range(30, 101, 10)), tuple(range(3, 7))),
}
_SHOWN = 10


@record
class Search(Options):
    """What is tried."""

    TITLE = "search"

    grid: str = option("v2", "whose grid is searched, of DeepLab v1's paper or v2's", choices=tuple(GRIDS))
    w1: Numbers | None = option(None, "weights of pixels alike in place and colour to try, else the grid's", minimum=0)
    sigma_alpha: Numbers | None = option(None, "their deviations in place to try, else the grid's", above=0)
    sigma_beta: Numbers | None = option(None, "their deviations in colour to try, else the grid's", above=0)
    w2: float = option(3.0, "weight of pixels alike in place alone, fixed as in both papers", minimum=0)
    sigma_gamma: float = option(3.0, "their deviation in place, fixed as in both papers", above=0)
    sums: str = option(NORMALISATIONS[0], "how sums over pixels are normalised", choices=NORMALISATIONS)
    iterations: int = option(10, "of mean field", minimum=1)

    def axes(self) -> list[tuple[float, ...]]:
        """Ascending values of w1, sigma_alpha and sigma_beta."""
        given = (self.w1, self.sigma_alpha, self.sigma_beta)
        return [tuple(sorted(set(own or usual))) for own, usual in zip(given, GRIDS[self.grid], strict=True)]

    def at(self, axes: list[tuple[float, ...]], point: tuple[int, ...]) -> Parameters:
        w1, alpha, beta = (float(axis[number]) for axis, number in zip(axes, point, strict=True))
        return Parameters.of(
            w1=w1,
            sigma_alpha=alpha,
            sigma_beta=beta,
            w2=self.w2,
            sigma_gamma=self.sigma_gamma,
            normalisation=self.sums,
            iterations=self.iterations,
        )


@record
class Arguments(Options):
    network: AnyModel = nested(AnyModel)
    data: str = option(help=DATA, flag=None, metavar="DATA")
    split: str = option("val", "which split of it")
    limit: int = option(100, "number of images, from the beginning; 100 as in the papers", minimum=1)
    output: str = option("crf.json", "the best parameters, for --crf", metavar="FILE")
    class_map: Any = option(None, CLASS_MAP_HELP, kind=CLASS_MAP)
    search: Search = nested(Search)
    reading: DataOptions = nested(DataOptions)


def run(arguments: Arguments) -> None:
    from keras_deeplab._helpers.files import in_a_folder, temporary_folder, write_whole

    if arguments.network.settings.crf is not None:
        raise OptionError("{crf} is what is searched here: leave it out")
    output = in_a_folder(arguments.output)  # refused before any work
    predict = arguments.network.predictor()
    source = load_data(arguments.data, arguments.split, arguments.reading, predict.spec)
    with temporary_folder("keras_deeplab_crf_") as folder:
        found = _searched(arguments, predict, source, folder)
    best, plain, rows = found
    print(_table(rows, plain))
    for line in _remarks(arguments.search, best, rows[0][1], plain):
        print(line)
    told = {
        "model": arguments.network.model,
        "inference": arguments.network.settings.to_json(),
        "data": arguments.data,
        "split": arguments.split,
        "images": min(arguments.limit, source.num_examples),
        "mean_iou_without": plain,
        "mean_iou": rows[0][1],
        "tried": [{"crf": tried.text(), "mean_iou": score} for tried, score in rows],
    }
    write_whole(output, written(best, tuned=told))
    print(f"{output}: {best.text()}, for predict and evaluate --crf {output}")


def _searched(arguments: Arguments, predict: Any, source: Any, folder: Path) -> tuple[Parameters, float, list]:
    """The best parameters, the mean IoU without any, and all that were tried with theirs, the best first."""
    from keras_deeplab import data
    from keras_deeplab._helpers.progress import Progress
    from keras_deeplab.data import pipeline
    from keras_deeplab.inference.crf import search
    from keras_deeplab.inference.evaluation import matrix_of

    spec, classes = predict.spec, source.classes_spec
    _, labels = matrix_of(spec, classes, source.num_classes, arguments.class_map, source.name)

    def matrix() -> Any:
        return matrix_of(spec, classes, source.num_classes, arguments.class_map, source.name)[0]

    def samples() -> Any:
        for sample in pipeline.evaluation(source, arguments.limit).as_numpy_iterator():
            truth = sample["label"] if labels is None else labels[sample["label"]]
            yield {"image": sample["image"], "label": truth, "name": sample["name"].decode()}

    total = min(arguments.limit, source.num_examples)
    with Progress(total, "predict") as bar, data.readable_errors():
        stored = search.gathered(samples(), predict.probabilities, folder, bar)
    kept = sum(sample.path.stat().st_size for sample in stored)
    print(f"{total} images predicted once; their probabilities take {kept / 2**30:.1f} GiB in {folder} meanwhile")
    [plain] = search.scored(stored, [None], matrix)
    axes = arguments.search.axes()
    tried: dict[Any, float] = {}

    def score(points: list) -> dict:
        candidates = [arguments.search.at(axes, point) for point in points]
        bar, advance = search.progressed(len(points) * total)
        with bar:
            matrices = search.scored(stored, candidates, matrix, advance)
        scores = [found.mean_iou for found in matrices]
        tried.update(zip(candidates, scores, strict=True))
        print(f"{len(points)} tried, mean IoU up to {max(scores):.4f}, without a CRF {plain.mean_iou:.4f}", flush=True)
        return dict(zip(points, scores, strict=True))

    search.coarse_to_fine(axes, score)
    rows = sorted(tried.items(), key=lambda row: -row[1])
    return rows[0][0], plain.mean_iou, rows


def _table(rows: list, plain: float) -> str:
    lines = [f"{'w1/alpha/beta,w2/gamma':<26}{'mean IoU':>9}{'gain':>9}", f"{'none':<26}{plain:9.4f}{'':>9}"]
    lines += [f"{tried.text():<26}{score:9.4f}{score - plain:+9.4f}" for tried, score in rows[:_SHOWN]]
    if len(rows) > _SHOWN:
        lines.append(f"... and {len(rows) - _SHOWN} more, all in the file")
    return "\n".join(lines)


def _remarks(search: Search, best: Parameters, score: float, plain: float) -> list[str]:
    """What must be known of the result before it is used."""
    lines = []
    if not score > plain:
        lines.append("no parameters of the grid are better than none: leave the CRF out, or search another grid")
    for name, axis in zip(("w1", "sigma_alpha", "sigma_beta"), search.axes(), strict=True):
        value = getattr(best, name)
        if len(axis) > 1 and value in (axis[0], axis[-1]):
            lines.append(
                f"{name} {value:g} is at the end of its range, {axis[0]:g} to {axis[-1]:g}: others may be better"
            )
    return lines
