"""`keras-deeplab predict`."""

from keras_deeplab.cli.shared import AnyModel, Images
from keras_deeplab.options import Options, nested, record

HELP = "Segment photographs: label PNGs and colour overlays."


@record
class Arguments(Options):
    network: AnyModel = nested(AnyModel)
    images: Images = nested(Images)


def run(arguments: Arguments) -> int:
    return arguments.images.segment(arguments.network.predictor())
