"""Every published model: its parameters and multiply-adds as its source's own code has them, and the docs' tables."""

from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from keras_deeplab import summary
from keras_deeplab._helpers.unallocated import unallocated
from keras_deeplab.backbones import BACKBONES
from keras_deeplab.models.build import build
from keras_deeplab.published import MODELS

DOCS = Path(__file__).resolve().parents[1] / "docs" / "models.md"

# Counted in the sources' own running code: trainable parameters, multiply-adds of convolutions for one image of
# 513x513, or of 512x512 where that is said. Exact where an int stands, else rounded to what the string shows.
# model, arguments of the builder, size, parameters, multiply-adds
MEASURED = [
    ("vainf_deeplabv3_mobilenet", {}, 513, 5_113_877, 5_844_337_664),
    ("vainf_deeplabv3_mobilenet", {"output_stride": 8}, 513, 5_113_877, 21_496_620_032),
    ("vainf_deeplabv3_resnet50", {}, 513, 39_638_869, 51_078_150_592),
    ("vainf_deeplabv3_resnet50", {"output_stride": 8}, 513, 39_638_869, 168_652_962_240),
    ("vainf_deeplabv3_resnet101", {}, 513, 58_630_997, "71.704"),
    ("vainf_deeplabv3_resnet101", {"output_stride": 8}, 513, 58_630_997, "248.674"),
    ("vainf_deeplabv3_xception", {}, 513, 36_933_693, 39_414_687_872),
    ("vainf_deeplabv3_xception", {"output_stride": 8}, 513, 36_933_693, "125.716"),
    ("vainf_deeplabv3_hrnetv2_32", {}, 512, 33_795_541, 112_720_994_304),
    ("vainf_deeplabv3plus_mobilenet", {}, 513, 5_225_717, 16_817_423_360),
    ("vainf_deeplabv3plus_mobilenet", {"output_stride": 8}, 513, 5_225_717, "30.641"),
    ("vainf_deeplabv3plus_resnet50", {}, 513, 39_761_845, 62_379_547_072),
    ("vainf_deeplabv3plus_resnet50", {"output_stride": 8}, 513, 39_761_845, 178_087_811_520),
    ("vainf_deeplabv3plus_resnet101", {}, 513, 58_753_973, "83.005"),
    ("vainf_deeplabv3plus_resnet101", {"output_stride": 8}, 513, 58_753_973, "258.109"),
    ("vainf_deeplabv3plus_xception", {}, 513, 37_050_525, 50_430_866_816),
    ("vainf_deeplabv3plus_xception", {"output_stride": 8}, 513, 37_050_525, 135_589_115_264),
    ("vainf_deeplabv3plus_resnet50_separable", {}, 513, 26_614_373, 38_421_949_552),
    ("vainf_deeplabv3plus_mobilenet_separable", {}, 513, "2.648", "4.657"),
    ("vainf_deeplabv3plus_hrnetv2_32", {}, 512, 33_918_517, 114_734_260_224),
    ("vainf_deeplabv3plus_hrnetv2_48", {}, 512, "71.720", "186.413"),
    ("torchvision_deeplabv3_resnet50", {}, 513, 42_004_074, 178_643_701_440),
    ("torchvision_deeplabv3_resnet101", {}, 513, 60_996_202, "258.665"),
    ("torchvision_deeplabv3_mobilenet_v3_large", {}, 513, 11_029_328, 10_447_511_786),
    ("jfzhang95_deeplabv3plus_resnet101", {}, 513, 59_344_309, 92_820_363_712),
    ("jfzhang95_deeplabv3plus_resnet101", {"output_stride": 8}, 513, 59_344_309, "267.924"),
    ("jfzhang95_deeplabv3plus_xception", {}, 513, 54_705_317, 86_576_993_984),
    ("jfzhang95_deeplabv3plus_xception", {"output_stride": 8}, 513, 54_705_317, "248.680"),
    ("jfzhang95_deeplabv3plus_mobilenet", {}, 513, 5_816_053, 27_067_933_504),
    ("jfzhang95_deeplabv3plus_mobilenet", {"output_stride": 8}, 513, 5_816_053, "41.024"),
    ("jfzhang95_deeplabv3plus_drn_d_54", {}, 513, 40_737_061, 192_064_418_096),
    ("kazuto1011_deeplabv1_resnet101", {}, 513, "42.543", "182.526"),
    ("kazuto1011_deeplabv2_resnet101", {}, 513, 44_048_532, 188_885_763_264),
    ("kazuto1011_deeplabv2_resnet101_msc", {}, 513, 44_048_532, 344_875_910_336),
    ("kazuto1011_deeplabv3_resnet101", {}, 513, 58_040_661, 70_243_498_432),
    ("kazuto1011_deeplabv3_resnet101", {"output_stride": 8}, 513, 58_040_661, "245.775"),
    ("kazuto1011_deeplabv3plus_resnet101", {}, 513, 59_344_309, "92.002"),
    ("kazuto1011_deeplabv3plus_resnet101", {"output_stride": 8}, 513, 59_344_309, 267_517_319_616),
    ("fregu856_deeplabv3_resnet18", {}, 513, 15_315_028, 21_068_511_424),
    ("fregu856_deeplabv3_resnet18", {"output_stride": 8}, 513, 15_315_028, 66_504_685_760),
    ("fregu856_deeplabv3_resnet34", {}, 513, 25_423_188, "35.065"),
    ("fregu856_deeplabv3_resnet34", {"output_stride": 8}, 513, 25_423_188, 110_095_702_208),
    ("fregu856_deeplabv3_resnet50", {}, 513, "39.050", "50.436"),
    ("caffe_deeplabv1_vgg16_large_fov", {}, 513, 20_505_429, 128_584_633_024),
    ("coincheung_deeplabv1_vgg16_large_fov", {}, 513, 20_505_429, 128_584_633_024),
    ("caffe_deeplabv2_vgg16_aspp", {}, 513, 37_877_652, 201_956_050_624),
    ("slim_deeplabv3plus_xception_41", {}, 513, 28_108_661, 40_012_398_128),
    ("slim_deeplabv3plus_xception_41", {"output_stride": 8}, 513, 28_108_661, "122.447"),
    ("slim_deeplabv3plus_xception_65", {}, 513, 41_055_413, 54_035_303_024),
    ("slim_deeplabv3plus_xception_65", {"output_stride": 8}, 513, 41_055_413, "176.852"),
    ("slim_deeplabv3plus_xception_65_bounded", {}, 513, 41_055_413, 54_035_303_024),
    ("slim_deeplabv3plus_xception_71", {}, 513, 43_477_837, 66_068_012_856),
    ("slim_deeplabv3plus_xception_71", {"output_stride": 8}, 513, 43_477_837, "189.962"),
    ("slim_deeplabv3_mobilenet_v2", {}, 513, 2_113_557, 2_740_709_056),
    ("slim_deeplabv3_mobilenet_v2", {"output_stride": 8}, 513, 2_113_557, 8_825_853_632),
    ("slim_deeplabv3_mobilenet_v2_dm05", {}, 513, "0.697", "0.867"),
    ("slim_deeplabv3plus_mobilenet_v2", {}, 513, 2_725_573, 5_900_011_312),
    ("slim_deeplabv3plus_mobilenet_v2", {"output_stride": 8}, 513, 2_725_573, "13.383"),
    ("slim_deeplabv3plus_resnet_v1_50_beta", {}, 513, 26_819_909, 44_541_958_000),
    ("slim_deeplabv3plus_resnet_v1_50_beta", {"output_stride": 8}, 513, 26_819_909, 122_042_603_376),
    ("slim_deeplabv3plus_resnet_v1_101_beta", {}, 513, "45.812", "65.168"),
    ("slim_deeplabv3_resnet_v1_50_beta", {}, 513, 39_172_309, 55_426_915_264),
    ("bonlime_deeplabv3plus_xception", {"output_stride": 16}, 513, 41_055_413, 54_035_303_024),
    ("bonlime_deeplabv3plus_xception", {"output_stride": 8}, 513, "41.055", "176.852"),
    ("bonlime_deeplabv3_mobilenetv2", {}, 513, 2_113_557, 8_825_853_632),
    ("smp_deeplabv3_resnet50", {}, 512, 39_638_869, 163_579_428_864),
    ("smp_deeplabv3_resnet34", {}, 512, "26.012", "109.221"),
    ("smp_deeplabv3plus_resnet50", {}, 512, 26_682_725, 36_645_109_760),
    ("smp_deeplabv3plus_resnet50", {"output_stride": 8}, 512, 26_682_725, "111.716"),
    ("smp_deeplabv3plus_resnet101", {}, 512, "45.675", "56.040"),
    ("smp_deeplabv3plus_mobilenet_v2", {}, 512, 4_383_653, 6_009_454_592),
    ("smp_deeplabv3plus_timm_mobilenetv3_large_100", {}, 512, 4_713_493, 4_699_545_472),
    ("smp_deeplabv3plus_tu_xception65", {}, 512, 41_042_005, 50_242_297_856),
    ("smp_deeplabv3plus_tu_xception71", {}, 512, "43.464", "61.956"),
]

