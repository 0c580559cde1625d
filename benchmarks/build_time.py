"""Times how long a DeepLab takes to build, each time in a fresh process, and counts the variables made on the way.

    python benchmarks/build_time.py [--rounds 3] [--profile] [NAME ...]

NAME is a published model (`keras-deeplab models`). A process imports the package, builds a small model once, so that
TensorFlow has started, then builds NAME; the time is of this alone. The table shows the median of the rounds on the
wall clock, the median of the processor's seconds, which other load on the machine moves less, and how many values of
variables were made beside how many the model has. `--profile` prints where the time goes instead.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

NAMES = ("slim_deeplabv3plus_mobilenet_v2", "slim_deeplabv3plus_xception_65", "vainf_deeplabv3plus_resnet101")

ONCE = """
import json, sys, time
import keras
from keras_deeplab import build
from keras_deeplab.models import DeepLabV3
DeepLabV3("resnet18", num_classes=2)
created = 0
variable = type(keras.Variable(0.0))
initialise = variable._initialize
def counting(self, value):
    global created
    created += 1
    return initialise(self, value)
variable._initialize = counting
wall, processor = time.perf_counter(), time.process_time()
model = build(sys.argv[1])
seconds = time.perf_counter() - wall, time.process_time() - processor
print(json.dumps([*seconds, created, len(model.variables)]))
"""

PROFILE = """
import cProfile, pstats, sys
from keras_deeplab import build
from keras_deeplab.models import DeepLabV3
DeepLabV3("resnet18", num_classes=2)
profile = cProfile.Profile()
profile.runcall(build, sys.argv[1])
pstats.Stats(profile).sort_stats("cumulative").print_stats("keras_deeplab|clone_model|initialize|/layer.py", 40)
"""


def run(code, name):
    """Standard output of `code` in a process of its own."""
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    done = subprocess.run([sys.executable, "-c", code, name], stdout=subprocess.PIPE, env=environment, check=True)
    return done.stdout.decode()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", metavar="NAME", nargs="*", default=NAMES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    if options.profile:
        for name in options.names:
            print(run(PROFILE, name))
        return
    print("| model | wall s | processor s | values of variables made | variables |\n|---|---|---|---|---|")
    for name in options.names:
        rounds = [json.loads(run(ONCE, name).splitlines()[-1]) for _ in range(options.rounds)]
        wall, processor, created, variables = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"| {name} | {wall:.2f} | {processor:.2f} | {created:.0f} | {variables:.0f} |", flush=True)


if __name__ == "__main__":
    main()
