"""Normals as probabilities of codewords: the head and the loss of triangular coding."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ubertrain.engine.level import Level
from ubertrain.errors import StateError
from ubertrain.ops.triangular_code import TriangularCode
from ubertrain.tasks.fusion import Fusion, FusionHead

_FACING = (0.0, 0.0, -1.0)
_DOUBT = 0.1
"""The share of a new head's probability that is spread over all codewords."""


class CodedNormalsHead(FusionHead):
    """Levels -> (rows, 3, height, width) unit vectors; in training mode (rows, codewords, height, width) logits.

    A new head says that everything faces the viewer. The codewords are saved with its weights, which mean nothing without.

    Raises:
        StateError: when weights are loaded that were trained with other codewords.
    """

    codewords: Tensor

    def __init__(self, levels: Sequence[Level], code: TriangularCode, *, width: int, fusion: Fusion) -> None:
        super().__init__(levels, len(code.words), width=width, fusion=fusion, start=_facing(code), answer=self._decoded)
        self.code = code
        self.register_buffer("codewords", torch.tensor(code.words, dtype=torch.float32))
        self.register_load_state_dict_pre_hook(_expect_same_codewords)

    def _decoded(self, scores: Tensor) -> Tensor:
        return self.code.decode(scores.softmax(dim=1))


def codeword_loss(code: TriangularCode, logits: Tensor, target: Tensor, *, hard: bool) -> Tensor:
    """How surprised the probabilities of the codewords are by the true normals, (rows, height, width) nats.

    Args:
        code: of the codewords.
        logits: (rows, codewords, height, width).
        target: (rows, 3, height, width) unit vectors; elsewhere the result means nothing.
        hard: -ln p of the codeword with the largest weight; else the Kullback-Leibler divergence of p from the three weights,
            which is their cross-entropy less what no p can do without.
    """
    words, weights = code.encode(target.to(logits.dtype))
    surprise = logits.logsumexp(dim=1, keepdim=True) - logits.gather(1, words)  # of each of the three
    if hard:
        return surprise.gather(1, weights.argmax(dim=1, keepdim=True))[:, 0]
    return (weights * surprise + torch.xlogy(weights, weights)).sum(dim=1)


def _facing(code: TriangularCode) -> Sequence[float]:
    """Logits of the code of a surface that faces the viewer, with some doubt."""
    words, weights = code.encode(torch.tensor(_FACING).view(1, 3, 1, 1))
    shares = torch.full((len(code.words),), _DOUBT / len(code.words))
    return shares.scatter_add(0, words.flatten(), (1 - _DOUBT) * weights.flatten()).log().tolist()


def _expect_same_codewords(head: nn.Module, state: Mapping[str, Any], prefix: str, *_: object) -> None:
    loaded, own = state.get(f"{prefix}codewords"), head.get_buffer("codewords")
    if not isinstance(loaded, Tensor) or loaded.is_meta or own.is_meta:
        return  # missing, which torch says itself, or nothing to compare
    if loaded.shape != own.shape or not torch.allclose(loaded.to(own), own, atol=1e-5):
        raise StateError(
            f"the weights {prefix.rstrip('.')!r} were trained with other codewords ({len(loaded)}) than this task has "
            f"({len(own)}); give it the codebook of that run"
        )
