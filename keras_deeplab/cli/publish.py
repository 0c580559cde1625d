"""`keras-deeplab publish`."""

from keras_deeplab.cli.shared import Identity, StoredModel
from keras_deeplab.options import Factors, Options, nested, option, record

HELP = "Write a model as a preset with a model card, and bring it to the Hugging Face Hub."


@record
class Arguments(Options):
    network: StoredModel = nested(StoredModel)
    folder: str = option(help="new folder to write", flag=None, metavar="OUT")
    to: str | None = option(None, "hf://user/name to bring it to; by default it is only written", metavar="HANDLE")
    private: bool = option(False, "whether a repository that is made is private")
    data: str | None = option(None, "what the model was trained on")
    evaluated_on: str | None = option(None, "what the metrics were measured on")
    metrics: Factors | None = option(None, "numbers by name, such as mean_iou=0.713")
    protocol: str | None = option(None, "how they were measured: scales, flips, windows, image size")
    license: str | None = option(None, "of the weights, as the hub names it, such as apache-2.0")
    description: str | None = option(None, "what the model is for")
    limits: str | None = option(None, "what it must not be used for, what it does badly")
    identity: Identity = nested(Identity)


def run(arguments: Arguments) -> None:
    from keras_deeplab.hubs.card import Card
    from keras_deeplab.hubs.presets import save_to_preset, upload

    facts = ("data", "evaluated_on", "protocol", "license", "description", "limits")
    card = Card(metrics=arguments.metrics or {}, **{name: getattr(arguments, name) for name in facts})
    model = arguments.identity.named(arguments.network.load())
    folder = save_to_preset(model, arguments.folder, card, handle=arguments.to)
    print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    unstated = [name for name in ("data", "metrics", "license") if not getattr(card, name)]
    if unstated:
        print(f"  the model card says of {', '.join(unstated)} that they are not stated")
    if arguments.to is not None:
        print(f"{arguments.to}: {upload(folder, arguments.to, private=arguments.private)}")
