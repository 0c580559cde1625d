"""Training recipes by name: published runs, and this package's own, which adapt to their data.

Importing this imports no Keras: a command lists them.
"""

from keras_deeplab.registry import Registry
from keras_deeplab.training.recipes import own, papers, pytorch, toolboxes
from keras_deeplab.training.recipes.row import Recipe

# A further one is a row of a file beside this one; of your own, `RECIPES["mine"] = Recipe("mine", ...)`.
RECIPES: Registry[Recipe] = Registry(
    "recipe", {row.name: row for row in (*own.ROWS, *papers.ROWS, *pytorch.ROWS, *toolboxes.ROWS)}
)


def recipe(name: str) -> Recipe:
    """A recipe by its name.

    Raises:
        ValueError: there is none of this name; the nearest is named.

    >>> recipe("deeplabv3_resnet101_voc").settings.schedule.learning_rate
    0.007
    >>> recipe("moblie")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: Unknown recipe 'moblie': did you mean 'mobile'? Known: ...
    """
    return RECIPES[name]
