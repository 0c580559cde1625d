"""A trained network to one with fewer channels that gives nearly the same labels: structured pruning.

`Pruning` finds the channels that only convolutions take and the order in which photographs miss them least,
`sensitivities` what each group of them is worth on labelled data, `shares_for` how many of each may go, and
`Pruning.narrow` the network without them, whose kernels make up for those that went.
"""

from keras_deeplab.pruning.network import Pruning
from keras_deeplab.pruning.sensitivity import Costs, Sensitivity, sensitivities, shares_for, table

__all__ = ["Costs", "Pruning", "Sensitivity", "sensitivities", "shares_for", "table"]
