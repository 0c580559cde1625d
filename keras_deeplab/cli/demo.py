"""`keras-deeplab demo`."""

from keras_deeplab.cli.shared import Identity
from keras_deeplab.options import Options, Range, nested, option, record
from keras_deeplab.specs import Classes

HELP = "Make a page that runs a TFLite file in the browser, and show it on this machine."


@record
class Arguments(Options):
    model: str = option(help="file that export-tflite wrote, of a fixed input size", flag=None, metavar="MODEL.tflite")
    output: str = option("demo", "folder of the page; any web server can publish it", metavar="FOLDER")
    input_range: Range = option(
        (0.0, 255.0), "what 0..255 is mapped to, for float files that don't normalise themselves"
    )
    runtime: str | None = option(
        None, "node_modules with LiteRT; by default a cache, which npm fills once", metavar="FOLDER"
    )
    serve: bool = option(True, "whether the page is shown, or only written")
    host: str = option("127.0.0.1", "address to serve it on; this machine only by default")
    port: int = option(8000, "port to serve it on, 0 for any", minimum=0, maximum=65535)
    identity: Identity = nested(Identity)


def run(arguments: Arguments) -> None:
    import numpy as np

    from keras_deeplab.demo.page import check_model, write_page
    from keras_deeplab.demo.server import serve

    facts = check_model(arguments.model)
    colors = None if facts.palette is None else tuple(map(tuple, facts.palette.tolist()))
    classes = arguments.identity.resolved(Classes(facts.classes, colors), facts.num_classes)
    folder = write_page(
        arguments.model,
        arguments.output,
        classes=classes.names,
        palette=None if classes.colors is None else np.array(classes.colors, np.uint8),
        input_range=arguments.input_range,
        runtime=arguments.runtime,
    )
    print(f"page: {folder} (images of {facts.input_size[0]}x{facts.input_size[1]}, {facts.input_type})", flush=True)
    if arguments.serve:
        serve(folder, arguments.host, arguments.port)
