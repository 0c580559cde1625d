"""The page, curves and table of a run: from a history that the tests write, in a browser where there is one."""

import csv
import io
import json
import math
import xml.etree.ElementTree as ET

import chromium
import cv2
import numpy as np
import pytest

from keras_deeplab.cli import main
from keras_deeplab.data.source import indexed
from keras_deeplab.reports import charts as curves
from keras_deeplab.reports.charts import Chart, Curve, Dot, Stroke, shapes, svg
from keras_deeplab.reports.drawing import png
from keras_deeplab.reports.history import read_run
from keras_deeplab.reports.panels import Sample, chosen, panel
from keras_deeplab.reports.run import save_pictures, write_report

CLASSES = ["background", "<i>crack</i>", "r\u00fcst", "never there"]


def records():
    """Two validations among four records; "crack" is never predicted, and the last class never occurs."""
    found = []
    for step in range(1, 5):
        found.append({"step": 100 * step, "learning_rate": 0.01 / step, "loss": 1.0 / step, "mean_iou": 0.2 * step})
        found[-1]["seconds"] = 7.0 * step
        if step % 2 == 0:
            found[-1] |= {
                "validation_mean_iou": 1 / (2 * step),
                "validation_pixel_accuracy": 0.9,
                "validation_iou": [0.8, 0.0, 0.1 * (4 - step), None],
                "validation_pixels": [0.7, 0.25, 0.05, 0.0],
                "validation_predicted": [0.9, 0.0, 0.1, 0.0],
            }
    return found


def write(folder, history, classes=CLASSES):
    folder.mkdir(exist_ok=True)
    (folder / "history.jsonl").write_text("".join(json.dumps(record) + "\n" for record in history))
    (folder / "config.json").write_text(json.dumps({"steps": 900, "classes": classes, "source": "walls"}))
    return folder


def read_png(path):
    return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)


def test_the_table_has_each_number_where_it_belongs(tmp_path):
    write_report(write(tmp_path / "run", records()))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "run" / "history.csv").read_text("utf-8"))))
    assert [row["step"] for row in rows] == ["100", "200", "300", "400"]
    assert [row["iou r\u00fcst"] for row in rows] == ["", "0.2", "", "0.0"]
    assert [row["validation_mean_iou"] for row in rows] == ["", "0.25", "", "0.125"]
    assert rows[1]["iou never there"] == ""


def test_the_page_says_what_matters_and_escapes_names(tmp_path):
    page, *_ = write_report(write(tmp_path / "run", records()))
    text = page.read_text("utf-8")
    assert "Step 400 of 900, 00:28 of training" in text
    assert "Best validation: mean IoU 0.2500 at step 200" in text
    assert "Last validation: mean IoU 0.1250 at step 400" in text
    assert "Never predicted in the last validation: &lt;i&gt;crack&lt;/i&gt; (25 % of the pixels)" in text
    assert "<i>" not in text
    assert text.count("<svg") == 3 + 3  # loss, mean IoU, learning rate; a class that never occurs has no curve
    row = text[text.index("<td>r\u00fcst</td>") :].split("</tr>")[0]
    assert all(part in row for part in (">0.0000<", ">0.2000<", ">200<", ">5 %<"))


def test_every_curve_goes_through_its_points():
    chart = Chart("loss", [Curve("a", [(0, 0.0), (50, 1.0), (100, 2.0)])], low=0, high=2, width=400, height=200)
    dots = [shape for shape in shapes(chart) if isinstance(shape, Dot)]
    (left, bottom), (middle, half), (right, top) = (dot.at for dot in dots)
    assert (left + right) / 2 == pytest.approx(middle)
    assert (bottom + top) / 2 == pytest.approx(half)
    assert 0 < left < right <= 400
    assert 0 < top < bottom < 200
    logarithmic = Chart("", [Curve("", [(1e-4, 1.0), (1e-3, 1.0), (1e-2, 1.0)])], logarithmic=True)
    first, second, third = (shape.at[0] for shape in shapes(logarithmic) if isinstance(shape, Dot))
    assert (first + third) / 2 == pytest.approx(second)


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(5, None)],
        [(5, math.nan), (6, math.inf)],
        [(5, 0.0)],
        [(5, -1.0), (6, -2.0)],
        [(0, 1e-9), (1, 1e-9)],
        [(step, 1e30 if step == 5 else 1.0) for step in range(100)],
    ],
)
def test_any_points_are_drawn_inside(points):
    for logarithmic in (False, True):
        chart = Chart("x", [Curve("", points)], logarithmic=logarithmic)
        for shape in shapes(chart):
            for x, y in shape.points if isinstance(shape, Stroke) else [shape.at]:
                assert 0 <= x <= chart.width
                assert 0 <= y <= chart.height
        ET.fromstring(svg(chart))
        assert png([[chart]])[:4] == b"\x89PNG"


