"""The page about a model: what it is made of, that its numbers are right, and that people can use it."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import chromium
import keras
import numpy as np
import pytest
from PIL import Image

from keras_deeplab.cli import main
from keras_deeplab.data.source import indexed
from keras_deeplab.inference.predictor import Predictor
from keras_deeplab.inference.runtimes import Runtime
from keras_deeplab.metrics import BoundaryIoU, Calibration, ConfusionMatrix, TrimapCurve
from keras_deeplab.reports.model import write_model_report
from keras_deeplab.reports.model.cells import TopImages, shown_classes
from keras_deeplab.reports.model.measuring import Kept, measure
from keras_deeplab.reports.model.page import model_page
from keras_deeplab.reports.model.pictures import drawn, marks
from keras_deeplab.specs import Classes, ModelSpec

CLASSES = ["background", "<b>&", "disc", "never"]
COUNT, SIZES = 9, [(40, 52), (33, 33), (52, 40)]


def sample(index):
    """An image whose red channel is its label times 40, with a rim of ignored pixels."""
    height, width = SIZES[index % 3]
    rng = np.random.default_rng(index)
    label = np.zeros((height, width), np.uint8)
    label[5 : 10 + 2 * index, 8:25] = 1
    label[15:28, 12 : 18 + index] = 2
    label[:, 0] = 255
    image = rng.integers(0, 255, (height, width, 3), np.uint8)
    image[..., 0] = np.where(label == 255, 0, label) * 40
    return image, label, f"image <{index}>"


def source(names=CLASSES):
    return indexed("drawings (val)", Classes(tuple(names)), COUNT, sample)


class Reader(Runtime):
    """Reads the class from the red channel, shifted by some pixels, so that it errs at the borders."""

    name = "a reader"

    def __init__(self, shift=2, names=CLASSES):
        self.spec = ModelSpec(len(names), classes=Classes(tuple(names)), logits_stride=1)
        self.shift, self.calls = shift, 0

    def scores(self, images):
        self.calls += len(images)
        codes = np.roll(np.rint(images[..., 0] / 40).astype(int), self.shift, 2)
        return 3 * np.eye(len(self.spec.labels), dtype=np.float32)[codes]


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def of(self, *tags):
        return [attributes for tag, attributes in self.found if tag in tags]


@pytest.fixture(scope="module")
def measured():
    return measure({"runs/a reader.keras": Predictor(Reader())}, source(), progress=False)


@pytest.fixture(scope="module")
def page(measured):
    return model_page(measured, source()).html()


def test_each_image_is_predicted_once_for_all_scores_and_they_are_the_metrics_own():
    runtime = Reader()
    (found,) = measure({"a reader": Predictor(runtime)}, source(), progress=False)
    assert runtime.calls == COUNT
    whole = [ConfusionMatrix(4), TrimapCurve(4), BoundaryIoU(4), Calibration(4)]
    predict = Predictor(Reader())
    for index in range(COUNT):
        image, label, _ = sample(index)
        answer = predict.answer(image)
        for metric in whole[:3]:
            metric.update(label, answer.labels)
        whole[3].update(label, answer.labels, answer.confidence)
    np.testing.assert_array_equal(found.matrix.matrix, whole[0].matrix)
    np.testing.assert_array_equal(found.trimap.iou, whole[1].iou)
    np.testing.assert_array_equal(found.boundary.iou, whole[2].iou)
    assert found.calibration.to_dict() == whole[3].to_dict()
    assert found.images.intersections.sum() == np.trace(whole[0].matrix)
    assert found.names == [f"image <{index}>" for index in range(COUNT)]
    assert 0.5 < found.matrix.mean_iou < 0.95


def test_the_page_tells_everything_and_asks_for_nothing(page):
    tags = Tags(page)
    assert not tags.of("script", "iframe", "link", "object")
    policy = next(each["content"] for each in tags.of("meta") if "default-src" in each.get("content", ""))
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    addresses = [each[key] for _, each in tags.found for key in ("src", "href") if key in each]
    assert addresses
    assert all(address.startswith(("#", "data:image/")) for address in addresses)
    anchors = [each["href"] for each in tags.of("a")][:6]
    assert anchors == [f"#{part}" for part in ("classes", "confusion", "images", "borders", "calibration", "model")]
    assert "a reader.keras on drawings (val)" in page
    assert "Scored on all 9 images of drawings (val)" in page


def test_names_from_outside_are_text(page):
    assert "<b>" not in page
    assert "&lt;b&gt;&amp; predicted right" in page
    assert "image &lt;8&gt;" in page


def test_links_lead_somewhere_and_names_are_given_once(page):
    tags = Tags(page)
    ids = [each["id"] for _, each in tags.found if "id" in each]
    assert len(ids) == len(set(ids))
    assert {each["href"][1:] for each in tags.of("a", "use")} <= set(ids)


def test_who_hears_the_page_is_told_what_is_what(page):
    tags = Tags(page)
    assert len(tags.of("main")) == len(tags.of("header")) == len(tags.of("h1")) == 1
    assert all(each.get("scope") in ("col", "row") for each in tags.of("th"))
    assert all(each["alt"] for each in tags.of("img"))
    assert all(each.get("aria-label") or each.get("aria-hidden") for each in tags.of("svg"))
    assert all(each.get("tabindex") == "0" and each["aria-label"] for each in tags.of("div") if "role" in each)
    cells = [each for each in tags.of("a") if each.get("id", "").startswith("m")]
    assert all(re.fullmatch(r".+ predicted .+, [\d.]+ %: show images", each["aria-label"]) for each in cells)


def test_a_cell_opens_the_images_with_the_most_of_its_pixels(measured, page):
    (model,) = measured
    counts = {}
    for index in range(COUNT):
        _, label, _ = sample(index)
        for cell in {*zip(label[label != 255].tolist(), model.predictions[index][label != 255].tolist(), strict=True)}:
            mask = (label == cell[0]) & (model.predictions[index] == cell[1])
            counts.setdefault(cell, {})[index] = int(mask.sum())
    assert len(counts) > 6
    for cell, found in counts.items():
        part = re.search(rf'<section class="cell" id="c{cell[0]}-{cell[1]}".*?</section>', page, re.DOTALL)[0]
        told = re.findall(r"<figcaption>image &lt;(\d)&gt;: ([\d,]+) pixels", part)
        best = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:3]
        assert [(int(index), int(number.replace(",", ""))) for index, number in told] == best
        assert f"{sum(found.values()):,} pixels in {len(found)} image" in part
        # What is marked are these pixels: images as small as these are shown as they are.
        first = re.search(r'<image href="data:image/png;base64,([^"]+)"', part)[1]
        mark = np.asarray(Image.open(io.BytesIO(base64.b64decode(first))))
        assert mark.sum() == best[0][1]


def test_top_images_equal_sorting_all_of_them():
    rng = np.random.default_rng(0)
    matrices = rng.integers(0, 5, (40, 3, 3)) * rng.integers(0, 2, (40, 3, 3))
    top = TopImages(3)
    for index, matrix in enumerate(matrices):
        top.update(index, matrix)
    flat = matrices.reshape(40, 9)
    for cell in range(9):
        order = np.argsort(-flat[:, cell], kind="stable")[:3]
        assert top.images[cell].tolist() == order.tolist()
        assert top.counts[cell].tolist() == flat[order, cell].tolist()
    assert top.occurs.tolist() == (flat > 0).sum(0).tolist()


def test_the_pictures_behind_the_matrix_keep_to_their_budget(measured, page):
    small = model_page(measured, source(), budget=8_000).html()
    assert len(page) - len(small) > 8_000
    assert "Without a picture, to keep the page small: image &lt;" in small
    shown = len(re.findall('role="img" aria-label="image', small))
    assert 0 < shown < len(re.findall('role="img" aria-label="image', page))
    none = model_page(measured, source(), budget=0).html()
    assert 'role="img" aria-label="image' not in none


def test_of_many_classes_the_matrix_shows_those_with_the_most_wrong_pixels():
    matrix = np.diag(np.full(100, 1000))
    matrix[np.arange(40), np.arange(40) + 50] = 10 + np.arange(40)
    shown = shown_classes(matrix)
    assert shown == [*range(24, 40), *range(74, 90)]
    matrix[5, 5] = 0
    assert shown_classes(np.diag([1, 0, 3])) == [0, 2]


def test_best_and_worst_images_are_those_of_the_scores(measured, page):
    scores = measured[0].images.mean_iou
    parts = dict(zip(*[iter(re.split(r"<h3>(Worst|Median|Best)</h3>", page)[1:])] * 2, strict=True))
    shown = {title: re.findall(r"<p>image &lt;(\d)&gt;, mean IoU", part) for title, part in parts.items()}
    order = [str(place) for place in np.argsort(scores, kind="stable")]
    assert shown["Worst"] == order[:6]
    assert shown["Best"] == order[:5:-1]
    assert "Median" not in shown  # of so few images they are among the others


def test_two_models_are_compared_on_the_same_images(tmp_path):
    models = {"one": Predictor(Reader(1)), "other": Predictor(Reader(4))}
    figures = tmp_path / "figures.json"
    found = write_model_report(models, source(), tmp_path / "page.html", figures=figures, progress=False)
    text = (tmp_path / "page.html").read_text("utf-8")
    gain = found[0].matrix.mean_iou - found[1].matrix.mean_iou
    assert gain > 0.1
    assert f"The mean IoU of A less that of B is {gain:+.4f}" in text
    assert "The interval excludes 0." in text
    assert re.search(
        r"<h3>Images where A is better</h3>.*<p>image &lt;\d&gt;, mean IoU 0.\d+ and 0.\d+</p>", text, re.DOTALL
    )
    assert "<h3>Images where B is better</h3>" not in text
    told = json.loads(figures.read_text("utf-8"))
    assert [each["model"] for each in told] == ["one", "other"]
    assert told[0]["mean_iou"] == found[0].matrix.mean_iou
    assert told[1]["boundary"]["mean_iou"] == found[1].boundary.mean_iou
    assert told[0]["trimap"]["widths"][0] == 1
    same = model_page(
        measure({"one": Predictor(Reader()), "two": Predictor(Reader())}, source(), progress=False), source()
    )
    assert "these images don&#x27;t tell which is better" in same.html()


def test_models_of_different_classes_are_not_compared():
    models = {"one": Predictor(Reader()), "other": lambda image: np.zeros(image.shape[:2], int)}
    other = Reader(names=["background", "<b>&", "ring", "never"])
    with pytest.raises(ValueError, match="one and other can't be compared on drawings"):
        measure(models | {"other": Predictor(other)}, source(), progress=False, class_map="names")
    assert len(measure(models, source(), progress=False)) == 2
    with pytest.raises(ValueError, match="one model or two, received 0"):
        write_model_report({}, source(), "page.html")


def test_classes_in_another_order_are_paired_by_name():
    order = ["never", "disc", "<b>&", "background"]
    turned = Predictor(Reader(names=order))
    back = np.array([3, 2, 1, 0])
    turned.runtime.scores = lambda images: Reader(names=order).scores(images)[..., back]
    (found,) = measure({"turned": turned}, source(), class_map="names", progress=False)
    (straight,) = measure({"straight": Predictor(Reader())}, source(), progress=False)
    np.testing.assert_array_equal(found.matrix.matrix[::-1, ::-1], straight.matrix.matrix)
    assert found.classes == tuple(order)
    html = model_page([found], source()).html()
    assert "disc predicted right" in html


def test_what_gives_labels_alone_has_no_calibration():
    found = measure({"f": lambda image: np.minimum(image[..., 0] // 40, 3)}, source(), limit=2, progress=False)
    assert found[0].calibration is None
    html = model_page(found, source()).html()
    assert "f gives labels alone, so nothing tells how sure it is" in html
    assert "Scored on the first 2 of 9 images" in html
    assert found[0].to_dict()["calibration"] is None


def test_label_maps_put_aside_come_back():
    kept = Kept()
    maps = [np.arange(12, dtype=dtype).reshape(shape) for dtype, shape in ((np.uint8, (3, 4)), (np.int32, (6, 2)))]
    for labels in maps:
        kept.append(labels)
        np.testing.assert_array_equal(kept[0], maps[0])  # between two, as well
    for place, labels in enumerate(maps):
        np.testing.assert_array_equal(kept[place], labels)
        assert kept[place].dtype == labels.dtype


def test_marks_of_single_pixels_are_not_lost():
    mask = np.zeros((2000, 3000), bool)
    mask[777, 1234] = True
    picture = np.asarray(Image.open(io.BytesIO(marks(mask, 220))))
    assert picture.shape == (147, 220)
    assert picture.sum() == 1
    assert picture[777 * 147 // 2000, 1234 * 220 // 3000] == 1


def test_data_that_changed_meanwhile_is_refused():
    with pytest.raises(ValueError, match="sample 1 was another and is image <1>"):
        drawn(source(), ["image <0>", "another"], {1}, lambda *_: None)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    from keras_deeplab.specs.model import with_spec

    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(6, 1, name="logits")(inputs))
    names = ("background", "disc", "square", "triangle", "star", "ring")
    path = tmp_path_factory.mktemp("model") / "model.keras"
    with_spec(model, classes=Classes(names)).save(path)
    return path


def test_the_command_writes_the_page_of_a_model(tmp_path, model_file, capsys):
    path = tmp_path / "page.html"
    assert main(["report", str(model_file), "synthetic", "--limit", "2", "--output", str(path)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == str(path)
    assert re.fullmatch(rf"{re.escape(str(model_file))}: mean IoU 0\.\d{{4}}", told[-2])
    html = path.read_text("utf-8")
    assert "24 (24 of them learnt by gradients)" in html
    assert "1x1 pixel" in html


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{model}"], "DATA is missing: name the data set to score"),
        (["{model}", "synthetic", "--data", "synthetic"], "--data is for the folder of a training run, which"),
        (["{model}", "synthetic", "--pictures", "4"], "--pictures is for the folder of a training run"),
        (["{model}", "synthetic", "--compare", "{model}"], "--compare is the same model"),
        (["{model}", "synthetic", "--output", "{folder}/no/page.html"], "There is no folder"),
        (["{run}", "synthetic"], "DATA is for a model: give it as --data"),
        (["{run}", "--compare", "{model}"], "--compare is for a model, not for a run's folder"),
        (["{run}", "--flip"], "--flip is for a model, not for a run's folder"),
        (["{run}", "--pictures", "2"], "--pictures is for --data, which isn't given"),
        (["{folder}"], "has no history.jsonl: name the folder of a run"),
        (["{folder}/nothing.keras", "synthetic"], "there is no file"),
    ],
)
def test_the_command_refuses_what_is_for_the_other_kind(tmp_path, model_file, capsys, words, message):
    run = tmp_path / "run"
    run.mkdir()
    (run / "history.jsonl").write_text('{"step": 1, "loss": 2.0, "learning_rate": 0.1}\n')
    places = {"model": model_file, "folder": tmp_path, "run": run}
    assert main(["report", *(word.format(**places) for word in words)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(chromium.executable() is None, reason="needs a Chromium")
def test_a_browser_shows_the_page_and_keys_open_its_cells(tmp_path, measured):
    path = model_page(measured, source()).write(tmp_path / "page.html")
    browser = chromium.Browser(chromium.executable())
    try:
        browser.call("Emulation.setDeviceMetricsOverride", width=360, height=700, deviceScaleFactor=1, mobile=True)
        browser.open(path.as_uri())
        assert browser.evaluate("document.documentElement.scrollWidth") <= 360
        height = "document.getElementById('c1-0').getBoundingClientRect().height"
        assert browser.evaluate(height) == 0
        browser.evaluate("document.getElementById('m1-0').focus()")
        for kind in ("keyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="Enter", windowsVirtualKeyCode=13, text="\r")
        browser.wait(f"{height} > 100")
        assert browser.evaluate("document.activeElement.id") == "c1-0"
        assert browser.evaluate("document.querySelector('#c1-0 use').getBoundingClientRect().width") > 20
        browser.evaluate("document.querySelector('#c1-0 a').click()")
        browser.wait(f"{height} === 0 && document.activeElement.id === 'm1-0'")
        outline = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        assert [each for each in browser.requests if not each.startswith(("data:", "file:"))] == []
        assert browser.errors == []
    finally:
        browser.close()
