"""`keras-deeplab segment`."""

from keras_deeplab._helpers import limits
from keras_deeplab.cli.shared import Identity, Images
from keras_deeplab.options import Options, nested, option, record
from keras_deeplab.specs import Classes

HELP = "Segment photographs by way of a TensorFlow Serving."


@record
class Arguments(Options):
    server: str = option(help="grpc://HOST:8500 or http://HOST:8501", metavar="URL")
    model: str = option(help="the model's name on the server", metavar="NAME")
    version: int | None = option(None, "one of its versions; by default the newest", minimum=1)
    timeout: float = option(limits.CALL_SECONDS, "seconds for an image, with all attempts", above=0)
    retries: int = option(4, "new attempts where the server is too busy", minimum=0)
    images: Images = nested(Images)
    identity: Identity = nested(Identity)


def run(arguments: Arguments) -> int:
    from keras_deeplab.serving import Client

    needs_scores = arguments.images.needs_scores()
    settings = {"version": arguments.version, "timeout": arguments.timeout, "retries": arguments.retries}
    with Client(arguments.server, arguments.model, **settings) as client:
        states = client.status()
        if not any(entry["state"] == "AVAILABLE" for entry in states):
            raise OSError(f"{client.server} has the model {arguments.model}, but no version of it is ready: {states}")
        identity, record = arguments.identity, client.spec
        if record is None:
            classes = identity.resolved(Classes(), None)
        else:
            classes = identity.resolved(record.model.classes, record.model.num_labels)
        if needs_scores or (record is not None and record.model.multi_label and arguments.images.chooses):
            from keras_deeplab.inference.predictor import predictor

            return arguments.images.segment(predictor(client), classes)
        return arguments.images.segment(client.segment, classes, None if record is None else record.model)