def test_a_gap_stays_a_gap_and_a_peak_stays_where_points_are_thinned():
    strokes = [
        shape.points
        for shape in shapes(Chart("", [Curve("", [(0, 1), (1, 1), (2, None), (3, 1), (4, 1)])]))
        if isinstance(shape, Stroke) and shape.role == "first"
    ]
    assert [len(points) for points in strokes] == [2, 2]
    points = [(step, float(step == 4321)) for step in range(10000)]
    assert len(kept := curves.thinned(points, 400)) < 410
    assert (4321, 1.0) in kept
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]


def test_the_picture_of_the_curves_has_both_colours_and_changes_with_the_history(tmp_path):
    _, path, _ = write_report(write(tmp_path / "run", records()))
    first = read_png(path)
    for red, green, blue in [(36, 86, 179), (179, 98, 0), (255, 255, 255)]:
        assert (first == (blue, green, red)).all(-1).sum() > 100
    write_report(write(tmp_path / "run", records()[:2]))
    assert (read_png(path)[:400, :1000] != first[:400, :1000]).any()


def test_many_classes_do_not_flood_the_page_or_the_picture(tmp_path):
    history, names = records()[:2], [f"c{index}" for index in range(300)]
    for key in ("validation_iou", "validation_pixels", "validation_predicted"):
        history[1][key] = [index / 300 for index in range(300)]
    page, picture, _ = write_report(write(tmp_path / "run", history, names))
    text = page.read_text("utf-8")
    assert text[: text.index("<details>")].count("<svg") == 3 + 16
    assert "8 lowest and 8 highest of 300 classes" in text
    assert read_png(picture).shape[0] < 2500


