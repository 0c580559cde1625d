"""Options that are declared once: a field of a frozen record gives an argument, a flag, a configuration's entry.

A record is a class that `@record` makes a frozen, keyword-only dataclass and that derives from `Options`; each of its
fields is an `option(...)`, or a record itself (`nested(...)`), whose options count as its own. From the field's type,
range, default and help come the check in the constructor, the flag of a command with its help, the reading of text, the
JSON of a configuration, and the lines of a docstring. Messages are in the words of the door that a value came through:
`learning_rate must be ...` in Python, `--learning-rate must be ...` on a command line.

>>> @record
... class Heat(Options):
...     temperature: float = option(20.0, "of the room, in degrees", above=-273.15)
>>> Heat(temperature=-300)
Traceback (most recent call last):
...
keras_deeplab.options.OptionError: temperature must be a finite number, greater than -273.15; received -300
>>> Heat.parsed({"temperature": "21.5"}).to_json()
{'temperature': 21.5}
"""

import argparse
import ast
import dataclasses
import difflib
import functools
import inspect
import math
import numbers
import operator
import os
import re
import textwrap
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any, ClassVar, Self, cast

from keras_deeplab._helpers.values import plain

Size = tuple[int, int]
Range = tuple[float, float]
Numbers = tuple[float, ...]
Integers = tuple[int, ...]
Names = tuple[str, ...]
Factors = Mapping[str, float]


@dataclass(frozen=True)
class Preset:
    """Values of options by their own names, for where none are given, under a name that results are told with."""

    name: str
    values: Mapping[str, Any]


class OptionError(ValueError):
    """A value that an option doesn't take. Its text has the options' names in Python; `told` uses other words.

    Args:
        template: the message, with the names of options as `{name}`, and `{key}` for each of `values`.
        values: what else stands in it, already text.
    """

    def __init__(self, template: str, **values: str) -> None:
        self.template, self.values = template, values
        super().__init__(self.told(str))

    def told(self, word: Callable[[str], str]) -> str:
        """The message with `word(name)` for the name of each option."""
        return self.template.format_map(_Words(self.values, word))


class _Words(dict):
    def __init__(self, values: Mapping[str, str], word: Callable[[str], str]) -> None:
        super().__init__(values)
        self.word = word

    def __missing__(self, name: str) -> str:
        return self.word(name)


