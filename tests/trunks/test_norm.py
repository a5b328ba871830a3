"""The normalisations a trunk can be built with."""

import pytest
import torch
from torch import nn

from ubertrain.trunks.norm import FrozenBatchNorm, make_norm


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (48, 16), (8, 8), (7, 1)])
def test_groups_divide_the_channels(channels: int, groups: int) -> None:
    """Group norm has 32 groups where they divide the channels, else as many as do."""
    norm = make_norm("group", channels)
    assert isinstance(norm, nn.GroupNorm) and norm.num_groups == groups


def test_frozen_norm_against_eval_mode() -> None:
    """In training mode a frozen norm gives what a batch norm of the same state gives in eval mode, and moves no statistics."""
    plain, frozen, value = nn.BatchNorm2d(4), FrozenBatchNorm(4), torch.rand(2, 4, 5, 5)
    plain(value)
    frozen.load_state_dict(plain.state_dict())
    nn.Sequential(frozen).train()
    assert torch.equal(frozen(value), plain.eval()(value))
    assert all(torch.equal(a, b) for a, b in zip(frozen.buffers(), plain.buffers(), strict=True))
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
