"""The pipeline: patterns to items, items to images, images to answers, answers to files, rows and one matrix.

Only names and rows go from one stage to the next; pixels stay where they were read, so that memory doesn't grow with
the number of images.
"""

import errno
import itertools
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.runner import PipelineState

from keras_deeplab.data.mask_files import readable, refuse_black_and_white
from keras_deeplab.inference.answers import Answer
from keras_deeplab.inference.beam import places
from keras_deeplab.inference.beam.handler import SegmentationHandler, Unanswered
from keras_deeplab.inference.beam.inputs import Failure, Inputs, Item, reason_of
from keras_deeplab.inference.beam.ledger import Ledger
from keras_deeplab.inference.beam.places import Stamp
from keras_deeplab.inference.beam.reading import Reading, Scoring, reading_of
from keras_deeplab.inference.beam.records import encoded, records
from keras_deeplab.inference.beam.settings import RECORD, ManyOptions
from keras_deeplab.inference.evaluation import matrix_of, protocol_of
from keras_deeplab.inference.predictor import Predictor
from keras_deeplab.inference.protocols import EvaluationOptions
from keras_deeplab.metrics import ConfusionMatrix
from keras_deeplab.options import near
from keras_deeplab.specs import IGNORED, Classes

# The local runner in this process. Beam's default looks for a program first, which it downloads.
LOCAL = "FnApiRunner"
FINISHED, FAILED, TODO = "finished", "failed", "todo"
# What is wrong with the folder of the results, rather than with one of them.
_OF_THE_FOLDER = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    Attributes:
        answered: how many images have an answer, `before` of them from an earlier run.
        failed: how many inputs have none.
        matrix: of all answers, where they were scored.
    """

    answered: int
    before: int
    failed: int
    matrix: ConfusionMatrix | None


@dataclass
class Job:
    """An image on its way: its name, its row so far, and the labels that it is scored by, or None."""

    name: str
    row: dict[str, Any]
    truth: np.ndarray | None = field(default=None, repr=False)


def segment_many(
    make: Callable[[], Predictor],
    inputs: Sequence[str],
    options: ManyOptions,
    *,
    model: Mapping[str, Any],
    ready: Predictor | None = None,
    pipeline_options: Sequence[str] = (),
) -> Summary:
    """Files and TFRecords of images to a folder of answers, on this machine or on many.

    In the folder: `labels/<name>.png`, `predictions.jsonl` with a row for each image, `failures.jsonl` with one for
    each input that has no answer, `confusion.json` where there are masks. The same call continues a run that was ended;
    what is finished (see `ledger`) is left alone.

    Args:
        make: makes the predictor, in each worker; it can be pickled.
        inputs: files, folders or patterns of images or TFRecords, here or at addresses that Beam knows.
        options: see `ManyOptions`.
        model: what tells this predictor from another, as JSON: a run is continued with the same alone.
        ready: what `make` makes, if it is made already.
        pipeline_options: Beam's own, such as `--runner=FlinkRunner`; without a runner this process is it.

    Raises:
        ValueError: the options don't fit together or the model, or the folder is of another run.
        OSError: the pipeline failed; the message has its reason.
    """
    folder = places.absolute(options.output_dir)
    flow = _pipeline_options(pipeline_options)
    found = Inputs.of(inputs, folder, options.records)
    predict = make() if ready is None else ready
    spec = predict.spec
    masks = options.masks if options.masks in (None, RECORD) else places.absolute(options.masks or "")
    reading = reading_of(options.reading, predict.channels, predict.num_labels, masks, max_pixels=options.max_pixels)
    reading.images = reading.images.of_model(spec)
    scoring = None if masks is None else _scoring(predict, reading, masks)
    if scoring is not None:
        _refuse_black_and_white(reading, scoring)
    classes = Classes() if spec is None else spec.classes
    ledger = Ledger(folder, options.probabilities, np.array(classes.palette(256), np.uint8))
    ledger.begin({"model": dict(model), "root": found.root, **options.to_json(), "masks": masks})
    key = uuid.uuid4().hex
    _ready[key] = predict
    handler = SegmentationHandler(
        _Same(make, key), batch_size=options.batch_size, answers=options.probabilities, errors="return"
    )
    read = Read(found, reading, ledger, options.image_key, options.label_key)
    try:
        pipeline = beam.Pipeline(options=flow)
        assemble(pipeline, read, KeyedModelHandler(handler), Write(ledger, scoring), Close(ledger, scoring))
        state = pipeline.run().wait_until_finish()
    except RuntimeError as error:
        raise OSError(f"the pipeline failed: {_last_line(error)}. The same command continues it") from error
    finally:
        _ready.pop(key, None)
    if state is not None and state != PipelineState.DONE:
        raise OSError(f"the pipeline ended in the state {state}; the same command continues it")
    matrix = None
    if scoring is not None:
        matrix = scoring.matrix()
        matrix.matrix = np.array(ledger.confusion()["matrix"], np.int64)
    return Summary(**ledger.summary(), matrix=matrix)


def assemble(pipeline: Any, read: "Read", handler: Any, write: "Write", close: "Close") -> None:
    """The stages. Names are brought together once, which ends doubles and shares the work among the workers."""
    found = (
        pipeline
        | "patterns" >> beam.Create(list(read.inputs.patterns), reshuffle=False)
        | "match" >> beam.ParDo(Match(read.inputs)).with_outputs(FAILED, main=TODO)
    )
    begun = (
        found[TODO]
        | "by name" >> beam.Map(lambda item: (item.name, item))
        | "once" >> beam.GroupByKey()
        | "item" >> beam.Map(lambda named: next(iter(named[1])))
        | "read" >> beam.ParDo(read).with_outputs(FINISHED, FAILED, main=TODO)
    )
    written = (
        begun[TODO]
        | "model" >> RunInference(handler)
        | "write" >> beam.ParDo(write).with_outputs(FAILED, main=FINISHED)
    )
    rows = (begun[FINISHED], written[FINISHED]) | "rows" >> beam.Flatten()
    failures = (found[FAILED], begun[FAILED], written[FAILED]) | "failures" >> beam.Flatten()
    before = begun[FINISHED] | "count" >> beam.combiners.Count.Globally()
    told = failures | "all failures" >> beam.combiners.ToList()
    _ = (
        rows
        | "all rows" >> beam.combiners.ToList()
        | "close" >> beam.Map(close, beam.pvalue.AsSingleton(told), beam.pvalue.AsSingleton(before))
    )


class Match(beam.DoFn):
    """A pattern to the items that it names."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs

    def process(self, pattern: str) -> Iterator[Any]:
        for found in self.inputs.found(pattern):
            yield _failed(found) if isinstance(found, Failure) else found


