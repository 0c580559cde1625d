"""MMSegmentation's DeepLabs as small PyTorch modules of its names, after the rules of its published code.

Written for these tests. The rules: `ResLayer` (a stage's rate, the first unit's with contract_dilation, multi_grid),
`BasicBlock` (the second convolution has no rate), `ASPPHead` and `DepthwiseSeparableASPPHead` (image pooling in
front, a 3x3 bottleneck), `MobileNetV2` (a stage's rate in its first block), `FCNHead`, one `align_corners` for
every resize.
"""

import torch
from torch import nn
from torch.nn import functional as F

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def convolution(inside, outside, kernel=3, stride=1, rate=1, groups=1):
    return nn.Conv2d(inside, outside, kernel, stride, rate * (kernel // 2), rate, groups, bias=False)


class ConvModule(nn.Module):
    """`mmcv.cnn.ConvModule`: convolution, batch norm, activation."""

    def __init__(self, *sizes, act=nn.ReLU, **settings):
        super().__init__()
        self.conv = convolution(*sizes, **settings)
        self.bn = nn.BatchNorm2d(self.conv.out_channels)
        self.activate = act() if act else nn.Identity()

    def forward(self, x):
        return self.activate(self.bn(self.conv(x)))


class Separable(nn.Module):
    """`mmcv.cnn.DepthwiseSeparableConvModule`: batch norm and ReLU behind either half."""

    def __init__(self, inside, outside, rate=1):
        super().__init__()
        self.depthwise_conv = ConvModule(inside, inside, rate=rate, groups=inside)
        self.pointwise_conv = ConvModule(inside, outside, 1)

    def forward(self, x):
        return self.pointwise_conv(self.depthwise_conv(x))


class Unit(nn.Module):
    def __init__(self, inside, planes, stride, rate, bottleneck, downsample):
        super().__init__()
        outside = 4 * planes if bottleneck else planes
        if bottleneck:
            sizes = [(inside, planes, 1), (planes, planes, 3, stride, rate), (planes, outside, 1)]
        else:
            sizes = [(inside, planes, 3, stride, rate), (planes, planes, 3)]
        self.count = len(sizes)
        for n, size in enumerate(sizes, start=1):
            setattr(self, f"conv{n}", convolution(*size))
            setattr(self, f"bn{n}", nn.BatchNorm2d(size[1]))
        self.downsample = downsample

    def forward(self, x):
        y = x
        for n in range(1, self.count + 1):
            y = getattr(self, f"bn{n}")(getattr(self, f"conv{n}")(y))
            if n < self.count:
                y = F.relu(y)
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, depth, variant="v1c", strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), multi_grid=None, base=64):
        super().__init__()
        bottleneck = depth >= 50
        if variant == "":
            self.conv1, self.bn1 = nn.Conv2d(3, base, 7, 2, 3, bias=False), nn.BatchNorm2d(base)
        else:
            parts, half = [], base // 2
            for inside, outside, stride in [(3, half, 2), (half, half, 1), (half, base, 1)]:
                parts += [convolution(inside, outside, 3, stride), nn.BatchNorm2d(outside), nn.ReLU()]
            self.stem = nn.Sequential(*parts)
        inside = base
        for stage, (count, stride, dilation) in enumerate(zip(DEPTHS[depth], strides, dilations, strict=True)):
            planes = base * 2**stage
            outside = 4 * planes if bottleneck else planes
            rates = [dilation // 2 if dilation > 1 else 1] + [dilation] * (count - 1)
            if multi_grid and stage == 3:
                rates = multi_grid
            units = []
            for index in range(count):
                downsample, step = None, stride if index == 0 else 1
                if index == 0 and (stride != 1 or inside != outside):
                    pooled = variant == "v1d"
                    parts = [nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)] * pooled
                    parts.append(nn.Conv2d(inside, outside, 1, 1 if pooled else stride, bias=False))
                    downsample = nn.Sequential(*parts, nn.BatchNorm2d(outside))
                units.append(Unit(inside, planes, step, rates[index], bottleneck, downsample))
                inside = outside
            setattr(self, f"layer{stage + 1}", nn.Sequential(*units))
        self.channels = [base * 2**stage * (4 if bottleneck else 1) for stage in range(4)]

    def forward(self, x):
        x = self.stem(x) if hasattr(self, "stem") else F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, 2, 1)
        outputs = []
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
            outputs.append(x)
        return outputs


