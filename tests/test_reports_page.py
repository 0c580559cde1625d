"""Pages: everything in one file, nothing asked for, whatever is in it escaped."""

import base64
import re
from html.parser import HTMLParser

import numpy as np

from keras_deeplab._helpers.opencv import cv2
from keras_deeplab.reports import Page
from keras_deeplab.reports.page import bars

WILD = "<script>alert('&\"')</script>\udce9"


def parsed(text):
    found = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attributes):
            found.append((tag, dict(attributes)))

        def handle_data(self, data):
            found.append(("text", data))

    Parser().feed(text)
    return found


def test_what_comes_from_outside_is_text_and_nothing_else(tmp_path):
    page = Page(WILD)
    page.heading(WILD)
    page.text(WILD, "error")
    page.table([WILD], [[WILD, 3]])
    page.pictures([(np.zeros((4, 5, 3), np.uint8), WILD)])
    page.svg(bars([(WILD, 0.5)]))
    path = page.write(tmp_path / "page.html")
    found = parsed(path.read_text("utf-8"))
    assert "script" not in {tag for tag, _ in found}
    shown = [data for tag, data in found if tag == "text" and "alert" in data]
    assert len(shown) == 8  # title, heading 1 and 2, paragraph, head, cell, caption, bar
    # A browser takes nothing from elsewhere, and there is nothing that it would have to take.
    policy = next(each for tag, each in found if tag == "meta" and "content" in each and "src" in each["content"])
    assert policy["content"].startswith("default-src 'none'")
    addresses = [value for tag, each in found if tag != "text" for key, value in each.items() if key in ("src", "href")]
    assert addresses
    assert all(address.startswith("data:image/") for address in addresses)
    assert list(tmp_path.iterdir()) == [path]


def test_pictures_keep_their_colours_and_fit():
    image = np.zeros((300, 600, 3), np.uint8)
    image[..., 0] = 200
    page = Page("")
    page.pictures([(image, "large"), (image[:20, :30], "small")])
    large, small = [each for tag, each in parsed(page.html()) if tag == "img"]
    assert (large["width"], large["height"]) == ("420", "210")
    assert (small["width"], small["height"]) == ("420", "280")
    for tag, shape in ((large, (210, 420)), (small, (20, 30))):
        data = base64.b64decode(tag["src"].partition("base64,")[2])
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert pixels.shape == (*shape, 3)
        assert np.abs(pixels.reshape(-1, 3).mean(0) - (200, 0, 0)).max() < 3


def test_bars_are_as_long_as_their_numbers():
    drawing = bars([("a", 0.5), ("b", 0.125), ("c", 0.0)], [(1, 2, 3)] * 3)
    lengths = [float(length) for length in re.findall(r'<rect [^>]*?width="([\d.]+)"', drawing)]
    np.testing.assert_allclose(np.array(lengths) / lengths[0], [1, 0.25, 0], atol=1e-3)
    assert drawing.count("rgb(1, 2, 3)") == 3
    assert "50.0%" in drawing


def test_numbers_stand_to_the_right():
    page = Page("")
    page.table(["class", "share"], [["road", "12.5%"], ["sky", -3], ["3 m", "1,000"], ["-", "< 0.1 %"], ["", "+0.5"]])
    assert re.findall(r"<td( class=\"number\")?>([^<]*)", page.html()) == [
        ("", "road"), (' class="number"', "12.5%"), ("", "sky"), (' class="number"', "-3"), ("", "3 m"),
        (' class="number"', "1,000"), (' class="number"', "-"), (' class="number"', "&lt; 0.1 %"), ("", ""),
        (' class="number"', "+0.5"),
    ]  # fmt: skip
