"""What a model sees and what it costs: receptive fields, multiply-adds and parameters, without running it.

And the same for all published models, beside what their sources report.
"""

from keras_deeplab.summary.costs import Parameters, count_parameters, layer_multiply_adds, multiply_adds
from keras_deeplab.summary.fields import Field, field_table, global_layers, receptive_field
from keras_deeplab.summary.graph import run_through
from keras_deeplab.summary.networks import open_network
from keras_deeplab.summary.tables import Summary, comparison_table, summarise, summary_table

__all__ = [
    "Field",
    "Parameters",
    "Summary",
    "comparison_table",
    "count_parameters",
    "field_table",
    "global_layers",
    "layer_multiply_adds",
    "multiply_adds",
    "open_network",
    "receptive_field",
    "run_through",
    "summarise",
    "summary_table",
]
