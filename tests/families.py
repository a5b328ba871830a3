"""Small networks in the styles of the families users bring, for `split`: each with images for it and modules to tap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ubertrain.trunks.efficientnet_lite import EfficientNetLite0
from ubertrain.trunks.resnet import ResNet18, ResNet50
from ubertrain.trunks.vgg import VGG16


def conv_bn(inside: int, out: int, size: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution without bias, and its norm."""
    conv = nn.Conv2d(inside, out, size, stride=stride, padding=size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out)]


class Basic(nn.Module):
    """torchvision's basic block."""

    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(inside, out, stride=stride)
        self.conv2, self.bn2 = conv_bn(out, out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential(*conv_bn(inside, out, 1, stride)) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class Bottleneck(Basic):
    """torchvision's bottleneck."""

    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__(inside, out, stride)
        self.conv3, self.bn3 = conv_bn(out, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet(nn.Module):
    """Stem, two layers of two blocks, classifier."""

    def __init__(self, block: type[Basic]) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(3, 4, 7, 2)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(block(4, 4, 1), block(4, 4, 1))
        self.layer2 = nn.Sequential(block(4, 6, 2), block(6, 6, 1))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer2(self.layer1(x))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class DenseLayer(nn.Module):
    """Norm, ReLU in place, convolution; dropout by a function, as in torchvision."""

    def __init__(self, inside: int, drop: float) -> None:
        super().__init__()
        self.norm1, self.relu1 = nn.BatchNorm2d(inside), nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(inside, 4, 3, padding=1, bias=False)
        self.drop = drop

    def forward(self, features: list[Tensor]) -> Tensor:
        out = self.conv1(self.relu1(self.norm1(torch.cat(features, 1))))
        return F.dropout(out, self.drop, self.training) if self.drop else out


class DenseNet(nn.Module):
    """Two blocks in each of which every layer reads all before it."""

    def __init__(self, drop: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn(3, 4), nn.ReLU(inplace=True))
        self.block1 = nn.ModuleDict({f"layer{i}": DenseLayer(4 + 4 * i, drop) for i in range(3)})
        self.transition = nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(True), nn.Conv2d(16, 4, 1), nn.AvgPool2d(2))
        self.block2 = nn.ModuleDict({f"layer{i}": DenseLayer(4 + 4 * i, drop) for i in range(2)})
        self.norm, self.classifier = nn.BatchNorm2d(12), nn.Linear(12, 5)

    def dense(self, block: nn.ModuleDict, x: Tensor) -> Tensor:
        features = [x]
        for layer in block.values():
            features.append(layer(features))
        return torch.cat(features, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.transition(self.dense(self.block1, self.stem(x)))
        x = F.relu(self.norm(self.dense(self.block2, x)), inplace=True)
        return self.classifier(F.adaptive_avg_pool2d(x, (1, 1)).flatten(1))


class DropPath(nn.Module):
    """timm's stochastic depth: nothing at all in eval mode."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = x.new_empty((x.shape[0],) + (1,) * 2).bernoulli_(0.7)
        return x * kept.div_(0.7)


class Attention(nn.Module):
    """timm's attention, with its products written out or fused."""

    def __init__(self, dim: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused, self.scale = heads, fused, (dim // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.attn_drop, self.proj_drop = nn.Dropout(0.1), nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape[0], x.shape[1], x.shape[2]
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        if self.fused:
            x = F.scaled_dot_product_attention(q, k, v)
        else:
            x = self.attn_drop((q * self.scale @ k.transpose(-2, -1)).softmax(dim=-1)) @ v
        return self.proj_drop(self.proj(x.transpose(1, 2).reshape(batch, tokens, dim)))


class Packed(nn.Module):
    """torch's attention, which returns a tuple."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(dim, heads, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=False)[0]


class Block(nn.Module):
    """A transformer's block, norms first."""

    def __init__(self, dim: int, attention: nn.Module) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn, self.drop_path = attention, DropPath()
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ViT(nn.Module):
    """Patches, a class token, positions, blocks, norm, classifier."""

    def __init__(self, attention: Callable[[], nn.Module], depth: int = 3, dim: int = 8) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, 8, stride=8)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, 17, dim))
        self.blocks = nn.Sequential(*(Block(dim, attention()) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


class UNet(nn.Module):
    """Two levels, skips by concatenation, output at the size of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.middle = (self.unit(a, b) for a, b in ((3, 4), (4, 6), (6, 6)))
        self.pool = nn.MaxPool2d(2)
        self.up2, self.up1 = nn.ConvTranspose2d(6, 6, 2, stride=2), nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.merge2, self.merge1, self.last = self.unit(12, 4), self.unit(8, 4), nn.Conv2d(4, 2, 1)

    def unit(self, inside: int, out: int) -> nn.Sequential:
        return nn.Sequential(*conv_bn(inside, out), nn.ReLU(True), *conv_bn(out, out), nn.ReLU(True))

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        one = self.down1(F.avg_pool2d(x, 2))
        two = self.down2(self.pool(one))
        x = self.middle(self.pool(two))
        x = self.merge2(torch.cat([self.up2(x), two], dim=1))
        x = self.merge1(torch.cat([self.up1(x), one], dim=1))
        return F.interpolate(self.last(x), size, mode="bilinear", align_corners=False)


class Inception(nn.Module):
    """Parallel branches, concatenated, in a chain of three."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn(3, 4, stride=2), nn.ReLU(True))
        self.mixed = nn.ModuleList(Mixed(4 if i == 0 else 8) for i in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for mixed in self.mixed:
            x = mixed(x)
        return x


class Mixed(nn.Module):
    """1x1, 3x3, pool branches."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.one = nn.Sequential(*conv_bn(inside, 3, 1))
        self.three = nn.Sequential(*conv_bn(inside, 2, 1), nn.ReLU(True), *conv_bn(2, 3))
        self.pooled = nn.Conv2d(inside, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pooled(F.avg_pool2d(x, kernel_size=3, stride=1, padding=1))
        return F.relu_(torch.cat([self.one(x), self.three(x), pooled], 1))


class SqueezeExcite(nn.Module):
    """Channel weights from the mean of each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.act, self.expand = nn.Conv2d(channels, 2, 1), nn.SiLU(inplace=True), nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.expand(self.act(self.reduce(x.mean((2, 3), keepdim=True)))))


class MBConv(nn.Module):
    """Expansion, depthwise convolution, squeeze and excitation, projection."""

    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv_pw, self.bn1 = conv_bn(inside, 2 * inside, 1)
        self.conv_dw, self.bn2 = conv_bn(2 * inside, 2 * inside, 3, stride, groups=2 * inside)
        self.act, self.se = nn.SiLU(inplace=True), SqueezeExcite(2 * inside)
        self.conv_pwl, self.bn3 = conv_bn(2 * inside, out, 1)
        self.skips = stride == 1 and inside == out

    def forward(self, x: Tensor) -> Tensor:
        out = self.act(self.bn1(self.conv_pw(x)))
        out = self.se(self.act(self.bn2(self.conv_dw(out))))
        out = self.bn3(self.conv_pwl(out))
        return out + x if self.skips else out


class EfficientNet(nn.Module):
    """Stem and stages of MBConv blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem, self.bn1 = conv_bn(3, 4, stride=2)
        self.blocks = nn.Sequential(
            nn.Sequential(MBConv(4, 4, 1)), nn.Sequential(MBConv(4, 6, 2), MBConv(6, 6, 1), MBConv(6, 6, 1))
        )
        self.classifier = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.silu(self.bn1(self.conv_stem(x)), inplace=True))
        return self.classifier(x.mean((2, 3)))


class Odd(nn.Module):
    """Layers used twice, a constant made on the way, a buffer, a list, a size, an in-place chain without norm, two results."""

    centre: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.linspace(0, 1, 3)[:, None, None], persistent=False)
        self.enter, self.shared, self.act = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(True)
        self.split, self.norm = nn.Conv2d(4, 8, 1), nn.GroupNorm(2, 4)
        self.layers = [self.shared, self.norm]

    def forward(self, x: Tensor) -> dict[str, Any]:
        batch = x.size(0)
        x = self.act(self.enter((x - self.centre) * torch.tensor(1.5)))
        for layer in self.layers:
            x = layer(x)
        x = x.clamp_(-2, 2)
        x = self.shared(x)
        y = x.view(batch, 4, -1)
        y *= 0.5
        left, right = self.split(x).chunk(2, dim=1)
        return {"sum": left.tanh() + right, "rest": (x, y.mean(-1))}


class Asserts(nn.Module):
    """Checks its input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 3, "colours"
        assert x.ndim == 4
        return self.conv(x)


FAMILIES: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "resnet_basic": (lambda: ResNet(Basic), ("layer1", "layer2.1")),
    "resnet_bottleneck": (lambda: ResNet(Bottleneck), ("relu", "layer2.1.conv2", "layer2")),
    "densenet": (DenseNet, ("stem", "block1.layer1", "block2.layer1")),
    "densenet_dropout": (lambda: DenseNet(0.2), ("transition", "norm")),
    "vit": (lambda: ViT(lambda: Attention(8, 2, False)), ("blocks.0", "blocks.2")),
    "vit_fused": (lambda: ViT(lambda: Attention(8, 2, True)), ("blocks.1.attn", "norm")),
    "vit_packed": (lambda: ViT(lambda: Packed(8, 2)), ("blocks.1", "blocks")),
    "unet": (UNet, ("down2", "merge2", "merge1")),
    "inception": (Inception, ("stem", "mixed.0.three", "mixed")),
    "efficientnet": (EfficientNet, ("blocks.0", "blocks.1.0.se", "blocks")),
    "odd": (Odd, ("act", "split")),
    "own_resnet18": (lambda: ResNet18(width=0.125), ("layer1", "layer4")),
    "own_resnet50_frozen": (lambda: ResNet50(width=0.125, frozen=["stem", "res2"]), ("layer2", "layer3.5")),
    "own_vgg16": (lambda: VGG16(batch_norm=True, width=0.125), ("features.5", "features.42")),
    "own_efficientnet": (EfficientNetLite0, ("_blocks.2", "_blocks.6")),
}
"""Name -> (what builds it, modules to tap in order of execution)."""


def images() -> Tensor:
    """A batch that suits all of them."""
    return torch.randn(2, 3, 32, 32)


def between(middle: nn.Module) -> nn.Sequential:
    """A module between two convolutions."""
    torch.manual_seed(7)
    return nn.Sequential(nn.Conv2d(3, 3, 1), middle, nn.Conv2d(3, 3, 1))


def two_steps(net: nn.Module, run: Callable[[Tensor], Tensor], training: bool) -> list[Tensor | None]:
    """Outputs and gradients of two steps of `run`, and the buffers and random numbers after them."""
    torch.manual_seed(1)
    x = torch.rand(2, 3, 4, 4)
    net.train(training)
    found: list[Tensor | None] = []
    for _ in range(2):
        net.zero_grad()
        output = run(x)
        output.sum().backward()
        found += [output, *(p.grad for p in net.parameters())]
    return [*found, *net.buffers(), torch.rand(1)]
