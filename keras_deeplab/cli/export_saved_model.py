"""`keras-deeplab export-saved-model`."""

from pathlib import Path

from keras_deeplab.cli.shared import Identity, StoredModel
from keras_deeplab.export.settings import SavedModelOptions
from keras_deeplab.options import Options, nested, option, record

HELP = "Write a SavedModel for TensorFlow Serving."


@record
class Arguments(Options):
    network: StoredModel = nested(StoredModel)
    folder: str = option(
        help="folder of the model's versions, e.g. savedmodels/voc; a new version is added", flag=None, metavar="OUT"
    )
    version: int | None = option(None, "the version's number; by default the next", minimum=1)
    warmup: bool = option(True, "whether it has warm-up requests")
    settings: SavedModelOptions = nested(SavedModelOptions)
    identity: Identity = nested(Identity)


def run(arguments: Arguments) -> None:
    from keras_deeplab.export.saved_model import export_saved_model, next_version, signature_names
    from keras_deeplab.serving.config import FILES, MODELS_CONFIG, update_models_config

    model = arguments.identity.named(arguments.network.load())
    folder = arguments.folder
    target = Path(folder) / str(arguments.version) if arguments.version else next_version(folder)
    settings = arguments.settings if arguments.warmup else arguments.settings.with_options(warmup_size=None)
    path = export_saved_model(model, target, **settings.values())
    channels = model.spec.channels
    names = signature_names(channels)
    print(f"SavedModel: {path} (signatures {', '.join(names)})")
    if "encoded" not in names:
        print(f"  without encoded and encoded_labels: image files hold 1, 3 or 4 channels, the model takes {channels}")
    # Only where somebody serves: no files appear in a folder that is for something else.
    served = path.absolute().parent.parent
    if any((served / name).exists() for name in (MODELS_CONFIG, *FILES)) and update_models_config(served):
        print(f"{served / MODELS_CONFIG}: now names {path.absolute().parent.name}")
