"""A video, a stream or a camera to a video in which classes are tinted."""

import itertools
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_deeplab._helpers.ending import finishing
from keras_deeplab._helpers.files import in_a_folder, replacing
from keras_deeplab._helpers.progress import Progress
from keras_deeplab.inference.answers import Answer, add_legend, overlay
from keras_deeplab.inference.frames import Frame, Frames, VideoFile, check_ending
from keras_deeplab.inference.outputs import Legend, answering, choose
from keras_deeplab.inference.overlap import overlapped
from keras_deeplab.specs import Classes

Painter = Callable[[np.ndarray, np.ndarray], np.ndarray]


class _Ended(Exception):
    """No frame follows."""


@dataclass
class VideoResult:
    """What became of a video.

    Attributes:
        path: the file.
        size: (height, width) of its frames.
        rate: frames a second that it is shown with.
        frames: how many were segmented.
        written: how many it has: as many, but of a live source as many as its time takes.
        first_seconds: the model's time for the first frame, with what it prepares at its first call.
        model_seconds: for the others.
        seconds: of all, reading and writing too.
        notes: what else is to be known.
        interrupted: whether Ctrl-C ended it.
        failed: whether the sound that was asked for is missing.
    """

    path: Path
    size: tuple[int, int] = (0, 0)
    rate: float = 0.0
    frames: int = 0
    written: int = 0
    first_seconds: float = 0.0
    model_seconds: float = 0.0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    failed: bool = False

    def told(self) -> str:
        """In a line."""
        height, width = self.size
        line = f"{self.path}: {self.written} frames of {width}x{height}, {self.rate:g} a second; segmented "
        whole = f"{self.frames / max(self.seconds, 1e-9):.1f} a second all together"
        if self.frames < 2:
            return line + whole
        model = (self.frames - 1) / max(self.model_seconds, 1e-9)
        return f"{line}{model:.1f} a second by the model ({self.first_seconds:.2f} s for the first), {whole}"


def segment_video(
    predictor: Callable[[np.ndarray], np.ndarray],
    source: str | os.PathLike | int,
    output: str | os.PathLike,
    *,
    only: Sequence[str] = (),
    merge: Mapping[str, Sequence[str]] | None = None,
    classes: Classes | Sequence[str] | None = None,
    palette: np.ndarray | None = None,
    alpha: float = 0.5,
    legend: bool = False,
    audio: str = "none",
    max_frames: int | None = None,
    progress: bool = True,
) -> VideoResult:
    """A video file, a stream's URL or a camera's number to a video file, each frame tinted with its classes' colours.

    Of a file every frame is taken, and the result has as many and shows them as fast. Of a camera or a stream the
    newest frame is taken whenever the model is ready, and shown until the next, so that the result lasts as long as
    what was filmed. Reading, the model and writing go on at the same time, with no more than some frames in memory. The
    file has its name once it is whole; Ctrl-C ends it whole, with what there is.

    OpenCV writes no sound. `audio="copy"` has ffmpeg put that of the input file into the result, unchanged.

    Args:
        predictor: maps a uint8 image (H, W, 3) to labels (H, W); what `keras_deeplab.predictor` returns.
        source: path, URL or number of the camera.
        output: the file; .mp4, .mov, .m4v and .mkv are written as MPEG-4, .avi as Motion JPEG.
        only, merge, classes, palette, alpha: as of `files.segment_files`.
        legend: whether a strip below names all classes.
        audio: `"none"`, or `"copy"`.
        max_frames: to end after; None for all there are.
        progress: whether to show how far it is.

    Raises:
        FileNotFoundError, OSError: the input can't be opened or has no frame, or the output can't be written.
        ValueError: the output's ending isn't known, it would replace the input, or an option makes no sense here.
    """
    target = in_a_folder(Path(output).expanduser())
    check_ending(target)
    ffmpeg = _ffmpeg(audio)
    channels = getattr(predictor, "channels", 3)
    if channels != 3:
        raise ValueError(f"a video has red, green and blue, and the model takes {channels} channels")
    spec = getattr(predictor, "spec", None)
    chosen = choose(Legend.of(classes, spec, palette), only, merge)
    answer_of = answering(predictor, chosen)
    result = VideoResult(target)
    with Frames(source) as frames:
        if frames.path is not None and os.path.realpath(frames.path) == os.path.realpath(target):
            raise ValueError(f"the result would replace the input {target}: choose another output")
        if frames.path is None and audio == "copy":
            raise ValueError(f"audio='copy' is for files; {frames.name} is none, and OpenCV takes no sound of it")
        paint = _painter(chosen.legend, alpha, legend, frames.size)
        with replacing(target) as temporary:
            _write(result, frames, temporary, answer_of, paint, max_frames, progress)
            if ffmpeg is not None and frames.path is not None:
                _add_sound(result, ffmpeg, temporary, frames.path)
        if ffmpeg is None and frames.path is not None:
            result.notes += (_sound_told(target, frames.path),)
    return result


