"""Draws what ours.py and peer.py wrote: mean IoU of the validation by step, and by processor seconds of the training.

python benchmarks/idd_lite/curves.py ours.jsonl peer.jsonl curves.png [--names "ours,the peer"]
"""

import argparse
import json
from pathlib import Path

from keras_deeplab.reports.charts import Chart, Curve
from keras_deeplab.reports.drawing import png


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours")
    parser.add_argument("peer")
    parser.add_argument("output")
    parser.add_argument("--names", default="ours,the peer")
    arguments = parser.parse_args()
    runs = [
        [json.loads(line) for line in Path(file).read_text().splitlines()] for file in (arguments.ours, arguments.peer)
    ]
    charts = []
    for key, title in (("step", "mIoU by step"), ("processor_seconds", "mIoU by processor seconds")):
        curves = [
            Curve(name, [(0, None), *((row[key], row["mean_iou"]) for row in rows)])
            for name, rows in zip(arguments.names.split(","), runs, strict=True)
        ]
        charts.append(Chart(title, curves, low=0.3, width=640))
    Path(arguments.output).write_bytes(png([charts]))
    for name, rows in zip(arguments.names.split(","), runs, strict=True):
        last = rows[-1]
        print(f"{name}: {last['mean_iou']:.4f} after {last['step']} steps, {last['processor_seconds']:.0f} s")


if __name__ == "__main__":
    main()
