"""A few changed inputs to every door that takes what others made; `benchmarks/fuzz.py` puts thousands to each.

The doors that build, train or export something are only in the latter; `test_weights_fuzz.py` has those of checkpoints.
"""

import random

import fuzz_doors
import pytest
from fuzz_doors import DOORS, Ready, outcome

INPUTS = {"data": 2, "annotations": 3, "arguments: builders": 0, "image: a folder": 0}
ELSEWHERE = (
    "weights",
    "run:",
    "record: TFLite",
    "run's folder: resumed",
    "server: images",
    "server: gRPC",
    "data: check",
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in DOORS if not name.startswith(ELSEWHERE)])
def test_a_door_takes_changed_inputs_or_refuses_them_by_name(name, tmp_path, monkeypatch):
    ready = DOORS[name](tmp_path, monkeypatch.setattr)
    try:
        if ready.valid is not None:
            ready.enter(ready.valid)
        for number in range(next((count for start, count in INPUTS.items() if name.startswith(start)), 12)):
            made = ready.draw(random.Random(f"{name} {number}"), below=bool(number % 2))
            kind, told = outcome(ready, made)
            assert kind != "fault", f"{number}: {told}"
    finally:
        ready.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (None, "accepted"),
        (ValueError("a.png is damaged"), "refused"),
        (ValueError("is damaged"), "fault"),
        (OSError(), "fault"),
        (KeyError("a.png"), "fault"),
        (RecursionError("a.png"), "fault"),
    ],
)
def test_only_errors_that_are_documented_and_name_the_input_refuse(error, kind):
    def enter(made):
        if error is not None:
            raise error

    assert outcome(Ready(lambda *_: b"", enter, lambda made: ("a.png",)), b"")[0] == kind


def test_every_input_is_drawn_again_by_its_number(tmp_path):
    ready = fuzz_doors.images(".png")(tmp_path, setattr)
    first, again = (ready.draw(random.Random("7"), below=True) for _ in range(2))
    assert first == again != ready.valid
