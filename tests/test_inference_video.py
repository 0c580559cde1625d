"""Videos: every frame with its classes, as many as before; nothing half written; what can't be read is told."""

import http.server
import os
import stat
import threading
import time

import cv2
import numpy as np
import pytest

from keras_deeplab.cli import main
from keras_deeplab.inference.frames import CODECS, Frames, VideoFile
from keras_deeplab.inference.video import segment_video
from keras_deeplab.specs import Classes

CLASSES = Classes(("background", "square"), ((0, 0, 0), (0, 0, 255)))
SIZE = (48, 64)


def picture(number, size=SIZE):
    """A grey frame with a light square that moves to the right, two pixels a frame."""
    image = np.full((*size, 3), 60, np.uint8)
    image[10:30, 2 * number : 2 * number + 12] = 220
    return image


def squares(image):
    return (image[..., 0] > 140).astype(np.uint8)


def write(path, count=20, rate=25.0, size=SIZE):
    file = VideoFile(path, size, rate)
    for number in range(count):
        file.write(picture(number, size))
    file.close()
    return path


def frames_of(path):
    with Frames(path) as frames:
        found = []
        while (frame := frames.read()) is not None:
            found.append(frame.image)
        return found, frames.rate


def left_of(image):
    """Where the blue square begins."""
    blue = (image[..., 2].astype(int) - image[..., 0] > 60).sum(0) > 5
    return int(np.flatnonzero(blue)[0])


@pytest.mark.parametrize("ending", CODECS)
@pytest.mark.parametrize("rate", [25.0, 30000 / 1001])
def test_every_frame_is_there_in_its_order_and_at_its_rate(tmp_path, ending, rate):
    source = write(tmp_path / f"in{ending}", rate=rate)
    result = segment_video(squares, source, tmp_path / f"out{ending}", classes=CLASSES, progress=False)
    found, told = frames_of(tmp_path / f"out{ending}")
    assert (result.frames, result.written, len(found)) == (20, 20, 20)
    assert told == pytest.approx(rate, rel=1e-3)
    assert result.size == SIZE
    for number, image in enumerate(found):
        assert abs(left_of(image) - 2 * number) <= 1
        assert abs(int(image[45, 60, 0]) - 60) < 12  # what is background keeps its colour
    assert len(result.notes) == 1  # of the sound
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"in{ending}", f"out{ending}"]


def test_an_odd_size_grows_by_a_pixel_and_that_is_told(tmp_path):
    source = write(tmp_path / "in.mp4")

    def paints(image):
        return squares(image)

    result = segment_video(paints, source, tmp_path / "out.avi", classes=CLASSES, legend=True, progress=False)
    assert result.size[0] > SIZE[0]  # by the strip
    file = VideoFile(tmp_path / "odd.avi", (47, 63), 25)
    file.write(picture(0, (47, 63)))
    file.close()
    found, _ = frames_of(tmp_path / "odd.avi")
    assert found[0].shape == (48, 64, 3)
    assert abs(int(found[0][47, 63, 0]) - 60) < 12


def test_classes_left_out_keep_their_colours(tmp_path):
    source = write(tmp_path / "in.avi")
    classes = Classes(("background", "square", "other"))
    segment_video(squares, source, tmp_path / "out.avi", classes=classes, only=["other"], progress=False)
    found, _ = frames_of(tmp_path / "out.avi")
    before, _ = frames_of(source)
    assert np.abs(found[3].astype(int) - before[3]).max() < 40


def test_max_frames_and_what_is_told(tmp_path, capsys):
    source = write(tmp_path / "in.avi")
    result = segment_video(squares, source, tmp_path / "out.mp4", classes=CLASSES, max_frames=7, progress=False)
    assert (result.frames, len(frames_of(tmp_path / "out.mp4")[0])) == (7, 7)
    assert "7 frames of 64x48, 25 a second; segmented " in result.told()
    assert "all together" in result.told()
    assert "ffmpeg -i" in result.notes[0]


