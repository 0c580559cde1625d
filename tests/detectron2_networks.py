"""Detectron2's DeepLabs as small PyTorch modules of its names, after the rules of its published code.

Written for these tests. The rules: `build_resnet_deeplab_backbone` (dilations of a stage from its first unit on, times
RES5_MULTI_GRID, the stride in the 1x1 or the 3x3 convolution), `ASPP` (no batch norm behind the pooling, whose window
may be given), `DeepLabV3PlusHead` (the finer map in front), logits scaled by their stride and cut to the image's size.
"""

import torch
from mmsegmentation_networks import DEPTHS
from torch import nn
from torch.nn import functional as F


class Conv(nn.Conv2d):
    """`detectron2.layers.Conv2d`: the batch norm and the activation are inside."""

    def __init__(self, inside, outside, kernel=1, stride=1, rate=1, act=True, norm=True):
        super().__init__(inside, outside, kernel, stride, rate * (kernel // 2), rate, bias=not norm)
        self.norm, self.act = nn.BatchNorm2d(outside) if norm else None, act

    def forward(self, x):
        x = super().forward(x)
        x = x if self.norm is None else self.norm(x)
        return F.relu(x) if self.act else x


class Unit(nn.Module):
    def __init__(self, inside, inner, outside, stride, rate, stride_in_1x1):
        super().__init__()
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1, self.conv2 = Conv(inside, inner, 1, first), Conv(inner, inner, 3, second, rate)
        self.conv3 = Conv(inner, outside, act=False)
        self.shortcut = Conv(inside, outside, 1, stride, act=False) if inside != outside else None

    def forward(self, x):
        y = self.conv3(self.conv2(self.conv1(x)))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nn.Module):
    def __init__(self, depth, deep=True, multi_grid=(1, 2, 4), dilations=(1, 2), stride_in_1x1=False):
        super().__init__()
        self.stem = nn.Module()
        if deep:
            self.stem.conv1, self.stem.conv2, self.stem.conv3 = Conv(3, 64, 3, 2), Conv(64, 64, 3), Conv(64, 128, 3)
        else:
            self.stem.conv1 = Conv(3, 64, 7, 2)
        inside = 128 if deep else 64
        for stage, count in enumerate(DEPTHS[depth]):
            dilation = {2: dilations[0], 3: dilations[1]}.get(stage, 1)
            inner, units = 64 * 2**stage, []
            for index in range(count):
                stride = 2 if index == 0 and stage and dilation == 1 else 1
                rate = dilation * (multi_grid[index] if stage == 3 else 1)
                units.append(Unit(inside, inner, 4 * inner, stride, rate, stride_in_1x1))
                inside = 4 * inner
            setattr(self, f"res{stage + 2}", nn.Sequential(*units))

    def forward(self, x):
        for convolution in self.stem.children():
            x = convolution(x)
        x = F.max_pool2d(x, 3, 2, 1)
        outputs = []
        for stage in range(2, 6):
            x = getattr(self, f"res{stage}")(x)
            outputs.append(x)
        return outputs


class ASPP(nn.Module):
    def __init__(self, inside, channels, dilations, window):
        super().__init__()
        self.convs = nn.ModuleList([Conv(inside, channels)] + [Conv(inside, channels, 3, 1, d) for d in dilations])
        pool = nn.AvgPool2d(window, 1) if window else nn.AdaptiveAvgPool2d(1)
        self.convs.append(nn.Sequential(pool, Conv(inside, channels, norm=False)))
        self.project = Conv(5 * channels, channels)

    def forward(self, x):
        branches = [convolution(x) for convolution in self.convs]
        branches[-1] = F.interpolate(branches[-1], x.shape[2:], mode="bilinear", align_corners=False)
        return self.project(torch.cat(branches, 1))


class V3Head(nn.Module):
    def __init__(self, channels, classes, dilations, window):
        super().__init__()
        self.aspp, self.predictor = ASPP(2048, channels, dilations, window), nn.Conv2d(channels, classes, 1)

    def forward(self, maps):
        return F.interpolate(self.predictor(self.aspp(maps[-1])), scale_factor=16, mode="bilinear")


class V3PlusHead(nn.Module):
    def __init__(self, channels, classes, dilations, window):
        super().__init__()
        fine = nn.ModuleDict({"project_conv": Conv(256, 48)})
        fine["fuse_conv"] = nn.Sequential(Conv(48 + channels, channels, 3), Conv(channels, channels, 3))
        coarse = nn.ModuleDict({"project_conv": ASPP(2048, channels, dilations, window)})
        self.decoder = nn.ModuleDict({"res2": fine, "res5": coarse})
        self.predictor = nn.Conv2d(channels, classes, 1)

    def forward(self, maps):
        x, low = self.decoder["res5"]["project_conv"](maps[-1]), self.decoder["res2"]["project_conv"](maps[0])
        x = torch.cat([low, F.interpolate(x, low.shape[2:], mode="bilinear", align_corners=False)], 1)
        return F.interpolate(self.predictor(self.decoder["res2"]["fuse_conv"](x)), scale_factor=4, mode="bilinear")


class Segmentor(nn.Module):
    """`SemanticSegmentor`, from normalised images to logits of their size."""

    def __init__(self, backbone, plus, channels=256, classes=5, dilations=(6, 12, 18), window=None):
        super().__init__()
        self.backbone = backbone
        self.sem_seg_head = (V3PlusHead if plus else V3Head)(channels, classes, dilations, window)

    def forward(self, x):
        return self.sem_seg_head(self.backbone(x))[:, :, : x.shape[2], : x.shape[3]]
