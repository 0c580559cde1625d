#!/usr/bin/env python3
"""`keras-deeplab check-data` as a script."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from keras_deeplab.cli import script

script("check-data")