def test_files_that_are_no_videos(tmp_path):
    (tmp_path / "text.mp4").write_text("no video at all\n" * 50)
    (tmp_path / "empty.mp4").write_bytes(b"")
    whole = write(tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])  # whose table of contents is at its end
    os.mkfifo(tmp_path / "pipe.mp4")
    for name, kind, message in (
        ("text.mp4", OSError, "no video, damaged or cut short"),
        ("empty.mp4", ValueError, "is empty"),
        ("cut.mp4", OSError, "no video, damaged or cut short"),
        ("pipe.mp4", ValueError, "named pipe"),
        ("none.mp4", OSError, "No such file"),
        ("99", OSError, "camera 99: it can't be opened"),
        ("http://127.0.0.1:9/x.mp4", OSError, "it can't be opened"),
    ):
        with pytest.raises(kind, match=message):
            segment_video(
                squares,
                name if name == "99" or "://" in name else tmp_path / name,
                tmp_path / "out.mp4",
                progress=False,
            )
    assert not (tmp_path / "out.mp4").exists()


def test_a_file_that_ends_early_is_told(tmp_path):
    whole = write(tmp_path / "whole.avi", 40).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    result = segment_video(squares, tmp_path / "cut.avi", tmp_path / "out.avi", classes=CLASSES, progress=False)
    assert 5 < result.frames < 40
    assert "could be read: it may be cut short" in result.notes[0]


def test_frames_that_come_unevenly_are_told(tmp_path, monkeypatch):
    source = write(tmp_path / "in.avi")
    read = Frames.read
    uneven = {10: 0.4}

    def late(self):
        frame = read(self)
        return frame and frame._replace(seconds=frame.seconds + uneven.get(round(frame.seconds * 25), 0))

    monkeypatch.setattr(Frames, "read", late)
    result = segment_video(squares, source, tmp_path / "out.avi", classes=CLASSES, progress=False)
    assert "up to 0.40 s earlier or later" in result.notes[0]
    uneven.clear()
    result = segment_video(squares, source, tmp_path / "out.avi", classes=CLASSES, progress=False)
    assert len(result.notes) == 1


