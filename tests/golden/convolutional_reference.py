"""The published architectures in plain torch.nn, with torchvision's names; imported where torch is.

Written after the papers and the layer tables of torchvision, lpips, stlpips_pytorch and
pytorch-fid, apart from the modules that they check. On random weights each equals its original
to the bit: torchvision 0.29.2, lpips 0.1.4, stlpips-pytorch 0.0.2, pytorch-fid 0.3.0.
"""

import torch
import torch.nn.functional as F
from torch import nn


def scaled(x):
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
    return (x - shift) / scale


class Tapped(nn.Module):
    """A sequence, whose outputs at `taps` come back."""

    def __init__(self, layers, taps):
        super().__init__()
        self.features, self.taps = nn.Sequential(*layers), taps

    def forward(self, x):
        x, outputs = scaled(x), []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                outputs.append(x)
        return outputs


def alex():
    layers = [
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    ]
    return Tapped(layers, (1, 4, 7, 9, 11))


def vgg():
    layers, taps, width = [], [], 3
    for stage in ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3):
        for channels in stage:
            layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU()]
            width = channels
        taps.append(len(layers) - 1)
        layers.append(nn.MaxPool2d(2, 2))
    return Tapped(layers, taps)


class Fire(nn.Module):
    def __init__(self, width, squeeze, expand):
        super().__init__()
        self.squeeze = nn.Conv2d(width, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x):
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], 1)


def squeeze():
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    layers = [
        *(nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool, Fire(64, 16, 64), Fire(128, 16, 64), pool),
        *(Fire(128, 32, 128), Fire(256, 32, 128), pool),
        *(Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)),
    ]
    return Tapped(layers, (1, 4, 7, 9, 10, 11, 12))


class Blur(nn.Module):
    def forward(self, x):
        line = torch.tensor([1.0, 2.0, 1.0])
        kernel = (line[:, None] * line[None] / 16).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, None, 2, groups=x.shape[1])


def st_alex():
    layers = [
        *(nn.Conv2d(3, 64, 11, padding=2), Blur(), nn.ReLU(), nn.MaxPool2d(3, 1), Blur()),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 1), Blur()),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    ]
    return Tapped(layers, (2, 6, 10, 12, 14))