class Read(beam.DoFn):
    """An item to (job, image) of each image in it that isn't finished; to the row of each that is."""

    def __init__(
        self, inputs: Inputs, reading: Reading, ledger: Ledger, image_key: str | None, label_key: str | None
    ) -> None:
        self.inputs, self.reading, self.ledger = inputs, reading, ledger
        self.keys = (image_key, label_key)

    def process(self, item: Item) -> Iterator[Any]:
        yield from self._of_records(item) if item.records else [self._of_file(item)]

    def _of_file(self, item: Item) -> Any:
        try:
            if self.reading.masks == RECORD:
                raise ValueError(f"{item.place} is no TFRecord file, and masks are looked for in records")
            mask = self.reading.mask_place(item.name)
            mask_stamp = None if mask is None else places.stamp(mask)
            if mask is not None and mask_stamp is None:
                raise FileNotFoundError(f"there is no mask {mask}")
            done = self.ledger.finished(item.name, item.stamp, mask_stamp)
            if done is not None:
                return beam.pvalue.TaggedOutput(FINISHED, json.dumps(done))
            for place, stamp in ((item.place, item.stamp), (mask, mask_stamp)):
                most = self.reading.most_bytes()
                if stamp is not None and stamp[0] > most:
                    raise ValueError(
                        f"{place} has {stamp[0]} bytes, and {most} are read at most; max_pixels= (--max-pixels) sets "
                        "the limit"
                    )
            data = places.read(item.place)
            image = self.reading.image(data, item.place)
            truth = None if mask is None else self.reading.truth(places.read(mask), mask, data, image)
        except Exception as error:
            return _failed(Failure(item.name, item.place, reason_of(error)))
        row = _row(item.name, item.place, item.stamp, image)
        return Job(item.name, row if mask is None else {**row, "mask": mask, "mask_stamp": mask_stamp}, truth), image

    def _of_records(self, item: Item) -> Iterator[Any]:
        try:
            with places.opened(item.place) as file:
                for index, data in enumerate(records(file)):
                    yield self._of_record(item, index, data)
        except Exception as error:  # of a file that can't be opened or unpacked
            yield _failed(Failure(item.name, item.place, reason_of(error)))

    def _of_record(self, item: Item, index: int, data: bytes | ValueError) -> Any:
        name, place = f"{item.name}/{index:06d}", f"{item.place}#{index}"
        try:
            if isinstance(data, ValueError):
                raise data
            done = self.ledger.finished(name, item.stamp, None)
            if done is not None:
                return beam.pvalue.TaggedOutput(FINISHED, json.dumps(done))
            held = encoded(data, *self.keys)
            image = self.reading.image(held.image, place)
            truth = None
            if self.reading.masks is not None:
                mask = self._mask_of(held, place)
                truth = self.reading.truth(mask, f"the mask of {place}", held.image, image)
        except Exception as error:
            return _failed(Failure(name, place, reason_of(error)))
        return Job(name, {**_row(name, place, item.stamp, image), "filename": held.name}, truth), image

    def _mask_of(self, held: Any, place: str) -> bytes:
        if self.reading.masks != RECORD:
            raise ValueError(f"{place} is a record, whose mask is in it or nowhere: masks must be {RECORD!r} (--masks)")
        if held.mask is None:
            raise ValueError(f"{place} has no mask; label_key= (--label-key) says where it is")
        return held.mask


