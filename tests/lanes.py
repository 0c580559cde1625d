"""The fast lane, `pytest -m "not slow"`: what a parametrised test keeps in it."""

import pytest


def slow_except(values, *quick):
    """The values for `pytest.mark.parametrize`, all but the quick ones marked slow."""
    unknown = [value for value in quick if value not in values]
    assert not unknown, f"{unknown} are none of {list(values)}"
    return [value if value in quick else pytest.param(value, marks=pytest.mark.slow) for value in values]
