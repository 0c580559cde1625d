"""`keras-deeplab video`."""

import sys
from typing import Any

from keras_deeplab.cli.shared import SUMS, AnyModel
from keras_deeplab.options import Names, Options, in_flags, nested, option, record

HELP = "Segment a video, a stream or a camera: a video tinted with the classes' colours."


@record
class Arguments(Options):
    network: AnyModel = nested(AnyModel)
    input: str = option(help="video file, URL of a stream, or number of a camera", flag=None, metavar="INPUT")
    output: str = option("segmented.mp4", "the video to write: .mp4, .mov, .m4v, .mkv or .avi", metavar="FILE")
    only: Names | None = option(None, "classes to tint; others are left as they are")
    merge: Any = option(None, "classes to take together under a new name", kind=SUMS)
    alpha: float = option(0.5, "weight of the colours", minimum=0, maximum=1)
    legend: bool = option(False, "whether a strip below names the classes")
    audio: str = option("none", "copy: ffmpeg adds the input file's sound", choices=("none", "copy"), metavar="WAY")
    max_frames: int | None = option(None, "to end after; by default all there are, or until Ctrl-C", minimum=1)


def run(arguments: Arguments) -> int:
    from keras_deeplab.inference.video import segment_video

    result = segment_video(
        arguments.network.predictor(),
        arguments.input,
        arguments.output,
        only=arguments.only or (),
        merge=arguments.merge,
        alpha=arguments.alpha,
        legend=arguments.legend,
        audio=arguments.audio,
        max_frames=arguments.max_frames,
    )
    print(result.told())
    for note in result.notes:
        print(in_flags(note, Arguments))
    if result.interrupted:
        print("ended early; the video is whole up to there", file=sys.stderr)
    return 130 if result.interrupted else int(result.failed)
