"""The settings of a run: names, ranges, what belongs together, and one more option in one line."""

import inspect
import json
import math

import pytest

from keras_deeplab.options import OptionError, Options, Preset, nested, option, options, record
from keras_deeplab.registry import Registry
from keras_deeplab.training import choices
from keras_deeplab.training.settings import Loss, Optimization, Schedule, TrainSettings, Validation

# The keyword arguments that `keras_deeplab.train` has had.
NAMES = set(
    """steps crop_size batch_size optimizer learning_rate momentum weight_decay power warmup_steps
    learning_rate_multipliers scale_range scale_step flip brightness contrast saturation class_weights top_k_fraction
    batch_norm batch_norm_momentum validation_every validation_limit validation_input_size checkpoint_every seed
    jit_compile""".split()  # noqa: SIM905
)


def test_the_names_of_old_calls_are_options():
    assert set(options(TrainSettings)) >= NAMES


def test_records_and_single_options_say_the_same():
    flat = TrainSettings.of(steps=10, learning_rate=0.1, optimizer="adam", validation_every=3, class_weights=[1, 2])
    assert flat == TrainSettings(
        steps=10,
        schedule=Schedule(learning_rate=0.1),
        optimization=Optimization(optimizer="adam"),
        validation=Validation(every=3),
        loss=Loss(class_weights=(1.0, 2.0)),
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": None}, "give steps or epochs: how long to train"),
        ({"epochs": 2}, "give steps or epochs: how long to train, not both"),
        ({"steps": None, "epochs": -3}, "epochs must be a finite number, greater than 0; received -3"),
        ({"learning_rate": -1}, "learning_rate must be a finite number, at least 0; received -1"),
        ({"power": math.nan}, "power must be a finite number, at least 0; received nan"),
        ({"scale_range": (1,)}, r"scale_range must be two finite numbers, greater than 0; received \(1,\)"),
        ({"scale_range": (2, 1)}, "scale_range must begin with the smaller scale; received 2, 1"),
        ({"batch_size": 0}, "batch_size must be a whole number, at least 1; received 0"),
        ({"crop_size": (0, 5)}, "crop_size must be N or .height, width., each at least 1"),
        ({"schedule": "ploy"}, "schedule must be one of poly, .*, constant; received 'ploy': did you mean 'poly'"),
        ({"optimizer": 3}, "optimizer must be one of sgd, adam, adamw, or a keras.optimizers.Optimizer.*; received 3"),
        ({"warmup_steps": 11}, "warmup_steps must be at most steps, 10; received 11"),
        ({"brightness": 2}, "brightness must be a finite number, at least 0 and at most 1; received 2"),
        ({"learning_rat": 1}, r"unknown option 'learning_rat': did you mean 'learning_rate'\?"),
        ({"head_multiplier": 0}, "head_multiplier must be .*greater than 0; received 0"),
    ],
)
def test_nonsense_is_refused_by_name(values, message):
    with pytest.raises(OptionError, match=message):
        TrainSettings.of(**{"steps": 10, **values})


def test_what_data_and_optimizer_decide_is_filled_in():
    settings = TrainSettings.of(epochs=2, batch_size=4).resolved(10)
    assert (settings.steps, settings.epochs) == (5, None)
    assert (settings.schedule.learning_rate, settings.optimization.weight_decay) == (0.007, 4e-5)
    settings = TrainSettings.of(steps=3, optimizer="adamw", learning_rate=0.5).resolved(10)
    assert (settings.schedule.learning_rate, settings.optimization.weight_decay) == (0.5, 0.01)


def test_the_configuration_has_what_the_run_depends_on():
    values = TrainSettings.of(steps=3, crop_size=65, checkpoint_every=7, validation_every=2).to_json()
    assert json.loads(json.dumps(values)) == values
    assert values["crop_size"] == [65, 65]
    assert not {"checkpoint_every", "validation_every", "epochs", "jit_compile"} & set(values)
    assert {"steps", "auxiliary_weight", "schedule", "optimizer", "head_multiplier", "flip", "seed"} <= set(values)