PLAIN = {"separable": False}
KINDS = (False, True)
# VainF's MobileNetV2 with a stem that is padded, and so maps of 257, 129, 65 and 33 positions instead of 256 to 32.
PADDED = {"backbone": "mobilenet_v2", "low_level": "block_2_add"}
# Computed from the papers' and repositories' tables, without any code: trainable parameters, all of them with batch
# norm's statistics, and billions of multiply-adds at 513x513 (None: not computed), which hold to half a percent.
# model, arguments of the builder, trainable, total, multiply-adds
COMPUTED = [
    ("slim_deeplabv3plus_xception_41", {}, 28_108_661, 28_241_573, 40.01),
    ("slim_deeplabv3plus_xception_65", {}, 41_055_413, 41_258_213, 54.04),
    ("slim_deeplabv3plus_xception_65", {"output_stride": 8}, 41_055_413, 41_258_213, 176.85),
    ("slim_deeplabv3plus_xception_71", {}, 43_477_837, 43_694_413, 66.07),
    ("slim_deeplabv3_mobilenet_v2", {}, 2_113_557, 2_146_645, 2.741),
    ("paper_deeplabv3_mobilenet_v2_aspp", {}, 4_523_541, 4_558_165, 5.36),
    ("vainf_deeplabv3_resnet50", {}, 39_638_869, None, 51.08),
    ("vainf_deeplabv3_resnet101", {}, 58_630_997, None, 71.70),
    ("vainf_deeplabv3plus_mobilenet", PADDED, 5_225_717, None, 17.12),
    ("vainf_deeplabv3plus_resnet50", {}, 39_761_845, None, 62.38),
    ("vainf_deeplabv3plus_resnet101", {}, 58_753_973, None, 83.01),
    ("torchvision_deeplabv3_resnet50", {}, 42_004_074, None, 178.64),
    ("torchvision_deeplabv3_resnet101", {}, 60_996_202, None, 258.67),
    ("paper_deeplabv3_resnet101", {}, 58_164_437, 58_273_237, 76.05),
    ("slim_deeplabv3plus_resnet_v1_50_beta", PLAIN, 40_475_957, None, 77.19),
    ("paper_deeplabv3plus_resnet101", {}, 59_468_085, None, 97.81),
    ("slim_deeplabv3plus_resnet_v1_50_beta", {}, 26_819_909, None, 44.54),
    ("slim_deeplabv3plus_resnet_v1_101_beta", {}, 45_812_037, None, 65.17),
    ("paper_deeplabv1_vgg16_7x7", {}, 134_346_581, None, None),
    ("paper_deeplabv1_vgg16_4x4", {}, 65_140_565, None, None),
    ("paper_deeplabv1_vgg16_4x4_large", {}, 65_140_565, None, None),
    ("paper_deeplabv1_vgg16_large_fov", {}, 20_505_429, None, None),
    ("paper_deeplabv2_vgg16_aspp_s", {}, 37_877_652, None, None),
    ("paper_deeplabv2_vgg16_aspp_l", {}, 37_877_652, None, None),
    ("kazuto1011_deeplabv2_resnet101", {}, 44_048_532, None, None),
    # A classifier of 1000 classes on each position has as many parameters as the ImageNet one on their mean.
    ("fyu_drn_c_26", {"num_classes": 1000}, 21_126_584, None, None),
    ("fyu_drn_c_42", {"num_classes": 1000}, 31_234_744, None, None),
    # Without a shortcut's 1x1 convolution from 2048 to 512 channels, which the source makes and never adds.
    (
        "fyu_drn_c_42",
        {"num_classes": 1000, "backbone": "drn_c_58"},
        41_591_608 - (2048 * 512 + 2 * 512),
        None,
        None,
    ),
    ("fyu_drn_d_22", {"num_classes": 1000}, 16_393_752, None, None),
    ("fyu_drn_d_38", {"num_classes": 1000}, 26_501_912, None, None),
    ("fyu_drn_d_38", {"num_classes": 1000, "backbone": "drn_d_54"}, 35_809_176, None, None),
    ("fyu_drn_d_105", {"num_classes": 1000}, 54_801_304, None, None),
]


