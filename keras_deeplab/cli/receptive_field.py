"""`keras-deeplab receptive-field`."""

from keras_deeplab.options import Options, option, record

HELP = "Print what each layer of a network sees."


@record
class Arguments(Options):
    network: str = option(
        help="a registered backbone, a published model (see the command models), or a .keras file",
        flag=None,
        metavar="NETWORK",
    )
    output_stride: int | None = option(None, "of backbones and published models; by default their own", minimum=1)
    markdown: bool = option(False, "whether to print a Markdown table")


def run(arguments: Arguments) -> None:
    from keras_deeplab.summary import field_table, open_network, receptive_field

    fields = receptive_field(open_network(arguments.network, arguments.output_stride))
    print(field_table(fields, arguments.markdown))