# Kinds of values --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """What values of a type are.

    Attributes:
        what: for messages, what a value is in Python.
        check: any value to one of the type, or TypeError or ValueError.
        read: text of a command line to what `check` takes.
        spelled: for messages, what the text must be; None for `what`.
        metavar: stands for a value in the help of a flag.
    """

    what: str
    check: Callable[[Any], Any]
    read: Callable[[str], Any] = str
    spelled: str | None = None
    metavar: str | None = None


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError(value)
    return operator.index(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise TypeError(value)
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(value)
    return os.fspath(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def _read_boolean(text: str) -> bool:
    return {"on": True, "off": False}[text.lower()]


def size(value: Any) -> Size:
    """An int, or (height, width), to (height, width); TypeError or ValueError where it is no size."""
    height, width = (value, value) if isinstance(value, numbers.Integral) else value
    height, width = _integer(height), _integer(width)
    if min(height, width) < 1:
        raise ValueError(value)
    return height, width


def read_size(text: str) -> int | Size:
    """`513` to 513, `321x513` to (321, 513)."""
    first, *others = (int(part) for part in text.lower().split("x"))
    if len(others) > 1:
        raise ValueError(text)
    return (first, others[0]) if others else first


def _range(value: Any) -> Range:
    low, high = value
    return _number(low), _number(high)


def _several(check: Callable[[Any], Any]) -> Callable[[Any], tuple]:
    def several(value: Any) -> tuple:
        if isinstance(value, str) or len(value) == 0:
            raise TypeError(value)
        return tuple(check(part) for part in value)

    return several


def _read_several(read: Callable[[str], Any]) -> Callable[[str], tuple]:
    return lambda text: tuple(read(part.strip()) for part in text.split(","))


def _factors(value: Any) -> dict[str, float]:
    return {_text(key): _number(factor) for key, factor in dict(value).items()}


def read_pairs(text: str) -> dict[str, str]:
    """`a=1,b=2` to {"a": "1", "b": "2"}; a pair ends with the last `=` before a comma."""
    pairs = [part.rpartition("=") for part in text.split(",")]
    if not all(sign for _, sign, _ in pairs) or len({key for key, _, _ in pairs}) != len(pairs):
        raise ValueError(text)
    return {key.strip(): value.strip() for key, _, value in pairs}


# What a field's type, beside None, makes of values. A field may bring another `kind`.
KINDS: dict[Any, Kind] = {
    int: Kind("a whole number", _integer, int, metavar="N"),
    float: Kind("a finite number", _number, float, metavar="X"),
    str: Kind("text", _text, metavar="TEXT"),
    bool: Kind("True or False", _boolean, _read_boolean, "on or off"),
    Size: Kind("N or (height, width), each at least 1", size, read_size, "N or HEIGHTxWIDTH, at least 1", "SIZE"),
    Range: Kind("two finite numbers", _range, _read_several(float), "two finite numbers LOW,HIGH", "LOW,HIGH"),
    Numbers: Kind("a list of finite numbers", _several(_number), _read_several(float), "finite numbers X,X", "X,X,..."),
    Integers: Kind("a list of whole numbers", _several(_integer), _read_several(int), "whole numbers N,N", "N,N,..."),
    Names: Kind("a list of names", _several(_text), _read_several(str), "names A,B", "A,B,..."),
    Factors: Kind(
        "a dict from texts to finite numbers",
        _factors,
        lambda text: {key: float(factor) for key, factor in read_pairs(text).items()},
        "TEXT=NUMBER,TEXT=NUMBER",
        "TEXT=X,...",
    ),
}


# Declaration ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    """One option, as its field declares it.

    Attributes:
        name: how it is called by its own, as a keyword argument and in a configuration.
        path: the names of the records that it is nested in, and the field's.
        kind: what its values are; `optional` where None is one too.
        default: MISSING where it must be given.
        help: what it is, a phrase.
        minimum, maximum, above, below: bounds of each number in it, `above` and `below` excluded.
        choices: the values that it takes, perhaps a registry that grows.
        flag: on command lines, such as `"--learning-rate"`; None for a word without a flag.
        metavar, nargs, const: as argparse takes them.
        configuration: whether what is computed depends on it, so that it is kept with the result.
        group: the title of its record.
    """

    name: str
    path: tuple[str, ...]
    kind: Kind
    optional: bool
    default: Any
    help: str
    minimum: float | None
    maximum: float | None
    above: float | None
    below: float | None
    choices: Collection[str] | None
    flag: str | None
    metavar: str | None
    nargs: str | None
    const: str | None
    configuration: bool
    group: str | None

    @property
    def is_switch(self) -> bool:
        """Whether its flag stands alone, and has a counterpart with `--no-`."""
        return self.kind is KINDS[bool]

    def check(self, value: Any, text: str | None = None) -> Any:
        """The value as the record holds it.

        Args:
            text: what stood on the command line, where it came from there.

        Raises:
            OptionError: it is of another type, out of range, or none of the choices.
        """
        if value is None and self.optional:
            return None
        try:
            checked = self.kind.check(value)
        except (TypeError, ValueError, OverflowError):
            raise self._error(value, text) from None
        if self.choices is not None and isinstance(checked, str) and checked not in self.choices:
            raise self._error(value, text, near(checked, self.choices))
        if not all(self._within(number) for number in _numbers_in(checked)):
            raise self._error(value, text)
        return checked

    def usual(self) -> Any:
        """The default as the record holds it; MISSING without one."""
        return self.default if self.default in (MISSING, None) else self.check(self.default)

    def parse(self, text: str | Sequence[str]) -> Any:
        """Text of a command line, or several words of it, to the value."""
        if self.optional and text == "none" and not self._takes_any_text:
            return None
        try:
            value = self.kind.read(text) if isinstance(text, str) else tuple(text)
        except OptionError:  # of a file that it names
            raise
        except (KeyError, TypeError, ValueError, OverflowError):
            raise self._error(text, text if isinstance(text, str) else " ".join(text)) from None
        return self.check(value, text if isinstance(text, str) else " ".join(text))

    @property
    def _takes_any_text(self) -> bool:
        return self.kind.read is str and self.choices is None

    def _within(self, number: float) -> bool:
        return (
            (self.minimum is None or number >= self.minimum)
            and (self.maximum is None or number <= self.maximum)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )

    def _error(self, value: Any, text: str | None, hint: str = "") -> OptionError:
        what = self.kind.what if text is None else self.kind.spelled or self.kind.what
        if self.choices is not None:
            what = f"one of {', '.join(self.choices)}" + ("" if what == "text" else f", or {what}")
        received = _short(repr(value)) if text is None else text
        wanted = ", ".join(filter(None, (what, self.bounds())))
        template = "{" + self.name + "} must be {wanted}; received {received}{hint}"
        return OptionError(template, wanted=wanted, received=received, hint=hint)

    def bounds(self) -> str:
        """The range in words, `""` without one.

        >>> options(_Example)["share"].bounds()
        'greater than 0 and at most 1'
        """
        words = (("at least", self.minimum), ("greater than", self.above), ("at most", self.maximum))
        return " and ".join(
            f"{word} {bound:g}" for word, bound in (*words, ("less than", self.below)) if bound is not None
        )

    def described(self) -> str:
        """Help with range and default, a line for docstrings and flags."""
        parts = [self.help]
        if self.choices is not None:
            parts.append(f"one of {', '.join(self.choices)}" if "one of" not in self.help else "")
        parts.append(self.bounds())
        if self.default not in (MISSING, None, ()):
            parts.append(f"by default {shown(self.default)}")
        return "; ".join(filter(None, parts))


def option(
    default: Any = MISSING,
    help: str = "",
    *,
    name: str | None = None,
    kind: Kind | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Collection[str] | None = None,
    flag: str | None = "",
    metavar: str | None = None,
    nargs: str | None = None,
    const: str | None = None,
    configuration: bool = True,
) -> Any:
    """A field of a record, see `Option`. The name is the field's by default, the flag the name's."""
    settings = dict(locals())
    settings.pop("default")
    return dataclasses.field(default=default, metadata={"option": settings})


def nested(record: "type[Options]", **defaults: Any) -> Any:
    """A field whose options are those of another record."""
    return dataclasses.field(default_factory=functools.partial(record, **defaults), metadata={"record": record})


@typing.dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(option, nested))
def record(cls: type) -> Any:
    """A decorator: the class is a frozen dataclass whose fields are given by name."""
    return dataclass(frozen=True, kw_only=True)(cls)


@record
class Options:
    """What records of options derive from. Their constructors check each value; `checked` is for several at once."""

    TITLE: ClassVar[str | None] = None  # of their group in the help of a command
    SETTABLE: ClassVar[bool] = False  # whether the command has `--set NAME=VALUE` too
    _preset: ClassVar[Preset | None] = None
    _asked: ClassVar[frozenset[str] | None] = None

    def __post_init__(self) -> None:
        for entry in options(type(self)).values():
            if len(entry.path) == 1:
                object.__setattr__(self, entry.path[0], entry.check(getattr(self, entry.path[0])))
        for field in dataclasses.fields(self):
            record, value = field.metadata.get("record"), getattr(self, field.name)
            if record is not None and not isinstance(value, record):
                raise ValueError(f"{field.name} must be a {record.__name__}; received {value!r}")
        self.checked()

    def checked(self) -> None:
        """Raises OptionError where values don't go together."""

    @classmethod
    def of(cls, preset: Preset | None = None, /, **values: Any) -> Self:
        """The record of options by their own names, wherever they are nested.

        Args:
            preset: what options have that aren't among the values; those of its own that the record hasn't are left
                out. The record remembers it (`preset`), and which options were given (`asked`).

        Raises:
            OptionError: there is no such option, one is missing or has a value that it doesn't take.
        """
        known = options(cls)
        for name in values:
            if name not in known:
                raise OptionError("unknown option {given}{hint}", given=repr(name), hint=near(name, known, known=True))
        filled = {} if preset is None else {name: value for name, value in preset.values.items() if name in known}
        filled |= values
        for name, entry in known.items():
            if entry.default is MISSING and name not in filled:
                raise OptionError("{" + name + "} must be given: {help}", help=entry.help)
        return cls._built(filled, known)._remembering(preset, values)

    def _remembering(self, preset: Preset | None, asked: Collection[str]) -> Self:
        object.__setattr__(self, "_preset", preset)
        object.__setattr__(self, "_asked", frozenset(asked) & options(type(self)).keys())
        for field in dataclasses.fields(self):
            if "record" in field.metadata:
                getattr(self, field.name)._remembering(preset, asked)
        return self

    @classmethod
    def preset_for(cls, given: Mapping[str, Any]) -> Preset | None:
        """The preset that options given on a command line ask for: that of a record in it; None without one."""
        records = [field.metadata["record"] for field in dataclasses.fields(cls) if "record" in field.metadata]
        return next((found for each in records if (found := each.preset_for(given)) is not None), None)

    @property
    def preset(self) -> Preset | None:
        """What the record was begun with."""
        return self._preset

    def asked(self) -> dict[str, Any]:
        """The options that were given by name, rather than by a preset or default; of a constructor, those that differ.

        >>> row = Preset("small", {"share": 0.5, "deep": True})
        >>> mine = _Example.of(row, deep=False)
        >>> (mine.share, mine.deep), mine.asked()
        ((0.5, False), {'deep': False})
        """
        known, asked = options(type(self)), self._asked
        return {
            name: value
            for name, value in self.values().items()
            if (value != known[name].usual() if asked is None else name in asked)
        }

    def overridden(self) -> dict[str, Any]:
        """The options that were given and have another value than the preset, or the default where that has none."""
        known, begun = options(type(self)), {} if self._preset is None else self._preset.values
        return {
            name: value
            for name, value in self.asked().items()
            if value != (known[name].check(begun[name]) if name in begun else known[name].usual())
        }

    @classmethod
    def _built(cls, values: Mapping[str, Any], known: Mapping[str, Option], path: tuple[str, ...] = ()) -> Self:
        arguments: dict[str, Any] = {}
        for name, entry in known.items():
            if name in values and entry.path[:-1] == path:
                arguments[entry.path[-1]] = values[name]
        for field in dataclasses.fields(cls):
            record, inner = field.metadata.get("record"), (*path, field.name)
            if record is not None and any(known[name].path[: len(inner)] == inner for name in values):
                arguments[field.name] = record._built(values, known, inner)
        return cls(**arguments)

    @classmethod
    def parsed(cls, texts: Mapping[str, Any]) -> Self:
        """The record of what stood on a command line; values that are no text are taken as they are."""
        known = options(cls)
        values = {
            name: known[name].parse(text) if isinstance(text, (str, list)) else text
            for name, text in texts.items()
            if name in known
        }
        return cls.of(cls.preset_for(values), **values)

    def values(self) -> dict[str, Any]:
        """All options by their own names."""
        return {name: functools.reduce(getattr, entry.path, self) for name, entry in options(type(self)).items()}

    def given(self) -> dict[str, Any]:
        """The options that aren't None, for functions with defaults of their own."""
        return {name: value for name, value in self.values().items() if value is not None}

    def with_options(self, **changes: Any) -> Self:
        """The same with other values of some options, by their own names."""
        return self.filled(**changes)._remembering(self._preset, {*self.asked(), *changes})

    def filled(self, **values: Any) -> Self:
        """The same with other values of some options that nobody asked for: what data decides, say."""
        return type(self).of(**{**self.values(), **values})._remembering(self._preset, self.asked())

    def to_json(self) -> dict[str, Any]:
        """What a result depends on, by their own names, as JSON holds it."""
        known = options(type(self))
        return {name: plain(value) for name, value in self.values().items() if known[name].configuration}


