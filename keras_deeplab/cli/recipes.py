"""`keras-deeplab recipes`."""

from keras_deeplab.options import Options, option, record

HELP = "List the training recipes: published results with their sources, and those that adapt to the data."


@record
class Arguments(Options):
    pattern: str = option("", "part of a name, a data set or a source", flag=None, metavar="PATTERN", nargs="?")
    markdown: bool = option(False, "whether to print Markdown tables, with all that differs and its options")


def run(arguments: Arguments) -> None:
    from keras_deeplab.training.recipes.table import listed, markdown

    print((markdown if arguments.markdown else listed)(arguments.pattern))