def test_a_further_option_is_one_line(capsys, monkeypatch):
    """As keyword, in its range, as flag with help, in the configuration, in a signature; nested as well."""
    from keras_deeplab import cli
    from keras_deeplab.options import takes

    @record
    class Smoothed(Loss):
        smoothing: float = option(0.0, "share of a pixel's label that is spread", minimum=0, below=1)

    @record
    class More(TrainSettings):
        mixing: float = option(0.25, "how far images are mixed", minimum=0, maximum=1)
        loss: Smoothed = nested(Smoothed)

    for name, default in (("mixing", 0.25), ("smoothing", 0.0)):
        assert More.of(steps=1).values()[name] == default
        assert More.of(steps=1, **{name: 0.5}).to_json()[name] == 0.5
        with pytest.raises(OptionError, match=f"{name} must be a finite number, at least 0 .*; received 7"):
            More.of(steps=1, **{name: 7})
        assert name in inspect.signature(takes(More)(lambda **options: None)).parameters

    @record
    class Arguments(Options):
        settings: More = nested(More)

    class Command:
        HELP = "Tries."

        @staticmethod
        def run(arguments):
            print(arguments.settings.mixing, arguments.settings.loss.smoothing)

    Command.Arguments = Arguments
    monkeypatch.setitem(cli.COMMANDS, "try", Command)
    assert cli.main(["try", "--steps", "1", "--mixing", "1", "--smoothing", "0.125"]) == 0
    assert capsys.readouterr().out == "1.0 0.125\n"
    with pytest.raises(SystemExit):
        cli.main(["try", "--steps", "1", "--smoothing", "1"])
    message = "--smoothing must be a finite number, at least 0 and less than 1; received 1\n"
    assert capsys.readouterr().err == f"keras-deeplab try: error: {message}"
    with pytest.raises(SystemExit):
        cli.main(["try", "--steps", "1", "--mixin", "1"])
    assert capsys.readouterr().err == "keras-deeplab try: error: unknown option --mixin: did you mean --mixing?\n"
    with pytest.raises(SystemExit):
        cli.main(["try", "--help"])
    assert "how far images are mixed; at least 0" in " ".join(capsys.readouterr().out.split())


def test_a_schedule_and_an_optimizer_are_a_row_each(monkeypatch):
    import keras

    assert isinstance(choices.SCHEDULES, Registry)
    constant = lambda settings, learning_rate, steps: keras.optimizers.schedules.PolynomialDecay(  # noqa: E731
        learning_rate, steps, learning_rate
    )
    monkeypatch.setitem(choices.SCHEDULES, "constant", constant)
    row = choices.OptimizerRow(lambda schedule, settings, spared: keras.optimizers.Lion(schedule), 1e-4, 0.5, True)
    monkeypatch.setitem(choices.OPTIMIZERS, "lion", row)
    settings = TrainSettings.of(steps=4, schedule="constant", optimizer="lion").resolved(1)
    assert (settings.schedule.learning_rate, settings.optimization.weight_decay) == (1e-4, 0.5)


def test_sgd_looks_ahead_where_it_is_asked_to():
    make = choices.OPTIMIZERS["sgd"].make
    assert [make(0.1, Optimization(nesterov=asked)).nesterov for asked in (False, True)] == [False, True]


def test_the_configuration_tells_the_recipe_and_what_was_changed_in_it():
    assert not {"recipe", "overridden"} & set(TrainSettings.of(steps=3).to_json())
    row = Preset("mine", {"epochs": 2.0, "crop_size": 65, "power": 0.5})
    settings = TrainSettings.of(row, power=0.25, checkpoint_every=3).resolved(32)
    values = settings.with_options(flip=False).to_json()
    assert (values["recipe"], values["overridden"]) == ("mine", ["flip", "power"])
    assert (values["steps"], values["crop_size"], values["power"]) == (4, [65, 65], 0.25)