def _write(
    result: VideoResult,
    frames: Frames,
    path: Path,
    answer_of: Callable[[np.ndarray], Answer],
    paint: Painter,
    max_frames: int | None,
    progress: bool,
) -> None:
    """Segments and writes frames until there are no more, and fills in the result."""
    began_at = late = 0.0  # when the first frame is shown, and how far others are from where one rate has them

    def read(number: int) -> Frame:
        frame = frames.read()
        if frame is None:
            raise _Ended
        if frame.image.shape[:2] != frames.size:
            height, width = frame.image.shape[:2]
            raise ValueError(f"{frames.name}: frame {number} has another size, {width}x{height}, than those before it")
        return frame

    def work(number: int, frame: Frame) -> tuple[Frame, np.ndarray]:
        started = time.monotonic()
        labels = answer_of(frame.image).labels
        spent = time.monotonic() - started
        if number:
            result.model_seconds += spent
        else:
            result.first_seconds = spent
        return frame, labels

    def write(number: int, made: tuple[Frame, np.ndarray]) -> None:
        nonlocal began_at, late
        frame, labels = made
        began_at = frame.seconds if number == 0 else began_at
        late = max(late, abs(frame.seconds - began_at - number / frames.rate))
        picture = paint(frame.image, labels)
        # A live frame stays until the next: as often as the time since the first asks for.
        due = int((frame.seconds - began_at) * frames.rate) + 1 if frames.live else file.count + 1
        for _ in range(due - file.count):
            file.write(picture)
        result.frames += 1

    shape = paint(np.zeros((*frames.size, 3), np.uint8), np.zeros(frames.size, np.uint8)).shape[:2]
    file = VideoFile(path, shape, frames.rate)
    total = min(filter(None, (frames.count, max_frames)), default=None)
    numbers = itertools.count() if max_frames is None else range(max_frames)
    began = time.monotonic()
    try:
        with Progress(total or 1, "video", enabled=progress and total is not None) as bar:
            for number, outcome in overlapped(numbers, read, work, write, threads=1, ahead=1 if frames.live else 3):
                if isinstance(outcome, _Ended):
                    break
                if isinstance(outcome, Exception):
                    raise outcome
                bar.update(min(number + 1, total or 1))
    except KeyboardInterrupt:
        result.interrupted = True
        if not file.count:
            raise
        finishing()  # the container's end, and the sound
    finally:
        result.seconds = time.monotonic() - began
        file.close()
    result.written, result.rate, result.size = file.count, frames.rate, (file.height, file.width)
    if not frames.live:
        result.notes += tuple(_doubts(result, frames, late, max_frames))
    if result.size != shape:
        told = f"{shape[1]}x{shape[0]} became {file.width}x{file.height}"
        result.notes += (f"an odd side grew by a pixel, since the codec has none: {told}",)


def _doubts(result: VideoResult, frames: Frames, late: float, max_frames: int | None) -> Iterator[str]:
    """What is to be known of a file that isn't as one expects; `late` are the seconds that a frame is off at most."""
    whole = not result.interrupted and (max_frames is None or result.frames < max_frames)
    if whole and frames.count is not None and result.frames < frames.count:
        read = f"{frames.name} tells {frames.count} frames, and {result.frames} could be read"
        yield f"{read}: it may be cut short or damaged"
    if late > 1.5 / frames.rate:
        yield (
            f"the frames of {frames.name} don't come evenly: the result shows each once and all at one rate, up to "
            f"{late:.2f} s earlier or later than there, so that sound may not fit"
        )


def _painter(legend: Legend, alpha: float, strip: bool, size: tuple[int, int]) -> Painter:
    """Maps a frame and its labels to a picture, all of the same size."""
    things = np.array([label for label in legend.channels if label not in legend.rest])
    below = np.zeros((0, size[1], 3), np.uint8)
    if strip and things.size:
        blank = np.zeros((*size, 3), np.uint8)
        below = add_legend(blank, things, legend.names, legend.palette, legend.rest)[size[0] :]

    def paint(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return np.concatenate([overlay(image, labels, legend.palette, alpha, legend.rest), below])

    return paint


def _ffmpeg(audio: str) -> str | None:
    if audio not in ("none", "copy"):
        raise ValueError(f"audio must be one of none, copy; received {audio!r}")
    if audio == "none":
        return None
    found = shutil.which("ffmpeg")
    if found is None:
        raise ValueError(
            "audio='copy' needs ffmpeg, and none is on the PATH: install it (apt install ffmpeg, brew install ffmpeg), "
            "or leave audio= out and add the sound elsewhere by the command that is told then"
        )
    return found


def _command(ffmpeg: str, video: Path | str, sound: Path | str, target: Path | str) -> list[str]:
    """Of ffmpeg, to put the sound of one file, if it has any, under the pictures of another; both are copied."""
    inputs = ["-i", str(video), "-i", str(sound)]
    return [ffmpeg, *inputs, "-map", "0:v", "-map", "1:a?", "-c", "copy", "-shortest", str(target)]


def _sound_told(output: Path, source: Path) -> str:
    target = output.with_name(f"{output.stem}_sound{output.suffix}")
    return (
        f"without sound; if {source} has any, ffmpeg adds it: {shlex.join(_command('ffmpeg', output, source, target))}"
    )


def _add_sound(result: VideoResult, ffmpeg: str, video: Path, source: Path) -> None:
    """Puts the sound into the file; where ffmpeg can't, that is a note, and the pictures stay."""
    target = video.with_name(f"{video.stem}.sound{video.suffix}")
    command = [*_command(ffmpeg, video, source, target)[:1], "-nostdin", "-loglevel", "error", "-y"]
    command += _command(ffmpeg, video, source, target)[1:]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode == 0 and target.is_file() and target.stat().st_size:
            os.replace(target, video)
        else:
            result.failed = True
            result.notes += (f"without sound, since ffmpeg failed: {done.stderr.strip()[-500:]}",)
    finally:
        target.unlink(missing_ok=True)
