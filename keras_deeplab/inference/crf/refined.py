"""A strategy with a dense CRF behind it."""

from typing import Any

import keras
import numpy as np

from keras_deeplab.inference import answers
from keras_deeplab.inference.crf.dense import channels_refused, refine
from keras_deeplab.inference.crf.settings import PARAMETERS, Parameters, parameters
from keras_deeplab.inference.runtimes.base import LABELS, PROBABILITIES, Runtime
from keras_deeplab.inference.strategies import Strategy, told


class Refined:
    """Scores of another strategy to the CRF's marginals, at the images' full size: a strategy itself.

    Of a binary model both labels take part, and the marginals of label 1 are returned.

    Args:
        strategy: how an image is put to the model, of `keras_deeplab.inference.strategies`.
        settings: what `keras_deeplab.inference.crf.parameters` takes: a published name, a JSON file, numbers.
        iterations: of mean field; None for those of the parameters.

    Raises:
        ValueError: unknown parameters; when called, a model that returns labels, one that decides each class by
            itself, or images of other channels than 1 and 3.
    """

    def __init__(
        self, strategy: Strategy, settings: str | Parameters = "v2_resnet101", iterations: int | None = None
    ) -> None:
        self.strategy = strategy
        chosen = parameters(settings)
        self.parameters = chosen if iterations is None else chosen.with_options(iterations=iterations)

    @property
    def input_size(self) -> tuple[int, int] | None:
        return self.strategy.input_size

    def __call__(self, runtime: Runtime, images: np.ndarray) -> tuple[np.ndarray, str]:
        spec = runtime.spec
        if runtime.returns == LABELS or spec is None:
            raise ValueError(
                f"{runtime.name} returns labels alone, and a CRF needs probabilities: export it with logits or "
                "probabilities"
            )
        if spec.multi_label:
            raise ValueError(
                f"{runtime.name} decides each class by itself, and a CRF chooses one label for each pixel: build it "
                'with classifier_activation="softmax", or leave the CRF out'
            )
        if images.shape[-1] not in (1, 3):
            raise ValueError(channels_refused(images.shape[-1]))
        scores, returns = self.strategy(runtime, images)
        found: Any = keras.ops.convert_to_numpy(answers.probabilities_of(scores, spec, returns))
        if spec.binary:
            found = np.concatenate([1.0 - found, found], axis=-1)
        marginals = refine(images, found, self.parameters)
        return (marginals[..., 1:] if spec.binary else marginals), PROBABILITIES

    def told(self) -> tuple[str, ...]:
        """What is done, in phrases, for the line that stands beside a score."""
        mine = self.parameters
        names = [name for name, known in PARAMETERS.items() if known.text() == mine.text()]
        numbers = f"{names[0]} ({mine.text()})" if names else mine.text()
        return *told(self.strategy), f"dense CRF {numbers}, {mine.iterations} iterations"
