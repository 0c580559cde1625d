"""`keras-deeplab predict`."""

from keras_deeplab.cli.shared import AnyModel, Images
from keras_deeplab.options import Options, nested, record

HELP = "Segment images: labels, overlays, probabilities, polygons, areas."


@record
class Arguments(Options):
    network: AnyModel = nested(AnyModel)
    images: Images = nested(Images)


def run(arguments: Arguments) -> int:
    arguments.images.needs_scores()  # a mistake in it is told before a model is read
    return arguments.images.segment(arguments.network.predictor())