class Distance(nn.Module):
    """LPIPS; the heads are 1x1 convolutions `lin0.model.1`, after a dropout that does nothing."""

    def __init__(self, net, channels):
        super().__init__()
        self.net, self.count = net, len(channels)
        for i, c in enumerate(channels):
            head = nn.Module()
            head.model = nn.Sequential(nn.Dropout(), nn.Conv2d(c, 1, 1, bias=False))
            setattr(self, f"lin{i}", head)

    def forward(self, x, y):
        total = 0
        for i, (a, b) in enumerate(zip(self.net(x), self.net(y))):
            a, b = (v / (v.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for v in (a, b))
            total = total + getattr(self, f"lin{i}").model((a - b) ** 2).mean((1, 2, 3))
        return total


class Basic(nn.Module):
    def __init__(self, width, channels, size, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(width, channels, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=1e-3)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Branches(nn.Module):
    """A block from a table of (name, input or None, channels, size, stride, padding).

    An input of None is the block's. The outputs that no other takes are joined in order, and
    after them the pooled branch: "mean" or "max" and a 1x1 convolution, or "half" alone.
    """

    def __init__(self, width, table, pool, pool_features=0):
        super().__init__()
        self.table, self.pool = table, pool
        widths = {None: width}
        for name, source, channels, *kind in table:
            setattr(self, name, Basic(widths[source], channels, *kind))
            widths[name] = channels
        if pool != "half":
            self.branch_pool = Basic(width, pool_features, 1)

    def forward(self, x):
        outputs, used = {None: x}, {row[1] for row in self.table}
        for name, source, *_ in self.table:
            outputs[name] = getattr(self, name)(outputs[source])
        if self.pool == "half":
            pooled = F.max_pool2d(x, 3, 2)
        elif self.pool == "max":
            pooled = self.branch_pool(F.max_pool2d(x, 3, 1, 1))
        else:
            pooled = self.branch_pool(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))
        ends = [outputs[row[0]] for row in self.table if row[0] not in used]
        return torch.cat([*ends, pooled], 1)


def block_a(width, pool_features):
    table = [
        ("branch1x1", None, 64, 1),
        ("branch5x5_1", None, 48, 1),
        ("branch5x5_2", "branch5x5_1", 64, 5, 1, 2),
        ("branch3x3dbl_1", None, 64, 1),
        ("branch3x3dbl_2", "branch3x3dbl_1", 96, 3, 1, 1),
        ("branch3x3dbl_3", "branch3x3dbl_2", 96, 3, 1, 1),
    ]
    return Branches(width, table, "mean", pool_features)


def block_b(width):
    table = [
        ("branch3x3", None, 384, 3, 2),
        ("branch3x3dbl_1", None, 64, 1),
        ("branch3x3dbl_2", "branch3x3dbl_1", 96, 3, 1, 1),
        ("branch3x3dbl_3", "branch3x3dbl_2", 96, 3, 2),
    ]
    return Branches(width, table, "half")


def block_c(c):
    row, column = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
    table = [
        ("branch1x1", None, 192, 1),
        ("branch7x7_1", None, c, 1),
        ("branch7x7_2", "branch7x7_1", c, *row),
        ("branch7x7_3", "branch7x7_2", 192, *column),
        ("branch7x7dbl_1", None, c, 1),
        ("branch7x7dbl_2", "branch7x7dbl_1", c, *column),
        ("branch7x7dbl_3", "branch7x7dbl_2", c, *row),
        ("branch7x7dbl_4", "branch7x7dbl_3", c, *column),
        ("branch7x7dbl_5", "branch7x7dbl_4", 192, *row),
    ]
    return Branches(768, table, "mean", 192)


def block_d():
    table = [
        ("branch3x3_1", None, 192, 1),
        ("branch3x3_2", "branch3x3_1", 320, 3, 2),
        ("branch7x7x3_1", None, 192, 1),
        ("branch7x7x3_2", "branch7x7x3_1", 192, (1, 7), 1, (0, 3)),
        ("branch7x7x3_3", "branch7x7x3_2", 192, (7, 1), 1, (3, 0)),
        ("branch7x7x3_4", "branch7x7x3_3", 192, 3, 2),
    ]
    return Branches(768, table, "half")


def block_e(width, pool):
    row, column = ((1, 3), 1, (0, 1)), ((3, 1), 1, (1, 0))
    table = [
        ("branch1x1", None, 320, 1),
        ("branch3x3_1", None, 384, 1),
        ("branch3x3_2a", "branch3x3_1", 384, *row),
        ("branch3x3_2b", "branch3x3_1", 384, *column),
        ("branch3x3dbl_1", None, 448, 1),
        ("branch3x3dbl_2", "branch3x3dbl_1", 384, 3, 1, 1),
        ("branch3x3dbl_3a", "branch3x3dbl_2", 384, *row),
        ("branch3x3dbl_3b", "branch3x3dbl_2", 384, *column),
    ]
    return Branches(width, table, pool, 192)


class Inception(nn.Module):
    """FID's: returns the four taps of pytorch-fid and the logits."""

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = Basic(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = Basic(32, 32, 3)
        self.Conv2d_2b_3x3 = Basic(32, 64, 3, 1, 1)
        self.Conv2d_3b_1x1 = Basic(64, 80, 1)
        self.Conv2d_4a_3x3 = Basic(80, 192, 3)
        for name, block in (
            ("5b", block_a(192, 32)),
            ("5c", block_a(256, 64)),
            ("5d", block_a(288, 64)),
            ("6a", block_b(288)),
            ("6b", block_c(128)),
            ("6c", block_c(160)),
            ("6d", block_c(160)),
            ("6e", block_c(192)),
            ("7a", block_d()),
            ("7b", block_e(1280, "mean")),
            ("7c", block_e(2048, "max")),
        ):
            setattr(self, f"Mixed_{name}", block)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x):
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        pool1 = x = F.max_pool2d(x, 3, 2)
        pool2 = x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, 2)
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e"):
            x = getattr(self, f"Mixed_{name}")(x)
        mixed6 = x
        pooled = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))
        return [pool1, pool2, mixed6, pooled, self.fc(pooled)]


def norm_relu6(width, channels, size, stride=1, groups=1):
    conv = nn.Conv2d(width, channels, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU6())


class Inverted(nn.Module):
    def __init__(self, width, channels, stride, expansion):
        super().__init__()
        wide = width * expansion
        layers = [] if expansion == 1 else [norm_relu6(width, wide, 1)]
        layers += [norm_relu6(wide, wide, 3, stride, wide)]
        layers += [nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels)]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and width == channels

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNet(nn.Module):
    """Returns the stem's map, each stage's, the last map, the pooled features and the logits."""

    def __init__(self, channels=(32, 16, 24, 32, 64, 96, 160, 320, 1280)):
        super().__init__()
        stem, *stages, last = channels
        layers, self.taps, width = [norm_relu6(3, stem, 3, 2)], [0], stem
        kinds = ((1, 1, 1), (6, 2, 2), (6, 3, 2), (6, 4, 2), (6, 3, 1), (6, 3, 2), (6, 1, 1))
        for features, (expansion, blocks, stride) in zip(stages, kinds):
            for i in range(blocks):
                layers.append(Inverted(width, features, stride if i == 0 else 1, expansion))
                width = features
            self.taps.append(len(layers) - 1)
        self.taps.append(len(layers))
        self.features = nn.Sequential(*layers, norm_relu6(width, last, 1))
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(last, 1000))

    def forward(self, x):
        mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
        x, outputs = ((x + 1) / 2 - mean) / std, []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                outputs.append(x)
        pooled = x.mean((2, 3))
        return [*outputs, pooled, self.classifier(pooled)]
