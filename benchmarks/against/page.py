"""docs/benchmarks.md out of results.jsonl: tables, and a drawing of each comparison."""

import json
import statistics
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
DOCS = HERE.parents[1] / "docs"
TEAL, GREY, INK = "#00897b", "#90a4ae", "#607d8b"
TITLES = {
    "train": "A step of training",
    "infer": "An image to labels, float32",
    "int8": "An image to labels, int8",
    "throughput": "Eight images to labels, float32",
    "folder": "A folder of photographs to label files",
    "evaluate": "An evaluation beside its bare model",
    "pipeline": "Batches of crops for training",
    "startup": "Start",
}


def write() -> Path:
    """Writes the page and its drawings; of several results of one setting the latest counts."""
    latest: dict[str, dict[str, Any]] = {}
    for line in RESULTS.read_text("utf-8").splitlines():
        result = json.loads(line)
        latest[json.dumps([result["part"], result["setting"]], sort_keys=True)] = result
    lines = [(HERE / "introduction.md").read_text("utf-8").strip(), ""]
    for part, title in TITLES.items():
        results = [each for each in latest.values() if each["part"] == part]
        if results:
            lines += [f"## {title}", ""]
        for number, result in enumerate(results):
            lines += _section(result, f"{part}_{number}")
    growth = [each for each in latest.values() if each["part"] == "growth"]
    if growth:
        lines += _growth(growth)
    path = DOCS / "benchmarks.md"
    path.write_text("\n".join(lines).rstrip() + "\n", "utf-8")
    return path


def _section(result: dict[str, Any], name: str) -> Iterator[str]:
    rounds, setting = result["rounds"], result["setting"]
    median = {cell: statistics.median(each[cell][0] for each in rounds) for cell in rounds[0]}
    peers = [cell for cell in median if "/ours/" not in cell]
    best = min(peers, key=median.__getitem__)
    rows = []
    for cell in sorted(median, key=median.__getitem__):
        ratios = [each[cell][0] / each[best][0] for each in rounds]
        memory = max(each[cell][1] for each in rounds)
        rows.append((cell.partition("/")[2], 1000 * median[cell], sorted(ratios), memory))
    image = DOCS / "images" / f"benchmark_{name}.svg"
    image.write_text(_bars([(label, value, "ours/" in label) for label, value, _, _ in rows]), "utf-8")
    yield f"### {_told(result['part'], setting)}"
    yield ""
    yield f"![Milliseconds of each](images/{image.name})"
    yield ""
    yield f"| | ms | ratio to {best.partition('/')[2]} | lowest to highest | MiB of the process |"
    yield "|---|---|---|---|---|"
    for label, value, ratios, memory in rows:
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        yield f"| {label} | {value:.1f} | {statistics.median(ratios):.2f} | {spread} | {memory:.0f} |"
    yield ""
    low, high = result["load"]
    yield (
        f"{result['date']}, {len(rounds)} rounds, {setting['threads']} threads, load {low:.1f} to {high:.1f}. "
        f"{result['told']}".rstrip()
    )
    yield ""


def _told(part: str, setting: dict[str, Any]) -> str:
    if part == "startup":
        size = f"{setting['size']}x{setting['size']}"
        return f"A process that imports, and the first prediction in it, {size}, after the model is read"
    if part == "pipeline":
        return f"Crops of {setting['size']}x{setting['size']}, batch {setting['batch']}"
    told = f"v3+ on {setting['backbone']}, {setting['size']}x{setting['size']}"
    if setting.get("weights"):
        told += f", trained, photographs of {setting['photographs']}"
    batch = f", batch {setting['batch']}" if part == "train" else ""
    return f"{told}{batch}, {setting['classes']} classes, stride {setting['stride']}"


def _growth(results: list[dict[str, Any]]) -> Iterator[str]:
    import numpy as np

    kinds = ("infer/ours/litert", "int8/ours/litert")
    points = []
    for result in results:
        medians = [statistics.median(each[kind][0] for each in result["rounds"]) for kind in kinds]
        memory = [max(each[kind][1] for each in result["rounds"]) for kind in kinds]
        points.append((*(result["setting"][key] for key in ("size", "classes", "stride")), *medians, *memory))
    yield "## How it grows: v3+ on MobileNetV2, LiteRT"
    yield ""
    yield "| size | classes | stride | float32 ms | MiB | int8 ms | MiB |"
    yield "|---|---|---|---|---|---|---|"
    for size, classes, stride, one, two, memory_one, memory_two in sorted(points):
        told = f"{1000 * one:.0f} | {memory_one:.0f} | {1000 * two:.0f} | {memory_two:.0f}"
        yield f"| {size} | {classes} | {stride} | {told} |"
    yield ""
    plain = [point for point in points if point[1:3] == (21, 16)]
    for column, kind in ((3, "float32"), (4, "int8")):
        if len(plain) > 2:
            slope = np.polyfit(np.log([p[0] ** 2 for p in plain]), np.log([p[column] for p in plain]), 1)[0]
            yield f"{kind}: as the {slope:.2f}th power of the pixels."
    low, high = (pick(each["load"][i] for each in results) for i, pick in ((0, min), (1, max)))
    yield f"{results[-1]['date']}, {results[-1]['setting']['threads']} threads, load {low:.1f} to {high:.1f}."
    yield ""


def _bars(rows: list[tuple[str, float, bool]]) -> str:
    """A bar for each (name, milliseconds, whether it is ours)."""
    width, step = 330, 24
    left = max(150, 12 + 7 * max(len(name) for name, _, _ in rows))  # room for the longest name
    most = max(value for _, value, _ in rows)
    parts = []
    for index, (name, value, ours) in enumerate(rows):
        top, length = 6 + index * step, width * value / most
        style = f'fill="{INK}" font-family="sans-serif" font-size="12"'
        parts += [
            f'<text x="{left - 8}" y="{top + 13}" text-anchor="end" {style}>{escape(name)}</text>',
            f'<rect x="{left}" y="{top}" width="{length:.1f}" height="{step - 6}" fill="{TEAL if ours else GREY}"/>',
            f'<text x="{left + length + 6:.1f}" y="{top + 13}" {style}>{value:.0f} ms</text>',
        ]
    size = f'width="{left + width + 70}" height="{len(rows) * step + 8}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(parts)}</svg>\n'
