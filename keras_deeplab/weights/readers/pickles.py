"""Pickles without running them: a machine for the opcodes that plain values need, and a short list of names."""

import io
import itertools
import math
import pickletools
from collections import OrderedDict
from typing import Any

import numpy as np

from keras_deeplab._helpers import limits
from keras_deeplab.weights.readers.common import Budget

_ITEM = 100  # bytes that an item of a dict takes, about
_MAX_KEY = 1 << 60  # integers below hash to themselves: none can be made to collide

_MARK = object()


class Global:
    """A name that a pickle may ask for: what calling it builds, or None where it is only passed on.

    `plain` is a class whose objects are nothing but their attributes; a `Record` stands for each.
    """

    def __init__(self, name: str, call: Any = None, plain: Any = False) -> None:
        self.name, self.call, self.plain = name, call, plain

    def __repr__(self):
        return self.name


class Record:
    """What stands for an object: the name of its class and its attributes, a dict. It does nothing."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: Any = {}

    def __repr__(self):
        return self.name


class Pickle:
    """Reads the pickles in `data` one after the other; nothing in them is imported or run.

    Args:
        data: bytes.
        names: `{"module name": Global}`, what pickles may ask for beside the containers of `collections`, sets,
            paths, `argparse.Namespace`, `types.SimpleNamespace`, NumPy's numbers and arrays. They become dicts, tuples,
            text and `Record`.
        persistent: what a persistent id (a tuple) stands for.
        offset: where the first pickle begins; moves on with each.

    Example:
        >>> import pickle
        >>> Pickle(pickle.dumps({"lr": (0.1, None)})).load()
        {'lr': (0.1, None)}
        >>> Pickle(pickle.dumps(print)).load()
        Traceback (most recent call last):
        ...
        ValueError: its pickle asks for 'builtins.print', which is not looked up: only plain values and arrays are read.
    """

    def __init__(self, data: Any, names: Any = (), persistent: Any = None, offset: int = 0) -> None:
        self._stream = io.BytesIO(data)
        self._stream.seek(offset)
        self._names = {**_names(self), **dict(names)}
        self._persistent = persistent
        self._operations = Budget(limits.PICKLE_OPERATIONS, "pickle operations")
        self._copies = Budget.of(len(data))

    @property
    def offset(self) -> int:
        return self._stream.tell()

    def load(self) -> Any:
        """The next pickle's value.

        Raises:
            ValueError: it asks for a name that isn't known, or isn't well formed.
        """
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._blank: np.ndarray | None = None
        for opcode, argument, _ in pickletools.genops(self._stream):
            self._operations.spend(1)
            if opcode.name == "STOP":
                break
            self._run(opcode.name, argument)
        value = self._pop()
        if self._stack or value is _MARK:
            raise ValueError("its pickle stops in the middle of something")
        return value

    def _run(self, name, argument):
        stack = self._stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _NUMBERS:
            if isinstance(argument, int) and argument.bit_length() > 8 * limits.PICKLE_INTEGER_BYTES:
                raise ValueError("its pickle has an integer of more than 512 bits")
            stack.append(argument)
        elif name in _TEXTS:
            stack.append(argument)
        elif name in ("PROTO", "FRAME"):
            pass
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._top()
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._top()
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            if argument not in self._memo:
                raise ValueError(f"its pickle takes up value {argument}, which was never kept")
            stack.append(self._memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self._items()
        elif name == "DUP":
            stack.append(self._top())
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "LIST":
            stack.append(self._items())
        elif name == "TUPLE":
            stack.append(tuple(self._items()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            items = [self._pop() for _ in range(int(name[-1]))]
            stack.append(tuple(reversed(items)))
        elif name == "DICT":
            stack.append(self._set({}, self._items()))
        elif name in ("APPEND", "APPENDS"):
            items = [self._pop()] if name == "APPEND" else self._items()
            if type(self._top()) is not list:
                raise ValueError(f"its pickle appends to {_kind(self._top())}")
            self._top().extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [self._pop(), self._pop()][::-1] if name == "SETITEM" else self._items()
            self._set(self._top(), items)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "STACK_GLOBAL":
                argument = " ".join(map(_text, [self._pop(), self._pop()][::-1]))
            stack.append(self._global(argument))
        elif name == "REDUCE":
            arguments, function = self._pop(), self._pop()
            if not isinstance(function, Global) or function.call is None or type(arguments) is not tuple:
                raise ValueError(f"its pickle calls {_kind(function)}, which builds nothing")
            stack.append(function.call(*arguments))
        elif name == "NEWOBJ":
            arguments, kind = self._pop(), self._pop()
            if not isinstance(kind, Global) or not kind.plain or arguments != ():
                raise ValueError(f"its pickle makes an object of {_kind(kind)}, which is not read (NEWOBJ)")
            stack.append(Record(kind.name))
        elif name == "BUILD":
            self._build(self._pop(), self._top())
        elif name == "BINPERSID":
            if self._persistent is None:
                raise ValueError("its pickle points outside itself")
            stack.append(self._persistent(self._pop()))
        else:
            if name == "INST":
                self._global(argument)
            raise ValueError(f"its pickle asks for the operation {name}, which plain values and arrays don't need.")

    def _top(self):
        if not self._stack or self._stack[-1] is _MARK:
            raise ValueError("its pickle takes from an empty stack")
        return self._stack[-1]

    def _pop(self):
        self._top()
        return self._stack.pop()

    def _items(self):
        """What stands above the last mark."""
        items = []
        while self._stack and self._stack[-1] is not _MARK:
            items.append(self._stack.pop())
        if not self._stack:
            raise ValueError("its pickle has no mark where it needs one")
        self._stack.pop()
        return items[::-1]

    def _set(self, target, items):
        if type(target) not in (dict, OrderedDict) or len(items) % 2:
            raise ValueError(f"its pickle sets items of {_kind(target)}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # The keys of real checkpoints; others (nested tuples) can take for ever to hash.
            if not (key is None or type(key) in (str, bytes, bool) or (type(key) is int and abs(key) < _MAX_KEY)):
                raise ValueError(f"its pickle has {_kind(key)} as a key")
            if key in target:
                raise ValueError(f"its pickle has the key {key!r} twice")
            target[key] = value
        return target

    def _global(self, name):
        if name not in self._names:
            raise ValueError(
                f"its pickle asks for {name.replace(' ', '.', 1)!r}, which is not looked up: only plain values and "
                "arrays are read."
            )
        return self._names[name]

    def _build(self, state, target):
        if type(target) is OrderedDict and type(state) is dict:
            return  # a state dict's version numbers, kept as an attribute
        if type(target) is _Dtype and type(state) is tuple and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            target.order = state[1]
        elif type(target) is Record and type(state) is dict and not target.state:
            target.state = state
        elif target is self._blank is not None:
            self._fill(target, state)
            self._blank = None
        else:
            raise ValueError(f"its pickle sets the state of {_kind(target)}")

    def ordered_dict(self, pairs: Any = ()) -> Any:
        # Python 2 wrote the items as a list of pairs, Python 3 sets them afterwards.
        self._copies.spend(_ITEM * len(pairs))
        return self._set(OrderedDict(), [part for key, value in pairs for part in (key, value)])

    def counter(self, counts: Any = None) -> Any:
        # A scheduler's milestones.
        self._copies.spend(_ITEM * len(counts or {}))
        return self._set({}, [part for pair in (counts or {}).items() for part in pair])

    def default_dict(self, factory: Any = None) -> Any:
        # What would make the values that are absent is left aside.
        return {}

    def items(self, values: Any = ()) -> Any:
        # A set: without its hashes, which could be made to collide.
        if type(values) is not list:
            raise ValueError(f"its pickle makes a set of {_kind(values)}")
        self._copies.spend(8 * len(values))
        return tuple(values)

    def path(self, *parts: Any) -> Any:
        if not all(type(part) is str for part in parts):
            raise ValueError("its pickle has a path of something else than text")
        self._copies.spend(sum(map(len, parts)) + len(parts))
        return "/".join(parts).replace("//", "/", 1)

    def tuple_of(self, values: Any = ()) -> Any:
        # What Paddle makes of a tensor: its name and array.
        if type(values) not in (tuple, list):
            raise ValueError(f"its pickle makes a tuple of {_kind(values)}")
        self._copies.spend(8 * len(values))
        return tuple(values)

    def namespace(self) -> Any:
        return Record("types.SimpleNamespace")

    # NumPy's numbers and arrays, which training scripts keep beside the weights.

    def encode(self, text: Any, encoding: Any) -> Any:
        if type(text) is not str or encoding not in ("latin1", "latin-1"):
            raise ValueError("its pickle encodes something else than text as latin1")
        return self._bytes(text)

    def scalar(self, dtype: Any, raw: Any) -> Any:
        return dtype.numpy().type(np.frombuffer(self._bytes(raw), dtype.numpy())[0])

    def blank(self, kind: Any, shape: Any, code: Any) -> Any:
        if getattr(kind, "name", None) != "numpy.ndarray" or shape != (0,):
            raise ValueError("its pickle rebuilds an unknown kind of array")
        self._blank = np.empty(0)
        return self._blank

    def _fill(self, array, state):
        _, shape, dtype, fortran, raw = state
        raw = self._bytes(raw)
        shape = sizes(shape)
        if type(fortran) is not bool or len(raw) != math.prod(shape) * dtype.numpy().itemsize:
            raise ValueError(f"its pickle has an array of shape {shape} and {len(raw)} bytes")
        array.__setstate__((1, shape, dtype.numpy(), fortran, raw))

    def _bytes(self, raw):
        if type(raw) not in (str, bytes):
            raise ValueError(f"its pickle has {_kind(raw)} for bytes")
        self._copies.spend(len(raw))
        return raw.encode("latin1") if type(raw) is str else raw  # Python 2 wrote bytes as text


class _Dtype:
    """What stands for a `numpy.dtype`, whose byte order comes later."""

    def __init__(self, code, align=False, copy=False):
        if type(code) is not str or code not in _DTYPES:
            raise ValueError(f"its pickle has NumPy values of type {str(code)[:20]!r}")
        self.code, self.order = code, "="

    def numpy(self):
        return np.dtype(self.code).newbyteorder(self.order)


_DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1", "c8", "c16"]
_BUILTINS = ("bool", "dict", "float", "int", "list", "str", "tuple")  # what a defaultdict makes
_PATH_MODULES = ("pathlib", "pathlib._local")  # the second in Python 3.13
_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_NUMBERS = {"INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_TEXTS = (
    {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
)  # fmt: skip


def _names(reader):
    names = {
        "collections OrderedDict": Global("collections.OrderedDict", reader.ordered_dict),
        "collections Counter": Global("collections.Counter", reader.counter),
        "_codecs encode": Global("_codecs.encode", reader.encode),
        "numpy dtype": Global("numpy.dtype", _Dtype),
        "numpy ndarray": Global("numpy.ndarray"),
        # The arguments of a training script, which it keeps beside the weights.
        "argparse Namespace": Global("argparse.Namespace", plain=True),
        # What MMEngine logs beside the weights.
        "mmengine.logging.history_buffer HistoryBuffer": Global("HistoryBuffer of mmengine", plain=True),
        "types SimpleNamespace": Global("types.SimpleNamespace", reader.namespace),
        "collections defaultdict": Global("collections.defaultdict", reader.default_dict),
    }
    for module in ("builtins", "__builtin__"):  # Python 2's name, which older protocols write
        names |= {f"{module} {kind}": Global(f"{module}.{kind}") for kind in _BUILTINS}
        names[f"{module} tuple"] = Global(f"{module}.tuple", reader.tuple_of)
        names |= {f"{module} {kind}": Global(f"{module}.{kind}", reader.items) for kind in ("set", "frozenset")}
    for module, kind in itertools.product(_PATH_MODULES, _PATHS):
        names[f"{module} {kind}"] = Global(f"{module}.{kind}", reader.path)
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        names[f"{module} scalar"] = Global(f"{module}.scalar", reader.scalar)
        names[f"{module} _reconstruct"] = Global(f"{module}._reconstruct", reader.blank)
    return names


def sizes(value: Any) -> Any:
    """`value` if it is a tuple or list of whole numbers from 0, as a tuple."""
    if type(value) not in (tuple, list) or not all(type(size) is int and size >= 0 for size in value):
        raise ValueError("its pickle has something else than sizes where sizes belong")
    if len(value) > limits.ARRAY_AXES:
        raise ValueError(f"its pickle has {len(value)} sizes for the axes of one tensor")
    return tuple(value)


def _text(value):
    if type(value) is not str:
        raise ValueError(f"its pickle has {_kind(value)} for a name")
    return value


def _kind(value):
    return f"{value!r}" if isinstance(value, (Global, Record)) else f"a {type(value).__name__}"