def test_files_are_as_before_where_something_fails(tmp_path, monkeypatch):
    page, *_ = write_report(write(tmp_path / "run", records()))
    before = page.read_bytes()
    monkeypatch.setattr("keras_deeplab._helpers.files.os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_report(write(tmp_path / "run", records()[:1]))
    assert page.read_bytes() == before
    assert not list((tmp_path / "run").glob(".*"))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (None, FileNotFoundError, "has no history.jsonl: name the folder of a run"),
        ("", ValueError, "is empty: its first record comes with the first checkpoint"),
        ('{"step": 1}\nnonsense\n', ValueError, "line 2, is no record of a run"),
        ('{"loss": 1}\n', ValueError, 'line 1, is no record of a run: it has no whole number "step"'),
        ('{"step": 1e9}\n', ValueError, 'it has no whole number "step"'),
        ('{"step": 1, "loss": "x"}\n', ValueError, "it has 'x' for 'loss', and numbers are expected"),
        ('{"step": 1, "validation_iou": [1, [2]]}\n', ValueError, r"it has \[1, \[2\]\] for 'validation_iou'"),
        ('{"step": 1, "a": [1]}\n{"step": 2, "a": [1, 2]}\n', ValueError, "line 2, .* more or fewer classes"),
        ('{"step": 1, "validation_iou": 1}\n', ValueError, "it has 1 for 'validation_iou'"),
        ('{"step": 1, "loss": 1e400}\n', ValueError, "it has inf for 'loss'"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path, text, error, message):
    if text is not None:
        (tmp_path / "history.jsonl").write_text(text)
    with pytest.raises(error, match=message):
        write_report(tmp_path)


def test_settings_that_name_no_classes_are_refused(tmp_path):
    write(tmp_path, records())
    (tmp_path / "config.json").write_text('{"classes": 5}')
    with pytest.raises(ValueError, match=r"config\.json must name the classes in a list, and has 5"):
        write_report(tmp_path)


def test_a_history_that_a_kill_cut_short_and_a_folder_without_settings_are_read(tmp_path):
    text = "".join(json.dumps(record) + "\n" for record in records())
    (tmp_path / "history.jsonl").write_text(text[:-30])
    run = read_run(tmp_path)
    assert [record["step"] for record in run.records] == [100, 200, 300]
    assert run.classes == ("class 0", "class 1", "class 2", "class 3")
    assert run.best["step"] == 200
    assert "Step 300, 00:21 of training" in write_report(tmp_path)[0].read_text("utf-8")


def test_samples_are_chosen_for_the_classes_that_they_show():
    labels = [[0, 0], [0, 1], [0, 0], [2, 3], [255, 4], [0, 3]]
    source = indexed("s", list("abcde"), 6, lambda i: (np.zeros((1, 2, 3), np.uint8), np.uint8([labels[i]]), f"{i}"))
    assert [sample.name for sample in chosen(source, 3)] == ["1", "3", "4"]
    assert [sample.name for sample in chosen(source, 4)] == ["0", "1", "3", "4"]
    assert len(chosen(source, 10)) == 6


def test_a_panel_has_image_truth_and_prediction_beside_one_another():
    truth = np.zeros((8, 8), np.uint8)
    truth[:4] = 1
    sample = Sample("x", np.full((8, 8, 3), 77, np.uint8), truth).predicted(lambda image: np.uint8(image[..., 0] == 77))
    picture = panel(sample, CLASSES, side=64)
    rows = picture[19 : 19 + 64]
    assert (rows[:, :64] == 77).all()
    assert (rows[:32, 70:134] == (128, 0, 0)).all()
    assert (rows[32:, 70:134] == 0).all()
    assert (rows[:, 140:204] == (128, 0, 0)).all()
    assert (picture[19 + 64 :] == (128, 0, 0)).all(-1).sum() > 50  # the legend
    grey = Sample("x", np.full((300, 150, 1), 9, np.uint8), np.full((300, 150), 255, np.uint8))
    assert panel(grey, CLASSES, side=100)[19:119, :50].max() == 9


def test_pictures_of_the_folder_stand_in_the_page_with_their_titles(tmp_path):
    folder = write(tmp_path / "run", records())
    save_pictures(folder, [(np.full((20, 60, 3), 200, np.uint8), "\u88c2 <1>: step 400")])
    text = write_report(folder)[0].read_text("utf-8")
    assert "<figcaption>\u88c2 &lt;1&gt;: step 400</figcaption>" in text


def test_the_command_writes_them_again_and_names_them(tmp_path, capsys):
    folder = write(tmp_path / "run", records())
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.split() == [
        str(folder / name) for name in ("report.html", "curves.png", "history.csv")
    ]
    assert main(["report", str(folder), "--data", "synthetic"]) == 1
    assert "has no best.keras or last.keras yet" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 1
    assert "has no history.jsonl" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(chromium.executable() is None, reason="needs a Chromium")
def test_a_browser_shows_the_page_and_asks_for_nothing(tmp_path):
    folder = write(tmp_path / "run", records())
    save_pictures(folder, [(np.full((20, 600, 3), 200, np.uint8), "one")])
    page, *_ = write_report(folder)
    browser = chromium.Browser(chromium.executable())
    try:
        browser.open(page.as_uri())
        browser.call("Emulation.setDeviceMetricsOverride", width=360, height=700, deviceScaleFactor=1, mobile=True)
        assert browser.evaluate("document.documentElement.scrollWidth") <= 360
        assert browser.evaluate("document.querySelector('polyline').getBoundingClientRect().width") > 100
        assert browser.evaluate("document.querySelector('img').naturalWidth") == 600
        assert [each for each in browser.requests if not each.startswith(("data:", "file:"))] == []
        assert browser.errors == []
    finally:
        browser.close()
