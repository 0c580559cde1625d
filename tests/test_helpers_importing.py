"""Contexts around imports of packages that aren't loaded yet."""

import contextlib
import importlib
import sys

import pytest

from keras_deeplab._helpers import importing, registration


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Writes modules, `{name with dots: code}`, that can be imported during the test."""
    written = []
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))

    def write(modules):
        for name, code in modules.items():
            path = tmp_path.joinpath(*name.split("."))
            path.mkdir(parents=True)
            (path / "__init__.py").write_text(code)
            written.append(name)

    yield write
    for name in written:
        sys.modules.pop(name, None)


def told(events):
    @contextlib.contextmanager
    def context():
        events.append("in")
        yield
        events.append("out")

    return context


def test_a_package_is_followed_once_and_its_modules_are_not(packages):
    events = []
    packages({"followed": "import followed.part", "followed.part": "", "other": ""})
    importing.around_import("followed", told(events))
    importlib.import_module("other")
    assert events == []
    importlib.import_module("followed")
    assert events == ["in", "out"]
    del sys.modules["followed"]
    importlib.import_module("followed")
    assert events == ["in", "out"]


def test_modules_within_a_package_are_followed_until_it_is_left(packages):
    events = []
    packages({"whole": "", "whole.a": "import whole.b", "whole.b": "", "whole.c": "", "wholesale": ""})
    leave = importing.around_imports_within("whole", told(events))
    importlib.import_module("wholesale")
    assert events == []
    importlib.import_module("whole.a")
    assert events == ["in", "in", "out", "out"]
    leave()
    importlib.import_module("whole.c")
    assert len(events) == 4


@pytest.fixture
def registered(monkeypatch):
    """What stood in sys.modules each time that classes were registered, for packages named ours and engine."""
    found = []
    monkeypatch.setattr(registration, "_register", lambda: found.append(sorted(ours())))
    monkeypatch.setattr(registration, "_KERAS", "engine")
    monkeypatch.setattr(registration, "_PACKAGE", "ours")

    def ours():
        return {name for name, module in sys.modules.items() if name.startswith("ours.") and hasattr(module, "WHOLE")}

    return found


def test_classes_are_registered_when_the_outermost_module_that_brought_keras_is_whole(packages, registered):
    packages(
        {
            "engine": "",
            "ours": "",
            "ours.outer": "import ours.inner\nWHOLE = True",
            "ours.inner": "import engine\nimport ours.light\nWHOLE = True",
            "ours.light": "WHOLE = True",
            "ours.later": "WHOLE = True",
        }
    )
    registration.register_with_keras()
    importlib.import_module("ours.light")
    assert registered == []
    importlib.import_module("ours.outer")
    assert registered == [["ours.inner", "ours.light", "ours.outer"]]
    importlib.import_module("ours.later")
    assert len(registered) == 1


def test_a_module_that_fails_behind_keras_leaves_registering_to_the_next(packages, registered):
    packages(
        {"engine": "", "ours": "", "ours.broken": "import engine\nraise ValueError(7)", "ours.sound": "WHOLE = True"}
    )
    registration.register_with_keras()
    with pytest.raises(ValueError, match="7"):
        importlib.import_module("ours.broken")
    assert registered == []
    importlib.import_module("ours.sound")
    assert registered == [["ours.sound"]]


def test_classes_are_registered_at_once_where_keras_comes_from_elsewhere(packages, registered):
    packages({"engine": "", "ours": ""})
    registration.register_with_keras()
    importlib.import_module("engine")
    assert registered == [[]]
    del sys.modules["engine"]
    sys.modules["engine"] = importing
    registration.register_with_keras()
    assert registered == [[], []]