class Residual(nn.Module):
    def __init__(self, inside, outside, stride, ratio, rate):
        super().__init__()
        hidden, relu6 = inside * ratio, nn.ReLU6
        parts = [ConvModule(inside, hidden, 1, act=relu6)] if ratio > 1 else []
        parts.append(ConvModule(hidden, hidden, 3, stride, rate, groups=hidden, act=relu6))
        self.conv = nn.Sequential(*parts, ConvModule(hidden, outside, 1, act=None))
        self.added = stride == 1 and inside == outside

    def forward(self, x):
        return x + self.conv(x) if self.added else self.conv(x)


class MobileNetV2(nn.Module):
    TABLE = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))
    channels = (24, 32, 96, 320)

    def __init__(self, strides=(1, 2, 2, 1, 1, 1, 1), dilations=(1, 1, 1, 2, 2, 4, 4)):
        super().__init__()
        self.conv1 = ConvModule(3, 32, 3, 2, act=nn.ReLU6)
        inside = 32
        for stage, (ratio, outside, count) in enumerate(self.TABLE):
            blocks = []
            for index in range(count):
                first = index == 0
                blocks.append(
                    Residual(inside, outside, strides[stage] if first else 1, ratio, dilations[stage] if first else 1)
                )
                inside = outside
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))

    def forward(self, x):
        x, outputs = self.conv1(x), []
        for stage in range(7):
            x = getattr(self, f"layer{stage + 1}")(x)
            if stage in (1, 2, 4, 6):
                outputs.append(x)
        return outputs


class Head(nn.Module):
    """`ASPPHead`, with `low_level` channels `DepthwiseSeparableASPPHead`."""

    def __init__(self, inside, channels, classes, dilations, align_corners, low_level=None, low_level_channels=48):
        super().__init__()
        self.align_corners = align_corners
        self.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvModule(inside, channels, 1))
        self.aspp_modules = nn.ModuleList()
        for rate in dilations:
            if rate > 1 and low_level:
                self.aspp_modules.append(Separable(inside, channels, rate))
            else:
                self.aspp_modules.append(ConvModule(inside, channels, 1 if rate == 1 else 3, rate=rate))
        self.bottleneck = ConvModule((len(dilations) + 1) * channels, channels, 3)
        if low_level:
            self.c1_bottleneck = ConvModule(low_level, low_level_channels, 1)
            self.sep_bottleneck = nn.Sequential(
                Separable(channels + low_level_channels, channels), Separable(channels, channels)
            )
        self.conv_seg = nn.Conv2d(channels, classes, 1)

    def forward(self, inputs):
        x, resize = inputs[-1], {"mode": "bilinear", "align_corners": self.align_corners}
        branches = [F.interpolate(self.image_pool(x), x.shape[2:], **resize)]
        x = self.bottleneck(torch.cat(branches + [branch(x) for branch in self.aspp_modules], 1))
        if hasattr(self, "c1_bottleneck"):
            low = self.c1_bottleneck(inputs[0])
            x = self.sep_bottleneck(torch.cat([F.interpolate(x, low.shape[2:], **resize), low], 1))
        return self.conv_seg(x)


class FCN(nn.Module):
    def __init__(self, inside, channels, classes):
        super().__init__()
        self.convs = nn.Sequential(ConvModule(inside, channels, 3))
        self.conv_seg = nn.Conv2d(channels, classes, 1)

    def forward(self, inputs):
        return self.conv_seg(self.convs(inputs[2]))


class Segmentor(nn.Module):
    """`EncoderDecoder`: images to [logits, auxiliary logits] of their size."""

    def __init__(
        self, backbone, plus, channels=512, classes=5, dilations=(1, 12, 24, 36), align_corners=False, auxiliary=None
    ):
        super().__init__()
        self.backbone, low = backbone, backbone.channels[0] if plus else None
        self.decode_head = Head(backbone.channels[-1], channels, classes, dilations, align_corners, low)
        if auxiliary:
            self.auxiliary_head = FCN(backbone.channels[2], auxiliary, classes)

    def forward(self, x):
        maps, align = self.backbone(x), self.decode_head.align_corners
        heads = [self.decode_head] + ([self.auxiliary_head] if hasattr(self, "auxiliary_head") else [])
        return [F.interpolate(head(maps), x.shape[2:], mode="bilinear", align_corners=align) for head in heads]
