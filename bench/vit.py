"""ViT-B/16 (Dosovitskiy et al. 2021) in torch's own pieces, cut into one stage per block, without a class token."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH, WIDTH, HEADS, DEPTH = 16, 768, 12, 12


class Patches(nn.Module):
    """(batch, 3, side, side) -> (batch, (side / 16)^2, 768) tokens with their learned positions."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.position = nn.Parameter(torch.randn(1, (side // PATCH) ** 2, WIDTH) * 0.02)

    def forward(self, images: Tensor) -> Tensor:
        return self.embed(images).flatten(2).transpose(1, 2) + self.position


class Block(nn.Module):
    """Pre-norm attention and perceptron, (batch, tokens, 768) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))

    def attention(self, tokens: Tensor) -> Tensor:
        """Attention of every token to every other of its image."""
        query, key, value = self.qkv(tokens).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class TokenHead(nn.Module):
    """Scores the tokens of several levels, adds the scores up as a map, and enlarges it to the input."""

    def __init__(self, width: int, levels: int, channels: int) -> None:
        super().__init__()
        self.score = nn.ModuleList(nn.Linear(width, channels) for _ in range(levels))

    def forward(self, levels: list[Tensor]) -> Tensor:
        """(rows, channels, height, width) of square images."""
        scores = sum(score(level) for score, level in zip(self.score, levels, strict=True)).transpose(1, 2)
        grid = scores.unflatten(2, (math.isqrt(scores.shape[2]), -1))
        return F.interpolate(grid, scale_factor=PATCH, mode="bilinear", align_corners=False)


def blocks_of_vit_b16(side: int) -> tuple[dict[str, nn.Module], int]:
    """The stages "patches", "block1", ..., "block12", "norm", and the width of their tokens.

    Raises:
        ValueError: the patches do not divide `side`.
    """
    if side % PATCH:
        raise ValueError(f"ViT-B/16 needs a side that {PATCH} divides, got {side}")
    blocks = {f"block{i}": Block() for i in range(1, DEPTH + 1)}
    return {"patches": Patches(side), **blocks, "norm": nn.LayerNorm(WIDTH)}, WIDTH
