"""Options that are declared once: keyword, flag, check, text, JSON and help from one line."""

import argparse
import dataclasses
import inspect
import json
import math

import numpy as np
import pytest

from keras_deeplab.options import (
    KINDS,
    Factors,
    Integers,
    Names,
    Numbers,
    OptionError,
    Options,
    Preset,
    Range,
    Size,
    add_flags,
    in_flags,
    near,
    nested,
    option,
    options,
    record,
    takes,
)


@record
class Inner(Options):
    TITLE = "inner"

    power: float = option(0.9, "exponent", minimum=0)
    every: int = option(10, "steps between", name="inner_every", minimum=1)


@record
class Outer(Options):
    steps: int = option(help="how many", minimum=1)
    size: Size = option(513, "of images")
    share: float = option(0.5, "a share", above=0, maximum=1)
    name: str | None = option(None, "what", choices={"poly": 1, "cosine": 2})
    weights: Numbers | None = option(None, "weights", minimum=0)
    rates: Integers | None = option(None, "rates")
    span: Range = option((0.5, 2.0), "low and high")
    words: Names = option(("a",), "words")
    factors: Factors | None = option(None, "factors")
    flip: bool = option(True, "whether to mirror")
    kept: int = option(3, "not a setting of the result", configuration=False)
    inner: Inner = nested(Inner)

    def checked(self):
        if self.steps < self.inner.every:
            raise OptionError(
                "{steps} must be at least {inner_every}; received {steps_given}", steps_given=str(self.steps)
            )


def flags(arguments, kind=Outer):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_flags(parser, kind)
    return kind.parsed(vars(parser.parse_args(arguments)))


def test_values_are_brought_to_their_types():
    made = Outer(steps=np.int64(20), size=9, weights=[1, 2], factors={"x": 2}, span=[1, 2])
    assert (made.steps, made.size, made.weights, made.factors, made.span) == (
        20,
        (9, 9),
        (1.0, 2.0),
        {"x": 2.0},
        (1, 2),
    )
    assert isinstance(made.span[0], float)
    assert Outer(steps=20).size == (513, 513)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.steps = 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps must be a whole number, at least 1; received 0"),
        ({"steps": 2.5}, "steps must be a whole number, at least 1; received 2.5"),
        ({"steps": True}, "steps must be a whole number, at least 1; received True"),
        ({"steps": None}, "steps must be a whole number, at least 1; received None"),
        ({"share": 0}, "share must be a finite number, greater than 0 and at most 1; received 0"),
        ({"share": math.nan}, "share must be a finite number, greater than 0 and at most 1; received nan"),
        ({"share": "1"}, "received '1'"),
        ({"size": (5,)}, r"size must be N or \(height, width\), each at least 1; received \(5,\)"),
        ({"size": (0, 5)}, "size must be"),
        ({"name": "ploy"}, "name must be one of poly, cosine; received 'ploy': did you mean 'poly'"),
        ({"weights": [1, -1]}, r"weights must be a list of finite numbers, at least 0; received \[1, -1\]"),
        ({"weights": []}, "weights must be"),
        ({"rates": [1.5]}, "rates must be a list of whole numbers"),
        ({"span": 1}, "span must be two finite numbers; received 1"),
        ({"words": "ab"}, "words must be a list of names"),
        ({"factors": {"x": "y"}}, "factors must be a dict from texts to finite numbers"),
        ({"flip": 1}, "flip must be True or False; received 1"),
        ({"power": math.inf}, "power must be a finite number, at least 0; received inf"),
        ({"inner_every": 30}, "steps must be at least inner_every; received 20"),
        ({"pover": 1}, r"unknown option 'pover': did you mean 'power'\?"),
        ({"xyz": 1}, "unknown option 'xyz'. Known: steps, size, .*inner_every"),
        ({"power": {"a": "{b}"}}, "received {'a': '{b}'}"),
    ],
)
def test_python_speaks_of_arguments(values, message):
    with pytest.raises(OptionError, match=message):
        Outer.of(**{"steps": 20, **values})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "-1"], "--steps must be a whole number, at least 1; received -1"),
        (["--steps", "x"], "--steps must be a whole number, at least 1; received x"),
        (["--power", "nan"], "--power must be a finite number, at least 0; received nan"),
        (["--size", "0x5"], "--size must be N or HEIGHTxWIDTH, at least 1; received 0x5"),
        (["--size", "12x"], "--size must be N or HEIGHTxWIDTH"),
        (["--size", "1x2x3"], "--size must be N or HEIGHTxWIDTH"),
        (["--span", "1"], "--span must be two finite numbers LOW,HIGH; received 1"),
        (["--name", "cosin"], "--name must be one of poly, cosine; received cosin: did you mean 'cosine'"),
        (["--factors", "a"], "--factors must be TEXT=NUMBER,TEXT=NUMBER; received a"),
        (["--inner-every", "30"], "--steps must be at least --inner-every"),
    ],
)
def test_a_command_line_speaks_of_flags(arguments, message):
    with pytest.raises(OptionError) as error:
        flags(["--steps", "20", *arguments])
    told = error.value.told(lambda name: options(Outer)[name].flag)
    assert told.startswith(message)
    assert "\n" not in told