def test_what_makes_no_sense_is_refused_before_any_work(tmp_path):
    source = write(tmp_path / "in.mp4", 3)
    for output, options, message in (
        (tmp_path / "out.gif", {}, "must end in one of"),
        (source, {}, "would replace the input"),
        (tmp_path / "none" / "out.mp4", {}, "no folder"),
        (tmp_path / "out.mp4", {"audio": "keep"}, "audio must be one of"),
        (tmp_path / "out.mp4", {"only": ["dog"], "classes": CLASSES}, "unknown class 'dog'"),
    ):
        with pytest.raises((ValueError, OSError), match=message):
            segment_video(squares, source, output, progress=False, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_an_error_leaves_what_was_there(tmp_path):
    source = write(tmp_path / "in.mp4")
    (tmp_path / "out.mp4").write_bytes(b"before")
    seen = []

    def breaks(image):
        seen.append(image)
        if len(seen) == 8:
            raise ValueError("the eighth")
        return squares(image)

    with pytest.raises(ValueError, match="the eighth"):
        segment_video(breaks, source, tmp_path / "out.mp4", classes=CLASSES, progress=False)
    assert (tmp_path / "out.mp4").read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_ctrl_c_ends_the_file_whole(tmp_path):
    source = write(tmp_path / "in.mp4")
    seen = []

    def interrupted(image):
        seen.append(image)
        if len(seen) == 12:
            raise KeyboardInterrupt
        return squares(image)

    result = segment_video(interrupted, source, tmp_path / "out.mp4", classes=CLASSES, progress=False)
    found, _ = frames_of(tmp_path / "out.mp4")
    assert result.interrupted
    assert 5 <= len(found) == result.written <= 11
    assert [abs(left_of(image) - 2 * number) <= 1 for number, image in enumerate(found)] == [True] * len(found)


def test_a_damaged_result_is_no_result(tmp_path, monkeypatch):
    """As on a full disk, of which OpenCV says nothing."""
    source = write(tmp_path / "in.mp4")
    release = VideoFile.close

    def cut(self):
        self._writer.release()
        self.path.write_bytes(self.path.read_bytes()[:500])
        release(self)

    monkeypatch.setattr(VideoFile, "close", cut)
    with pytest.raises(OSError, match="damaged"):
        segment_video(squares, source, tmp_path / "out.mp4", classes=CLASSES, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_memory_holds_some_frames_only(tmp_path, monkeypatch):
    source = write(tmp_path / "in.avi", 60, size=(20, 30))
    taken, ahead = [], []
    read = Frames.read
    monkeypatch.setattr(Frames, "read", lambda self: taken.append(1) or read(self))

    def slow(image):
        time.sleep(0.002)
        ahead.append(len(taken))
        return squares(image)

    segment_video(slow, source, tmp_path / "out.avi", classes=CLASSES, progress=False)
    assert max(count - number for number, count in enumerate(ahead)) <= 5


# Sound --------------------------------------------------------------------------------------------------------------


def fake_ffmpeg(folder, monkeypatch, script):
    """ffmpeg by another name: a script that notes what it was asked for."""
    folder.mkdir()
    path = folder / "ffmpeg"
    path.write_text(f'#!/bin/sh\necho "$@" > {folder}/asked\nfor last; do :; done\n{script}\n')
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_sound_is_copied_by_ffmpeg(tmp_path, monkeypatch):
    source = write(tmp_path / "in.mp4", 5)
    fake_ffmpeg(
        tmp_path / "bin",
        monkeypatch,
        'cp "$(echo "$@" | sed "s/.*-y -i //; s/ -i .*//")" "$last"; echo more >> "$last"',
    )
    result = segment_video(squares, source, tmp_path / "out.mp4", classes=CLASSES, audio="copy", progress=False)
    asked = (tmp_path / "bin" / "asked").read_text()
    assert f"-i {source} -map 0:v -map 1:a? -c copy" in asked
    assert not result.failed
    assert result.notes == ()
    assert (tmp_path / "out.mp4").read_bytes().endswith(b"more\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "in.mp4", "out.mp4"]


def test_where_ffmpeg_fails_the_pictures_stay(tmp_path, monkeypatch):
    source = write(tmp_path / "in.mp4", 5)
    fake_ffmpeg(tmp_path / "bin", monkeypatch, 'echo half > "$last"; echo "no such codec" >&2; exit 1')
    result = segment_video(squares, source, tmp_path / "out.mp4", classes=CLASSES, audio="copy", progress=False)
    assert result.failed
    assert "no such codec" in result.notes[0]
    assert len(frames_of(tmp_path / "out.mp4")[0]) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "in.mp4", "out.mp4"]


def test_sound_without_ffmpeg_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="needs ffmpeg, and none is on the PATH"):
        segment_video(squares, write(tmp_path / "in.mp4", 3), tmp_path / "out.mp4", audio="copy")


# Streams ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def stream():
    """A camera's stream of JPEG files for a second, 20 a second: its address."""

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            try:
                for number in range(20):
                    data = cv2.imencode(".jpg", cv2.cvtColor(picture(number), cv2.COLOR_RGB2BGR))[1].tobytes()
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                    self.wfile.write(head.encode() + data + b"\r\n")
                    time.sleep(0.05)
            except OSError:
                pass

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/camera.mjpg"
    server.shutdown()
    server.server_close()


def test_a_stream_lasts_as_long_as_what_was_filmed(stream, tmp_path):
    """By a model that does 8 frames a second: others are left out, and each is shown until the next."""

    def slow(image):
        time.sleep(0.12)
        return squares(image)

    result = segment_video(slow, stream, tmp_path / "out.mp4", classes=CLASSES, progress=False)
    found, rate = frames_of(tmp_path / "out.mp4")
    assert 3 <= result.frames < 16
    assert len(found) == result.written
    assert 0.5 < len(found) / rate < 1.6
    assert left_of(found[-1]) > left_of(found[0])
    assert "a second" in result.told()


def test_the_command(tmp_path, capsys):
    import keras

    from keras_deeplab.specs.model import with_spec

    images = keras.Input((None, None, 3))
    model = keras.Model(images, keras.layers.Conv2D(2, 1)(images))
    weights = [np.zeros((1, 1, 3, 2), np.float32), np.array([140.0, 0.0], np.float32)]
    weights[0][0, 0, 0, 1] = 1
    model.set_weights(weights)
    with_spec(model, classes=CLASSES).save(tmp_path / "model.keras")
    write(tmp_path / "in.mp4", 5)
    command = ["video", str(tmp_path / "model.keras"), str(tmp_path / "in.mp4"), "--output", str(tmp_path / "out.mp4")]
    assert main([*command, "--alpha", "1"]) == 0
    assert "5 frames of 64x48" in capsys.readouterr().out
    assert abs(left_of(frames_of(tmp_path / "out.mp4")[0][4]) - 8) <= 1
    assert main([*command[:-1], str(tmp_path / "out.gif")]) == 1
    assert "must end in one of" in capsys.readouterr().err