# (model, arguments) -> the (size, space to batch) that its multiply-adds are wanted for: every network is built once.
WANTED = defaultdict(set)
for name in MODELS:
    WANTED[name, ()].add((513, False))
for name, overrides, size, *_ in MEASURED:
    WANTED[name, tuple(overrides.items())].add((size, False))
for name, overrides, *_ in COMPUTED:
    WANTED[name, tuple(overrides.items())].add((513, False))
for name, row in MODELS.items():
    for figure in row.counts:
        WANTED[name, tuple(figure.overrides.items())].update((size, kind) for size in figure.sizes() for kind in KINDS)


@cache
def measure(name, overrides):
    """(name, number of logits, parameters, multiply-adds by what is wanted, strides of the network's maps)."""
    with unallocated():
        model = build(name, **dict(overrides))
    costs = {wanted: summary.multiply_adds(model, *wanted) for wanted in WANTED[name, overrides]}
    network = model.get_layer("network") if MODELS[name].spec.settings.get("multi_scale") else model
    strides = {field.output_stride for field in summary.receptive_field(network)} - {None}
    return Measured(model.name, model.outputs[0].shape[-1], summary.count_parameters(model), costs, strides)


class Measured(NamedTuple):
    name: str
    num_classes: int
    parameters: summary.Parameters
    costs: dict
    strides: set