def test_text_becomes_values():
    made = flags(
        [
            "--steps",
            "20",
            "--size",
            "32x48",
            "--weights",
            "1, 2.5",
            "--rates",
            "6,12",
            "--span",
            "1,2",
            "--words",
            "a,b",
        ]
        + ["--factors", "^a=b$=0.1,c=2", "--no-flip", "--power", "1e-2"]
    )
    assert made == Outer(
        steps=20,
        size=(32, 48),
        weights=(1.0, 2.5),
        rates=(6, 12),
        span=(1.0, 2.0),
        words=("a", "b"),
        factors={"^a=b$": 0.1, "c": 2.0},
        flip=False,
        inner=Inner(power=0.01),
    )
    assert flags(["--steps", "20"]) == Outer(steps=20)


def test_options_are_found_wherever_they_are_nested():
    made = Outer.of(steps=20, power=2, inner_every=5)
    assert made.inner == Inner(power=2.0, every=5)
    assert made.with_options(power=3, flip=False) == Outer(steps=20, flip=False, inner=Inner(power=3, every=5))
    assert made.values()["inner_every"] == 5
    assert "weights" not in made.given()
    with pytest.raises(ValueError, match="inner must be a Inner; received 3"):
        Outer(steps=20, inner=3)
    with pytest.raises(OptionError, match="steps must be given: how many"):
        Outer.of(power=1)


def test_json_holds_what_a_result_depends_on():
    values = Outer(steps=20, size=7).to_json()
    assert json.loads(json.dumps(values)) == values
    assert values["size"] == [7, 7]
    assert values["inner_every"] == 10
    assert "kept" not in values


def test_a_functions_signature_and_docstring_have_them():
    @takes(Outer)
    def function(x, **options):
        """Does.

        Args:
            x: what.
            {options}
        """

    function.__doc__ = inspect.cleandoc(function.__doc__)
    parameters = inspect.signature(function).parameters
    assert list(parameters) == ["x", *options(Outer)]
    assert parameters["steps"].default is inspect.Parameter.empty
    assert parameters["power"].default == 0.9


def test_help_has_range_and_default(capsys):
    parser = argparse.ArgumentParser(prog="x")
    add_flags(parser, Outer)
    text = " ".join(parser.format_help().split())
    for part in (
        "--steps N how many; at least 1",
        "--share X a share; greater than 0 and at most 1; by default 0.5",
        "--size SIZE of images; by default 513",
        "--span LOW,HIGH low and high; by default 0.5,2",
        "what; one of poly, cosine",
        "--flip, --no-flip whether to mirror; by default on",
        "inner: --power X",
    ):
        assert part in text
    with pytest.raises(SystemExit):
        parser.parse_args([])
    assert "required: --steps" in capsys.readouterr().err


def test_a_declaration_that_can_not_work_is_refused():
    @record
    class Twice(Options):
        power: float = option(1.0, "")
        inner: Inner = nested(Inner)

    @record
    class Strange(Options):
        what: dict = option(None, "")

    @record
    class Hiding(Options):
        power: float = option(1.0, "")

        def values(self):
            return {}

    with pytest.raises(TypeError, match=r"Hiding\.values hides what every record has"):
        options(Hiding)
    with pytest.raises(TypeError, match="two options of the name 'power'"):
        options(Twice)
    with pytest.raises(TypeError, match="which no kind of KINDS is for"):
        options(Strange)


