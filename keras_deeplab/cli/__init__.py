"""The command line: `keras-deeplab <command>`, and the same commands as scripts in `tools/`.

Importing this imports nothing heavy, so that help and mistakes are told at once.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from keras_deeplab._helpers.ending import Ending, ended_by_signals
from keras_deeplab._helpers.memory import let_go, out_of_memory
from keras_deeplab._helpers.quiet import quiet_tensorflow
from keras_deeplab._version import __version__
from keras_deeplab.options import OptionError, Options, add_flags, in_flags, near, options
from keras_deeplab.registry import Registry

# Each command by its name: a module, or the name of one, with HELP (a sentence), Arguments (a record of
# keras_deeplab.options, whose options become its words and flags) and run(arguments: Arguments) -> exit status or None.
# One that hands words on to another program has AFTER_DASHES, the name of its option for what stands after `--`.
COMMANDS: Registry = Registry(
    "command",
    {
        "train": "keras_deeplab.cli.train",
        "check-data": "keras_deeplab.cli.check_data",
        "import-data": "keras_deeplab.cli.import_data",
        "evaluate": "keras_deeplab.cli.evaluate",
        "tune-crf": "keras_deeplab.cli.tune_crf",
        "predict": "keras_deeplab.cli.predict",
        "video": "keras_deeplab.cli.video",
        "tiles": "keras_deeplab.cli.tiles",
        "beam": "keras_deeplab.cli.beam",
        "export-saved-model": "keras_deeplab.cli.export_saved_model",
        "serving-config": "keras_deeplab.cli.serving_config",
        "segment": "keras_deeplab.cli.segment",
        "export-tflite": "keras_deeplab.cli.export_tflite",
        "export-onnx": "keras_deeplab.cli.export_onnx",
        "prune": "keras_deeplab.cli.prune",
        "shrink": "keras_deeplab.cli.shrink",
        "demo": "keras_deeplab.cli.demo",
        "find-learning-rate": "keras_deeplab.cli.find_learning_rate",
        "report": "keras_deeplab.cli.report",
        "inspect": "keras_deeplab.cli.inspect",
        "convert": "keras_deeplab.cli.convert",
        "export-weights": "keras_deeplab.cli.export_weights",
        "publish": "keras_deeplab.cli.publish",
        "receptive-field": "keras_deeplab.cli.receptive_field",
        "models": "keras_deeplab.cli.models",
        "recipes": "keras_deeplab.cli.recipes",
        "quickstart": "keras_deeplab.cli.quickstart",
    },
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status: 0, or 1 after an error, which is told in words on stderr.

    After SIGINT, SIGTERM or SIGHUP it is 128 and the signal's number, and stderr says what stands.

    Raises:
        SystemExit: with 2 where the words on the command line are no command, with 0 after help.
    """
    return _ended_in_order(sys.argv[1:] if arguments is None else list(arguments), last=arguments is None)


def script(command: str) -> NoReturn:
    """Runs a command with the words of this process, which ends with it: what a script in `tools/` is."""
    sys.exit(_ended_in_order([command, *sys.argv[1:]], last=True))


def _ended_in_order(words: list[str], last: bool) -> int:
    """The exit status of a command, signals included; `last` tells that the process ends with it."""
    with ended_by_signals("keras-deeplab", last=last) as ending:
        try:
            status = _run(words)
            # A command that ends in its own order after any signal tells 130.
            return ending.status if status == Ending().status else status
        except KeyboardInterrupt as interrupt:
            # A training has the signals to itself, and tells which one ended it.
            ending.signal = getattr(interrupt, "signal", ending.signal)
            name = " ".join(["keras-deeplab", *words[:1]])
            print(f"{name}: {ending.told}. {interrupt}".rstrip(), file=sys.stderr)
            return ending.status


