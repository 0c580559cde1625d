"""`keras-deeplab models`."""

from keras_deeplab.options import Options, option, record

HELP = "List the published models: their cost here and accuracy there."


@record
class Arguments(Options):
    pattern: str = option("", "part of a name or backbone", flag=None, metavar="PATTERN", nargs="?")
    markdown: bool = option(False, "whether to print a Markdown table, with all accuracies")
    counts: bool = option(False, "whether to compare published parameters and multiply-adds with the code's instead")


def run(arguments: Arguments) -> None:
    from keras_deeplab.summary import comparison_table, summary_table

    table = comparison_table if arguments.counts else summary_table
    print(table(arguments.pattern, arguments.markdown, progress=True))