def label(case):
    name, overrides, *_ = case
    return "-".join([name, *(str(value) for value in overrides.values())])


def agrees(number, expected, unit):
    return number == expected if isinstance(expected, int) else f"{number / unit:.3f}" == expected


@pytest.mark.slow
@pytest.mark.parametrize("case", MEASURED, ids=label)
def test_counts_are_those_of_the_sources_own_code(case):
    name, overrides, size, parameters, multiply_adds = case
    measured = measure(name, tuple(overrides.items()))
    assert agrees(measured.parameters.trainable, parameters, 1e6)
    assert agrees(measured.costs[size, False], multiply_adds, 1e9)


@pytest.mark.slow
@pytest.mark.parametrize("case", COMPUTED, ids=label)
def test_counts_are_those_computed_from_the_tables(case):
    name, overrides, trainable, total, billions = case
    measured = measure(name, tuple(overrides.items()))
    assert measured.parameters.trainable == trainable
    assert total in (None, measured.parameters.total)
    if billions is not None:
        assert measured.costs[513, False] / 1e9 == pytest.approx(billions, rel=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_published_model_builds_at_its_output_stride(name):
    row = MODELS[name]
    measured = measure(name, ())
    assert measured.name == name
    assert measured.num_classes == row.spec.num_classes
    assert (row.spec.output_stride,) * 2 in measured.strides
    coarser = {stride for stride in measured.strides if max(stride) > row.spec.output_stride}
    # HRNet's branches, and the windows of lite R-ASPP's mean.
    assert not coarser or row.spec.backbone.startswith("hrnet") or BACKBONES[row.spec.backbone].v3_head == "lite_raspp"


FIGURES = [(row.name, figure) for row in MODELS.values() for figure in row.counts]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "figure"), FIGURES, ids=[f"{name}-{figure.published}" for name, figure in FIGURES])
def test_published_counts_agree_or_say_why_not(name, figure):
    measured = measure(name, tuple(figure.overrides.items()))
    if figure.quantity == "parameters":
        decimals = len(figure.published.partition(".")[2]) - 1
        assert abs(figure.value - measured.parameters.trainable) * 10 ** (decimals - 6) <= 0.5
    elif not figure.remark:
        padded = sum(measured.costs[size, figure.space_to_batch] for size in figure.sizes())
        assert padded == pytest.approx(figure.value, rel=0.015 if figure.value < 1e9 else 0.006)
    else:
        here = sum(measured.costs[size, False] for size in figure.sizes())
        assert here != pytest.approx(figure.value, rel=0.004)


