"""`keras-deeplab beam`."""

import functools
import logging
import sys
from typing import TYPE_CHECKING, Any

from keras_deeplab.cli.shared import AnyModel
from keras_deeplab.inference.beam.settings import ManyOptions
from keras_deeplab.options import Options, nested, option, record

if TYPE_CHECKING:
    from keras_deeplab.inference.predictor import Predictor
    from keras_deeplab.specs import ModelSpec

HELP = "Segment, and score, very many images by an Apache Beam pipeline: here, on Flink, on Dataflow."
# The option that takes the words after `--`.
AFTER_DASHES = "pipeline_options"


@record
class Arguments(Options):
    network: AnyModel = nested(AnyModel)
    inputs: tuple[str, ...] = option(
        help="files, folders or patterns of images or TFRecords, here or at addresses such as gs://bucket/photos/*.jpg",
        flag=None,
        metavar="INPUT",
        nargs="+",
    )
    pipeline_options: tuple[str, ...] | None = option(
        None,
        "what Beam itself is told, such as --runner=FlinkRunner --flink_master=HOST:PORT; by default this process runs "
        "the pipeline",
        flag=None,
        metavar="-- BEAM_OPTION",
        nargs="*",
        configuration=False,
    )
    many: ManyOptions = nested(ManyOptions)


def run(arguments: Arguments) -> int:

    if not arguments.pipeline_options:
        # Beam notes on standard error what it doesn't find here, such as the libraries of Google's cloud.
        logging.getLogger().setLevel(logging.ERROR)
    try:
        import apache_beam  # noqa: F401
    except ImportError as error:
        raise ImportError(f"this command needs Apache Beam: pip install 'keras_deeplab[beam]' ({error})") from error
    from keras_deeplab.inference.beam.pipeline import segment_many

    network = arguments.network
    ready = _predictor(network)
    # Files of names and colours are read here, once; workers get what was in them.
    bare = network.with_options(classes=None, palette=None)
    summary = segment_many(
        functools.partial(_predictor, bare, ready.spec),
        arguments.inputs,
        arguments.many,
        model=_told(network, ready),
        ready=ready,
        pipeline_options=arguments.pipeline_options or (),
    )
    if summary.matrix is not None:
        print(summary.matrix.table())
        if (summary.matrix.matrix.sum(1) > 0).sum() == 1:
            print(
                "the masks hold one class alone, and what they ignore: where 255 means the second class, "
                "--mask-encoding binary reads it so"
            )
    before = f", {summary.before} of them before" if summary.before else ""
    print(f"{summary.answered} images answered{before}: {arguments.many.output_dir}")
    if summary.failed:
        print(f"{summary.failed} failed, each told in {arguments.many.output_dir}/failures.jsonl", file=sys.stderr)
    return 1 if summary.failed else 0


def _told(network: AnyModel, predict: "Predictor") -> dict[str, Any]:
    """What a run that is continued must have the same: the model's files, how it is asked, and what its labels are."""
    from keras_deeplab.inference.beam.ledger import fingerprint

    told = network.to_json()
    told["sha256"] = fingerprint(network.model)
    for name in ("classes", "palette", *(["model"] if told["sha256"] else [])):
        told.pop(name)
    return told if predict.spec is None else {**told, "labels": predict.spec.to_dict()["classes"]}


def _predictor(network: AnyModel, spec: "ModelSpec | None" = None) -> "Predictor":
    """The predictor of a model that may be at an address, with the record that is given."""
    from keras_deeplab.inference.beam import places

    with places.fetched(network.model) as path:
        predict = network.with_options(model=path).predictor()
    if spec is not None:
        predict.spec = spec
    return predict
