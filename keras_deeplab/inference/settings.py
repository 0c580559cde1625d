"""How an image is put to a model: the options of `keras_deeplab.predictor` and of every command that segments.

Each is declared here once; `composition.LAYERS` makes strategies of them. What changes the image or the mask that is
scored is none of these: it is `protocols.ScoringOptions`, of `evaluate` alone.
"""

from keras_deeplab.options import Numbers, OptionError, Options, Size, option, record

MEAN, MAX = AVERAGES = ("mean", "max")


@record
class InferenceOptions(Options):
    """What an image goes through on its way to the model, and its scores on their way back."""

    TITLE = "how an image is put to the model"

    output_stride: int | None = option(
        None,
        "of checkpoints, .keras files and models of this package: 8, 16 (the default of most checkpoints) or 32",
        minimum=1,
    )
    shorter_side: int | None = option(
        None, "what the shorter side of the image is scaled to; the scores are scaled back", minimum=1
    )
    longer_side: int | None = option(
        None, "what its longer side may have at most then, which scales it by less", minimum=1
    )
    input_size: Size | None = option(None, "what images are padded to, at the bottom and right, with 127.5")
    scales: Numbers = option((1.0,), "average over scales of the image", above=0)
    flip: bool = option(False, "whether to average over the mirrored image too")
    average: str = option(
        MEAN, "of the probabilities at several scales and mirrored: their mean, or the greatest", choices=AVERAGES
    )
    windows: Size | None = option(
        None,
        "size of windows that the image is cut into; where they overlap, their scores are averaged",
    )
    window_stride: Size | None = option(None, "pixels from one window to the next; by default two thirds of the window")
    crf: str | None = option(
        None,
        "dense CRF behind the scores, on the image at its own size: parameters by a published name such as "
        "v2_resnet101, a JSON file of tune-crf, or numbers w1/sigma_alpha/sigma_beta,w2/sigma_gamma",
        metavar="PARAMETERS",
    )
    threshold: float = option(
        0.5,
        "probability above which a class is there, where each is decided by itself or there are two",
        above=0,
        below=1,
    )
    safe_mode: bool = option(
        True,
        "whether SavedModels and TFLite files with operators that reach files, the network or Python are refused",
        configuration=False,
    )

    def checked(self) -> None:
        if self.crf is not None:
            from keras_deeplab.inference.crf.settings import parameters

            parameters(self.crf)  # refuses what is none
        if self.longer_side is not None and self.longer_side < (self.shorter_side or self.longer_side + 1):
            raise OptionError(
                "{longer_side} is the most that the longer side may have beside a {shorter_side}, no less than that; "
                "received {longer} and {shorter}",
                longer=str(self.longer_side),
                shorter=str(self.shorter_side),
            )
        if self.average != MEAN and not self.several:
            raise OptionError("{average} is of several {scales} or {flip}, and neither is asked for")
        if self.window_stride is not None:
            if self.windows is None:
                raise OptionError("{window_stride} is of {windows}, which are not asked for")
            if any(step > side for step, side in zip(self.window_stride, self.windows, strict=True)):
                raise OptionError(
                    "{window_stride} of {step} leaves gaps between {windows} of {size}: it may be {size} at most",
                    step="x".join(map(str, self.window_stride)),
                    size="x".join(map(str, self.windows)),
                )

    @property
    def several(self) -> bool:
        """Whether probabilities of several images are averaged: scales, or the image and its mirror image."""
        return self.scales != (1.0,) or self.flip

    @property
    def window_steps(self) -> Size | None:
        """(down, right) from one window to the next; None without windows."""
        if self.windows is None or self.window_stride is not None:
            return self.window_stride
        down, right = (-(-2 * side // 3) for side in self.windows)
        return down, right
