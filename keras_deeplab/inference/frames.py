"""Frames of video files, streams and cameras, in and out, by OpenCV."""

import math
import os
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_deeplab._helpers import limits
from keras_deeplab._helpers.files import open_regular

_USUAL_RATE, _HIGHEST_RATE = 25.0, 240.0  # streams tell 0, or the ticks of their clock
# Endings of files -> the codec that OpenCV's wheels have for them (H.264 is not among these).
CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}


class Frame(NamedTuple):
    """A frame: uint8 (H, W, 3) RGB, and when it is shown, in seconds; of a live source by the machine's clock."""

    image: np.ndarray
    seconds: float


class Frames:
    """The frames of a video file, in its order; of a camera or a stream the newest whenever one is asked for.

    Args:
        source: a file's path, a URL, or a camera's number.

    Attributes:
        name: what messages call it.
        live: whether frames come by themselves, so that those that nobody takes are lost.
        rate: frames a second, of a live source those that it tells, or 25.
        count: how many the file's header tells; None where it tells none.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is no regular one.
        OSError: it can't be opened, or has no frame.
    """

    def __init__(self, source: str | os.PathLike | int) -> None:
        from keras_deeplab._helpers.opencv import cv2, name_of

        quiet_codecs()
        text = os.fspath(source) if not isinstance(source, int) else str(source)
        self.path: Path | None = None
        if text.isdecimal() and not Path(text).exists():
            self.name, self._capture = f"camera {text}", cv2.VideoCapture(int(text))
        elif "://" in text:
            most = round(1000 * limits.STREAM_SECONDS)
            waits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, most, cv2.CAP_PROP_READ_TIMEOUT_MSEC, most]
            self.name, self._capture = text, cv2.VideoCapture(text, cv2.CAP_FFMPEG, waits)
        else:
            self.name, self.path = text, Path(text).expanduser()
            with open_regular(self.path) as file:
                if not file.read(1):
                    raise ValueError(f"{text} is empty")
            self._capture = cv2.VideoCapture(name_of(self.path), cv2.CAP_FFMPEG)
        first = self._taken() if self._capture.isOpened() else None
        if first is None:
            why = "no frame can be read of it" if self._capture.isOpened() else "it can't be opened"
            self._capture.release()
            kind = (
                "no such camera, or another program has it" if self.name != text else "no video, damaged or cut short"
            )
            raise OSError(f"{self.name}: {why} ({kind})")
        count, rate = (self._capture.get(what) for what in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS))
        self.count = int(count) if math.isfinite(count) and count > 0 else None
        self.live = self.path is None and self.count is None
        known = math.isfinite(rate) and 0 < rate <= _HIGHEST_RATE
        if not known and not self.live:
            raise OSError(f"{self.name}: it tells {rate:g} frames a second, so nobody knows how fast it is to be shown")
        self.rate = float(rate) if known else _USUAL_RATE
        self.size = first.image.shape[:2]
        self._next: Frame | None = first
        self._newest = _Newest(self._taken, first) if self.live else None

    def __enter__(self) -> "Frames":
        return self

    def __exit__(self, *_: Any) -> None:
        if self._newest is not None:
            self._newest.close()
        self._capture.release()

    def read(self) -> Frame | None:
        """The next frame; None behind the last."""
        if self._newest is not None:
            return self._newest.read()
        found, self._next = self._next, None
        return self._taken() if found is None else found

    def _taken(self) -> Frame | None:
        from keras_deeplab._helpers.opencv import cv2

        there, image = self._capture.read()
        if not there or image is None:
            return None
        seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        return Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), seconds)


class _Newest:
    """Takes frames in a thread as they come, and keeps the last."""

    def __init__(self, take: Any, first: Frame) -> None:
        self._take, self._changed = take, threading.Condition()
        self._frame: Frame | None = first._replace(seconds=time.monotonic())
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended:
            frame = self._take()
            with self._changed:
                self._ended = self._ended or frame is None
                self._frame = self._frame if frame is None else frame._replace(seconds=time.monotonic())
                self._changed.notify_all()

    def read(self) -> Frame | None:
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._ended)
            found, self._frame = self._frame, None
            return found

    def close(self) -> None:
        self._ended = True
        self._thread.join(limits.STREAM_SECONDS)


class VideoFile:
    """A video file that is written frame by frame; without sound, which OpenCV doesn't write.

    Args:
        path: where to; its ending chooses the codec.
        size: (height, width) of its frames; an odd side grows by a pixel, since the codecs have none.
        rate: frames a second.

    Raises:
        ValueError: nothing is known to write such files.
        OSError: it can't be written.
    """

    def __init__(self, path: Path, size: tuple[int, int], rate: float) -> None:
        from keras_deeplab._helpers.opencv import cv2, name_of

        quiet_codecs()
        check_ending(path)
        self.path, self.count = path, 0
        self.height, self.width = (side + side % 2 for side in size)
        code = cv2.VideoWriter.fourcc(*CODECS[path.suffix.lower()])
        self._writer = cv2.VideoWriter(name_of(path), cv2.CAP_FFMPEG, code, rate, (self.width, self.height))
        if not self._writer.isOpened():
            raise OSError(f"{path} can't be written: OpenCV has no codec for it, or the folder takes no file")

    def write(self, picture: np.ndarray) -> None:
        """Adds a picture, uint8 (H, W, 3) RGB."""
        from keras_deeplab._helpers.opencv import cv2

        below, right = self.height - picture.shape[0], self.width - picture.shape[1]
        if below or right:
            picture = cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REPLICATE)
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        self.count += 1

    def close(self) -> None:
        """Ends the file.

        Raises:
            OSError: it isn't whole, as on a full disk: OpenCV tells of no write whether it went well.
        """
        from keras_deeplab._helpers.opencv import cv2, name_of

        self._writer.release()
        back = cv2.VideoCapture(name_of(self.path), cv2.CAP_FFMPEG)
        found = int(back.get(cv2.CAP_PROP_FRAME_COUNT)) if back.isOpened() else 0
        back.release()
        if found != self.count:
            raise OSError(
                f"the video is damaged and was removed, {found} of {self.count} frames are in it: is the disk full?"
            )


def check_ending(path: Path) -> None:
    """Raises ValueError where nothing is known to write such a file."""
    if path.suffix.lower() not in CODECS:
        raise ValueError(f"{path} must end in one of {', '.join(CODECS)}, which OpenCV writes")


def quiet_codecs() -> None:
    """Has FFmpeg inside OpenCV tell nothing of what is an error here anyway."""
    from keras_deeplab._helpers.opencv import cv2

    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