# What records have beside their options.
_METHODS = (
    *("of", "parsed", "values", "given", "asked", "overridden", "preset", "preset_for", "with_options", "filled"),
    *("to_json", "_built", "_remembering"),
)


def options(record: type[Options]) -> dict[str, Option]:
    """The options of a record and of those nested in it, by their own names.

    Raises:
        TypeError: two have the same name, or a field has a type that `KINDS` doesn't know.
    """
    return _options(cast(Any, record))


@functools.cache
def _options(record: Any) -> dict[str, Option]:
    found: dict[str, Option] = {}
    for entry in _declared(record, ()):
        if entry.name in found:
            raise TypeError(f"{record.__name__} has two options of the name {entry.name!r}")
        found[entry.name] = entry
    return found


def _declared(record: type[Options], path: tuple[str, ...]) -> Iterator[Option]:
    hints = typing.get_type_hints(record)
    for name in _METHODS:
        own = name in vars(record) and record is not Options
        if name in hints or (own and name not in ("to_json", "preset_for")):
            raise TypeError(f"{record.__name__}.{name} hides what every record has under this name")
    for field in dataclasses.fields(record):
        if "record" in field.metadata:
            yield from _declared(field.metadata["record"], (*path, field.name))
            continue
        settings = dict(field.metadata["option"])
        hint, optional = _without_none(hints[field.name])
        kind = settings.pop("kind") or KINDS.get(hint)
        if kind is None:
            raise TypeError(f"{record.__name__}.{field.name} has the type {hint}, which no kind of KINDS is for")
        name = settings.pop("name") or field.name
        flag = settings.pop("flag")
        yield Option(
            name=name,
            path=(*path, field.name),
            kind=kind,
            optional=optional or field.default is None,
            default=field.default,
            flag=f"--{name.replace('_', '-')}" if flag == "" else flag,
            group=record.TITLE,
            **settings,
        )