def test_every_kind_reads_what_it_shows():
    for kind in KINDS.values():
        assert kind.what
        assert kind is KINDS[bool] or kind.metavar


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name='poly' needs weights=[(1, 2), ...], one each", "--name poly needs --weights X,X,..., one each"),
        ("give flip=False or flip=True", "give --no-flip or --flip"),
        ("pass size= (--size), a number", "pass --size, a number"),
        ("size= or --size is not for this", "--size is not for this"),
        ('(name="poly", --name poly)', "(--name poly)"),
        ("with steps=3; another_steps=3 stays", "with --steps 3; another_steps=3 stays"),
    ],
)
def test_pythons_words_become_those_of_a_command_line(text, told):
    assert in_flags(text, Outer) == told


def test_the_nearest_name():
    assert near("resnet5", ["resnet50", "vgg16"]) == ": did you mean 'resnet50'?"
    assert near("x", ["resnet50"]) == ""


# Presets ----------------------------------------------------------------------------------------------------------


@record
class Begun(Outer):
    SETTABLE = True

    begin: str | None = option(None, "what to begin with")

    @classmethod
    def preset_for(cls, given):
        if given.get("begin") is None:
            return None
        return Preset(given["begin"], {"steps": 30, "size": 65, "power": 2.0, "flip": False, "elsewhere": 1})


def test_a_preset_gives_what_is_not_given_wherever_it_is_nested():
    row = Preset("small", {"steps": 30, "size": 65, "power": 2, "elsewhere": 1})
    made = Outer.of(row, power=0.5, inner_every=10)
    assert (made.steps, made.size, made.inner.power, made.preset) == (30, (65, 65), 0.5, row)
    assert made.asked() == {"power": 0.5, "inner_every": 10}
    assert (made.inner.preset, made.inner.asked()) == (row, made.asked())
    assert made == Outer.of(steps=30, size=65, power=0.5)
    with pytest.raises(OptionError, match="steps must be a whole number, at least 1; received 0"):
        Outer.of(Preset("wrong", {"steps": 0}))


def test_what_was_overridden_is_what_was_given_and_differs():
    row = Preset("small", {"steps": 30, "size": 65})
    made = Outer.of(row, size=(65, 65), share=0.5, flip=False, steps=31)
    assert made.overridden() == {"steps": 31, "flip": False}
    assert made.filled(name="poly", steps=40).overridden() == {"steps": 40, "flip": False}
    assert made.with_options(share=0.25).overridden() == {"steps": 31, "flip": False, "share": 0.25}
    assert made.with_options(share=0.25).preset is row
    assert (Outer(steps=20).preset, Outer(steps=20).asked()) == (None, {"steps": 20})


def test_a_command_line_begins_with_the_preset_that_it_asks_for():
    made = flags(["--steps", "40", "--begin", "small", "--flip"], Begun)
    assert (made.steps, made.size, made.flip, made.inner.power) == (40, (65, 65), True, 2.0)
    assert made.overridden() == {"steps": 40, "flip": True, "begin": "small"}
    assert flags(["--steps", "40"], Begun).size == (513, 513)


def test_set_is_the_flag_by_its_name(capsys):
    words = ["--steps", "20", "--set", "power=3", "--set", "flip=off", "--set", "factors=a=b=2", "--set", "size=9x17"]
    made = flags([*words, "--set", "name=cosine", "--name", "poly", "--power", "1", "--set", "power=4"], Begun)
    assert made == flags(
        ["--steps", "20", "--power", "4", "--no-flip", "--factors", "a=b=2", "--size", "9x17", "--name", "poly"], Begun
    )
    assert flags(["--steps", "20", "--weights", "1,2", "--set", "weights=none"], Begun).weights is None
    for word, message in (
        ("flip=maybe", "flip must be on or off; received maybe"),
        ("share=2", "share must be a finite number, greater than 0 and at most 1; received 2"),
        ("steps=none", "steps must be a whole number, at least 1; received none"),
    ):
        with pytest.raises(OptionError, match=message):
            flags(["--steps", "20", "--set", word], Begun)
    for word, message in (
        ("power", "--set must be NAME=VALUE; received power"),
        ("powr=1", "--set has an unknown option 'powr': did you mean 'power'?"),
    ):
        with pytest.raises(SystemExit):
            flags(["--steps", "20", "--set", word], Begun)
        assert message in capsys.readouterr().err
