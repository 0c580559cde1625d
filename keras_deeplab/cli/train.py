"""`keras-deeplab train`."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_deeplab.cli.network import Network
from keras_deeplab.cli.shared import DATA, load_data
from keras_deeplab.data.settings import DataOptions
from keras_deeplab.options import OptionError, Options, Preset, in_flags, near, nested, option, record
from keras_deeplab.training.class_weights import with_class_weights
from keras_deeplab.training.recipes import RECIPES
from keras_deeplab.training.settings import TrainSettings

if TYPE_CHECKING:
    from keras_deeplab.data.source import Source

HELP = "Train a DeepLab on a data set; the same command continues a killed run."


@record
class Arguments(Options):
    SETTABLE = True

    data: str = option(help=DATA, flag=None, metavar="DATA")
    split: str = option("train", "which split of it")
    val_split: str = option("val", "split to validate on; none: no validation")
    run_dir: str = option(help="folder of the run: checkpoints, history, settings", metavar="FOLDER")
    teacher: str | None = option(
        None,
        "checkpoint of a model of the same classes to learn from beside the masks",
        metavar="CHECKPOINT",
    )
    recipe: str | None = option(
        None,
        "network and settings to begin with: mobile, balanced or accurate, which adapt to the data, or those of a "
        "published result, which the command recipes lists; whatever else is given goes before it",
        metavar="NAME",
    )
    restart: bool = option(False, "whether to begin anew where the folder holds a run")
    check_data: bool = option(True, "whether the data is checked first: the quick part of check-data")
    tensorboard: bool = option(
        False, "whether curves and pictures are written for TensorBoard too, to RUN_DIR/tensorboard"
    )
    devices: int = option(1, "how many GPUs, or CPUs that the backend sees, share each batch", minimum=1)
    hosts: bool = option(
        False,
        "whether this is one of several hosts that run the same command, each with all of its GPUs: they find each "
        "other by the environment variable TF_CONFIG, or with KERAS_BACKEND=jax by KERAS_DISTRIBUTION_JOB_ADDRESSES, "
        "KERAS_DISTRIBUTION_NUM_PROCESSES and KERAS_DISTRIBUTION_PROCESS_ID; all must see one run_dir",
    )
    dtype_policy: str = option("float32", "float32, mixed_float16 or mixed_bfloat16", metavar="POLICY")
    reading: DataOptions = nested(DataOptions)
    network: Network = nested(Network)
    settings: TrainSettings = nested(TrainSettings)

    @classmethod
    def preset_for(cls, given: Mapping[str, Any]) -> Preset | None:
        name = given.get("recipe")
        if name is None:
            return None
        if name not in RECIPES:
            raise OptionError(
                "{recipe} {name} is unknown{hint} The command recipes lists them",
                name=repr(name),
                hint=near(name, RECIPES) or ".",
            )
        return RECIPES[name].preset([each for each, value in given.items() if value is not None])

    def checked(self) -> None:
        if self.hosts and self.devices > 1:
            raise OptionError("{devices} is of one host, and with {hosts} each takes part with all that it has")


def run(arguments: Arguments) -> None:
    if arguments.hosts:
        from keras_deeplab.training.distribution import distributed

        # Before anything is computed: TensorFlow and JAX must know the others from the start.
        with distributed(hosts=True):
            _run(arguments)
    else:
        _run(arguments)


def _run(arguments: Arguments) -> None:
    source = load_data(arguments.data, arguments.split, arguments.reading)
    validation = None
    if arguments.val_split.lower() != "none":
        validation = load_data(arguments.data, arguments.val_split, arguments.reading)
    settings = _settings(arguments, source)
    if arguments.check_data and arguments.data != "synthetic":
        settings = _checked(arguments, settings, source, validation)

    import keras

    import keras_deeplab
    from keras_deeplab.training.distribution import distributed
    from keras_deeplab.training.hosts import Hosts

    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(arguments.dtype_policy)
    with distributed(arguments.devices) if arguments.devices > 1 else nullcontext():
        model = arguments.network.build(source)
        parameters = f"{model.count_params():,} parameters"
        print(f"{model.name}: {parameters}; {source.num_examples} samples, {settings.steps} steps")
        teacher = None if arguments.teacher is None else keras_deeplab.load(arguments.teacher)
        callbacks = []
        if arguments.tensorboard and Hosts(model).first:
            from keras_deeplab.training.callbacks.tensorboard import TensorBoardPanels

            callbacks.append(TensorBoardPanels(Path(arguments.run_dir).expanduser() / "tensorboard", validation))
        result = keras_deeplab.train(
            model,
            source,
            arguments.run_dir,
            validation=validation,
            teacher=teacher,
            settings=settings,
            restart=arguments.restart,
            callbacks=callbacks,
        )
    best = result["best"]
    if best is not None:
        print(f"best: mIoU {best['mean_iou']:.4f} at step {best['step']}: {result['best_model']}")
    print(f"last: {result['last']}")


def _settings(arguments: Arguments, source: "Source") -> TrainSettings:
    """The run's settings, from its recipe where it has one; what should be known of that is printed."""
    settings = arguments.settings
    if arguments.recipe is None:
        return settings.resolved(source.num_examples)
    row, network = RECIPES[arguments.recipe], arguments.network
    settings = row.settings_for(source, **settings.asked()).resolved(source.num_examples)
    print(row.told(settings))
    started = network.weights is not None or network.backbone_weights is not None
    for note in row.notes(source, settings, started=started):
        print(f"note: {in_flags(note, Arguments)}")
    return settings


def _checked(
    arguments: Arguments, settings: TrainSettings, source: "Source", validation: "Source | None"
) -> TrainSettings:
    """Refuses data with errors, by the quick part of `keras-deeplab check-data`, and tells the warnings.

    Returns the settings, with the class weights of the masks that were read where they are asked for.
    """
    from keras_deeplab.data import doctor

    parts = {arguments.split: source}
    if validation is not None:
        parts[doctor.other_name(arguments.val_split, arguments.split)] = validation
    reading, crop_size = arguments.reading.given(), settings.crop_size
    found = doctor.examine(parts, arguments.data, reading=reading, crop_size=crop_size, quick=True, progress=True)
    print(found.summary())
    found.refuse_errors()
    for warning in found.warnings:
        print(in_flags(warning.told(), Arguments))
    return with_class_weights(settings, source, found.evidence.parts[arguments.split].counts)