def _without_none(hint: Any) -> tuple[Any, bool]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        return functools.reduce(operator.or_, parts), len(parts) < len(typing.get_args(hint))
    return hint, False


# Doors ------------------------------------------------------------------------------------------------------------


def takes(record: type[Options], keyword: str = "options") -> Callable[[Callable], Callable]:
    """A decorator: the function's `**options` are those of `record`, in its signature and in its docstring.

    Those that are parameters of its own as well stay where they are. `{options}` in the docstring becomes a line or
    more for each.
    """

    def decorate(function: Callable) -> Callable:
        signature = inspect.signature(function)
        own = [entry for entry in signature.parameters.values() if entry.name != keyword]
        more = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if entry.default is MISSING else entry.default,
            )
            for name, entry in options(record).items()
            if name not in signature.parameters
        ]
        function.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
        if function.__doc__:
            function.__doc__ = function.__doc__.replace("        {options}", documented(record))
        return function

    return decorate


def documented(record: type[Options], indent: int = 8) -> str:
    """The lines of a docstring's `Args:` for each option of a record."""
    lines = [
        textwrap.fill(
            f"{name}: {entry.described()}.",
            width=120,
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + 4),
            break_long_words=False,
        )
        for name, entry in options(record).items()
    ]
    return "\n".join(lines)