class Write(beam.DoFn):
    """(job, result) to files and the finished row."""

    def __init__(self, ledger: Ledger, scoring: Scoring | None) -> None:
        self.ledger, self.scoring = ledger, scoring

    def process(self, done: tuple[Job, Any]) -> Iterator[Any]:
        job, result = done
        answer = result.inference
        if isinstance(answer, Unanswered):
            yield _failed(Failure(job.name, job.row["source"], f"{job.row['source']}: {answer}"))
            return
        labels, probabilities = (
            (answer.labels, answer.probabilities) if isinstance(answer, Answer) else (np.asarray(answer), None)
        )
        row = job.row
        try:
            if self.scoring is not None and job.truth is not None:
                row = {**row, "counts": self.scoring.counts(job.truth, labels)}
            if self.ledger.probabilities and probabilities is None:
                raise ValueError("the model gives labels alone, so there are no probabilities to write")
            row = self.ledger.commit(job.name, row, labels, probabilities)
        except (OSError, ValueError) as error:
            # A name that is too long for a file is one image's fault; a full disk is not.
            if isinstance(error, OSError) and error.errno in _OF_THE_FOLDER:
                raise
            yield _failed(Failure(job.name, job.row["source"], reason_of(error)))
            return
        yield json.dumps(row)


class Close:
    """All rows and failures to the files that tell of all."""

    def __init__(self, ledger: Ledger, scoring: Scoring | None) -> None:
        self.ledger, self.scoring = ledger, scoring

    def __call__(self, rows: list[str], failures: list[str], before: int) -> None:
        failures = sorted(set(failures))  # a pattern's double finds the same again
        confusion = None
        if self.scoring is not None:
            confusion = self.scoring.total(json.loads(row)["counts"] for row in rows).to_dict()
        summary = {"answered": len(rows), "before": before, "failed": len(failures)}
        self.ledger.close(rows, failures, summary, confusion)


# Predictors that this process has made for a run that it began, for a worker that is this process too.
_ready: dict[str, Predictor] = {}


@dataclass(frozen=True)
class _Same:
    """Makes a run's predictor, or takes the one that is there."""

    make: Callable[[], Predictor]
    key: str

    def __call__(self) -> Predictor:
        ready = _ready.pop(self.key, None)
        return self.make() if ready is None else ready


def _scoring(predict: Predictor, reading: Reading, masks: str) -> Scoring:
    """Masks have the model's own classes, in its order; as of every data set, 255 is what they ignore."""
    spec = predict.spec
    own = Classes() if spec is None else spec.classes
    matrix, table = matrix_of(spec, Classes(own.names, own.colors, IGNORED), reading.num_classes, None, masks)
    return Scoring(
        matrix.num_classes, matrix.ignore_label, matrix.classes, table, protocol_of(predict, EvaluationOptions.of())
    )


def _refuse_black_and_white(reading: Reading, scoring: Scoring) -> None:
    """Raise where the first masks of a folder are all 0 and 255, which leaves nothing to score but class 0.

    Raises:
        ValueError: so it is, and nobody said that the numbers are the labels.
    """
    if reading.coding.get("encoding", "auto") != "auto" or reading.coding.get("colors") or reading.masks == RECORD:
        return
    masks = str(reading.masks)
    if not places.scheme(masks):
        first = itertools.islice(sorted(Path(masks).rglob("*.png")), 100)
        refuse_black_and_white(readable(first), scoring.classes or (), masks)


def _pipeline_options(words: Sequence[str]) -> PipelineOptions:
    """Beam's options; without a runner of this process's. What this doesn't know is refused: Beam drops it with a note.

    Raises:
        ValueError: an option that isn't known; of other runners, which have options of their own, all are passed on.
    """
    flow = PipelineOptions(list(words))
    names = [word.partition("=")[0].removeprefix("--") for word in words if word.startswith("--")]
    if "runner" in names:
        return flow
    flow.view_as(StandardOptions).runner = LOCAL
    known = flow.get_all_options()
    for name in names:
        if name not in known and name.removeprefix("no_") not in known:
            raise ValueError(f"Beam has no option --{name}{near(name, list(known))}")
    return flow


def _row(name: str, source: str, stamp: Stamp, image: np.ndarray) -> dict[str, Any]:
    return {"name": name, "source": source, "stamp": stamp, "height": image.shape[0], "width": image.shape[1]}


def _failed(failure: Failure) -> Any:
    return beam.pvalue.TaggedOutput(FAILED, json.dumps(failure.row()))


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