def test_the_deployment_card_counts_twenty_ninths_of_thop():
    for name, thop, card in [
        ("vainf_deeplabv3_mobilenet", 6.01757, "13.372G"),
        ("vainf_deeplabv3_resnet50", 51.36151, "114.137G"),
        ("vainf_deeplabv3_resnet101", 72.10081, "160.224G"),
        ("vainf_deeplabv3plus_mobilenet", 17.00953, "37.799G"),
        ("vainf_deeplabv3plus_resnet50", 62.68203, "139.293G"),
        ("vainf_deeplabv3plus_resnet101", 83.42133, "185.381G"),
    ]:
        (published,) = (figure for figure in MODELS[name].counts if figure.published == card)
        assert f"{thop * 20 / 9:.3f}G" == published.published
        assert "20/9" in published.remark


@pytest.mark.slow
def test_overrides_win_and_the_row_stays_as_it_is():
    row = MODELS["vainf_deeplabv3plus_mobilenet"]
    before = row.spec.to_json()
    with unallocated():
        model = build(row.name, num_classes=5, output_stride=8, name="mine")
    assert (model.name, model.output_shape[-1]) == ("mine", 5)
    assert (model.spec.flavour, model.spec.output_stride) == ("vainf", 8)
    assert row.spec.to_json() == before
    with pytest.raises(AttributeError):
        row.spec.backbone = "resnet50"


def test_an_unknown_model_is_told_with_the_nearest():
    with pytest.raises(ValueError, match=r"did you mean 'vainf_deeplabv3_mobilenet'\?"):
        MODELS["vainf_deeplabv3_mobilnet"]


@pytest.mark.slow
def test_every_reference_model_has_a_row(shared):
    names = {
        "caffe__deeplabv1_vgg16_largefov": "caffe_deeplabv1_vgg16_large_fov",
        "coincheung__deeplabv1_vgg16_largefov": "coincheung_deeplabv1_vgg16_large_fov",
        "slim__deeplabv3_mobilenet_v2_official": "slim_deeplabv3_mobilenet_v2",
        "slim__deeplabv3_resnet_v1_50_beta_dense": "slim_deeplabv3_resnet_v1_50_beta",
    }
    files = [path.stem for path in (shared / "reference").glob("*__os*.npz")]
    assert files
    for stem in files:
        model, _, _ = stem.rpartition("__")
        assert names.get(model, model.replace("__", "_")) in MODELS


@pytest.mark.slow
@pytest.mark.parametrize("function", ["summary_table", "comparison_table"])
def test_the_docs_hold_the_table_of_the_command(function, monkeypatch):
    monkeypatch.setattr(
        summary.tables, "skeleton", lambda row, **overrides: measure(row.name, tuple(overrides.items()))
    )
    monkeypatch.setattr(summary.tables, "count_parameters", lambda measured: measured.parameters)
    monkeypatch.setattr(
        summary.tables,
        "multiply_adds",
        lambda measured, size=513, space_to_batch=False: measured.costs[size, space_to_batch],
    )
    table = getattr(summary, function)(markdown=True)
    assert table in DOCS.read_text("utf-8"), f"docs/models.md is not what {function}(markdown=True) gives; see there"