def _run(words: list[str]) -> int:
    commands = {name: import_module(row) if isinstance(row, str) else row for name, row in COMMANDS.items()}
    parser, parsers = _parsers(commands)
    _refuse_unknown(words, parser, parsers, commands)
    words, handed_on = _divided(words, commands)
    given = vars(parser.parse_args(words)) | handed_on
    name, traceback = given.pop("command"), given.pop("traceback")
    command = commands[name]
    flags = {key: entry.flag or entry.metavar or key for key, entry in options(command.Arguments).items()}
    quiet_tensorflow()
    for stream in (sys.stdout, sys.stderr):
        # Names of files may hold bytes that no encoding has: shown as such, they end no command.
        if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            settings = command.Arguments.parsed(given)
        except OptionError as error:
            parsers[name].error(error.told(lambda option: flags.get(option, option)))
        return command.run(settings) or 0
    except (ValueError, OSError, ImportError) as error:
        if traceback:
            raise
        text = error.told(lambda option: flags.get(option, option)) if isinstance(error, OptionError) else str(error)
        print(f"keras-deeplab {name}: error: {in_flags(text, command.Arguments)}", file=sys.stderr)
        return 1
    except Exception as error:
        if traceback or not out_of_memory(error):
            raise
        let_go(error)
        smaller = [flag for flag in _SMALLER if flag in _flags(command.Arguments)]
        advice = f" Give a smaller {' or '.join(smaller)}." if smaller else ""
        print(
            f"keras-deeplab {name}: error: there is not enough memory.{advice}{_LARGE.get(name, '')}", file=sys.stderr
        )
        return 1


_SMALLER = ("--batch-size", "--crop-size", "--input-size", "--tile")
_LARGE = {
    "predict": " Images of any size go by keras-deeplab tiles.",
    "train": " --recompute needs about half; --gradient-accumulation-steps makes up for a smaller batch.",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def _parsers(commands: dict[str, Any]) -> tuple[_Parser, dict[str, _Parser]]:
    parser = _Parser("keras-deeplab", description="DeepLab semantic segmentation for Keras 3.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=__version__)
    added = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parsers = {}
    for name, command in commands.items():
        parsers[name] = added.add_parser(name, help=command.HELP, description=command.HELP, allow_abbrev=False)
        parsers[name].add_argument("--traceback", action="store_true", help="show where an error arose")
        add_flags(parsers[name], command.Arguments)
    return parser, parsers


def _refuse_unknown(words: Sequence[str], parser: _Parser, parsers: dict[str, _Parser], commands: Any) -> None:
    """Ends with the nearest name where the command, or a flag of it, is unknown; argparse knows no nearest."""
    if not words or words[0].startswith("-"):
        return
    name, *rest = words
    if name not in parsers:
        parser.error(f"unknown command {name!r}{near(name, parsers, known=True)}")
    known = _flags(commands[name].Arguments)
    for word in rest:
        flag = word.partition("=")[0]
        if flag == "--":
            return
        if flag.startswith("--") and flag not in known:
            parsers[name].error(f"unknown option {flag}{near(flag, known).replace(chr(39), '')}")


def _divided(words: list[str], commands: dict[str, Any]) -> tuple[list[str], dict[str, list[str]]]:
    """What is a command's own, and of what stands after `--` its option for that."""
    option = getattr(commands.get(words[0]) if words else None, "AFTER_DASHES", None)
    if option is None or "--" not in words:
        return words, {}
    place = words.index("--")
    return words[:place], {option: words[place + 1 :]}


def _flags(record: type[Options]) -> list[str]:
    """All flags that a command with these options has."""
    entries = [(entry.flag, entry.is_switch) for entry in options(record).values() if entry.flag is not None]
    negated = [flag.replace("--", "--no-", 1) for flag, is_switch in entries if is_switch]
    return ["--help", "--traceback", *["--set"] * record.SETTABLE, *[flag for flag, _ in entries], *negated]


if __name__ == "__main__":
    sys.exit(main())