def add_flags(parser: argparse.ArgumentParser, record: type[Options]) -> None:
    """Gives a command the options of a record: words, and flags in groups; it leaves what they are to `parsed`."""
    groups: dict[str | None, Any] = {None: parser}
    if record.SETTABLE:
        parser.add_argument(
            "--set",
            action=_Set,
            record=record,
            default=argparse.SUPPRESS,
            metavar="NAME=VALUE",
            help="any option below by its name, such as learning_rate=0.01 or flip=off; may be repeated",
        )
    for name, entry in options(record).items():
        if entry.group not in groups:
            groups[entry.group] = parser.add_argument_group(entry.group)
        settings: dict[str, Any] = {"help": entry.described().replace("%", "%%"), "default": argparse.SUPPRESS}
        if entry.is_switch:
            settings["action"] = argparse.BooleanOptionalAction
        else:
            settings["metavar"] = entry.metavar or entry.kind.metavar
            settings |= {key: value for key in ("nargs", "const") if (value := getattr(entry, key)) is not None}
        if entry.flag is None:
            groups[entry.group].add_argument(name, **settings)
        else:
            required = entry.default is MISSING
            groups[entry.group].add_argument(entry.flag, dest=name, required=required, **settings)


class _Set(argparse.Action):
    """`name=text` to what the flag of that name has with that text; whichever comes last counts."""

    def __init__(self, *args: Any, record: type[Options], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.record = record

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        name, sign, text = values.partition("=")
        known = [each for each, entry in options(self.record).items() if entry.flag is not None]
        if not sign:
            parser.error(f"--set must be NAME=VALUE; received {values}")
        if name not in known:
            parser.error(f"--set has an unknown option {name!r}{near(name, known, known=True)}")
        setattr(namespace, name, text)


def in_flags(text: str, record: type[Options]) -> str:
    """A message of Python code with the options that it writes as `name=` or `name=value` as a command line has them.

    >>> in_flags("give share=0.5 or names=['a', ...]; deep=True (--deep)", _Example)
    'give --share 0.5 or --names A,B,...; --deep'
    >>> in_flags("crop_size=(33, 49) is a tuple", _Example)
    '--crop-size 33x49 is a tuple'
    """
    known = options(record)
    names = "|".join(sorted(map(re.escape, known), key=len, reverse=True)) or "(?!)"

    def flag(found: re.Match) -> str:
        entry, value = known[found["name"]], found["value"]
        if entry.flag is None:
            return entry.metavar or entry.name
        if value == "False":
            return entry.flag.replace("--", "--no-", 1)
        if value in (None, "True"):
            return entry.flag
        if value[0] in "[({":
            return f"{entry.flag} {_spelled(entry, value)}"
        return f"{entry.flag} {value.strip(chr(34) + chr(39))}"

    value = r"""(?P<value>\[[^\]]*\]|\([^)]*\)|\{[^}]*\}|'[^']*'|"[^"]*"|-?\d[\w.]*|True|False|None)?"""
    text = re.sub(rf"(?<![\w-])(?P<name>{names})={value}", flag, text)
    # Messages that name both doors say the same twice now.
    twice = r"(?P<flag>--[\w-]+(?: [^\s,()]+)?)(?: \((?P=flag)\)|(?: or|,) (?P=flag)(?![\w-]))"
    return re.sub(twice, r"\g<flag>", text)


def _spelled(entry: Option, value: str) -> str:
    """Python's `(33, 49)` as a command line has it, where that reads as the same; else what stands for a value."""
    try:
        checked = entry.kind.check(ast.literal_eval(value))
        text = shown(checked)
        if entry.kind.check(entry.kind.read(text)) == checked:
            return text
    except (TypeError, ValueError, SyntaxError, OSError):
        pass
    return entry.metavar or entry.kind.metavar or entry.name.upper()


# Words ------------------------------------------------------------------------------------------------------------


def near(name: str, names: Collection[str], *, known: bool = False) -> str:
    """`: did you mean 'mobilenet_v2'?` where one of the names is like `name`; `known` lists all where none is."""
    begun = sorted((each for each in names if len(name) > 3 and each.startswith(name)), key=len)
    found = begun or difflib.get_close_matches(str(name), names, n=1)
    if found:
        return f": did you mean {found[0]!r}?"
    return f". Known: {', '.join(names)}" if known else ""


def shown(value: Any) -> str:
    """A value as it is written on a command line.

    >>> shown((321, 513)), shown((0.5, 2.0)), shown(4e-5)
    ('321x513', '0.5,2', '4e-05')
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        whole = len(value) == 2 and all(isinstance(part, int) for part in value)
        if whole and value[0] == value[1]:
            return str(value[0])
        return ("x" if whole else ",").join(map(shown, value))
    return str(value)


def _numbers_in(value: Any) -> list[float]:
    if isinstance(value, Mapping):
        return _numbers_in(tuple(value.values()))
    if isinstance(value, (tuple, list)):
        return [number for part in value for number in _numbers_in(part)]
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


@record
class _Example(Options):
    share: float = option(1.0, "a share", above=0, maximum=1)
    names: Names | None = option(None, "some names")
    deep: bool = option(False, "whether it is deep")
    crop_size: Size = option(513, "of something")
