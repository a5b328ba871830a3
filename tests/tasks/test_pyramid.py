import torch
from torch import Tensor

from tests.tasks.box_targets import LEVELS, levels
from ubertrain.tasks.pyramid import OneLevel, Pyramid


def shapes(values: list[Tensor]) -> list[tuple[int, ...]]:
    """The shapes of some levels."""
    return [tuple(value.shape) for value in values]


def test_levels_have_one_width_and_the_strides_it_says() -> None:
    """As many levels as asked for, finest first; one more than there are taps has half the coarsest one's sides."""
    for depth in range(1, 5):
        pyramid = Pyramid(LEVELS, 16, depth)
        made = pyramid(levels())
        assert pyramid.strides == [8, 16, 32, 64][:depth]
        sides = [(8, 12), (4, 6), (2, 3), (1, 2)]
        assert shapes(made) == [(3, 16, *side) for side in sides[:depth]]


def test_the_extra_level_is_every_second_cell_of_the_coarsest() -> None:
    """As the paper's P6."""
    made = Pyramid(LEVELS, 16, 4)(levels())
    assert torch.equal(made[3], made[2][..., ::2, ::2])


def test_the_finest_level_sees_all_taps() -> None:
    """The coarser taps are added into the finer levels, and not the other way round."""
    values, pyramid = levels(), Pyramid(LEVELS, 16, 3)
    made = pyramid(values)
    for place, value in enumerate(made):
        reached = torch.autograd.grad(value.sum(), values, retain_graph=True, allow_unused=True)
        assert [gradient is not None for gradient in reached] == [tap >= place for tap in range(3)]


def test_images_and_magnitudes_do_not_matter() -> None:
    """An image gives the same levels alone, and a tap that is a thousand times as large gives the same levels nearly."""
    values, pyramid = [level.detach() for level in levels()], Pyramid(LEVELS, 16, 1)
    whole = pyramid(values)[0]
    torch.testing.assert_close(pyramid([level[1:2] for level in values])[0], whole[1:2])
    torch.testing.assert_close(pyramid([values[0] * 1000, *values[1:]])[0], whole, atol=1e-3, rtol=1e-3)


def test_one_level_is_the_tap_itself() -> None:
    """Nothing is made of it, and it has no parameters."""
    value, raw = levels()[1], OneLevel(LEVELS[1])
    assert raw([value])[0] is value and not list(raw.parameters())
    assert (raw.channels, raw.strides) == (LEVELS[1].channels, [LEVELS[1].stride])
