import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from tests.tasks.box_targets import LEVELS, TARGET, TWO, head_of, label, levels, part, seeded
from ubertrain.annotation.boxes import Boxes as BoxesKind
from ubertrain.tasks.boxes import Boxes


def test_an_empty_image_is_a_negative() -> None:
    """Without objects there is a loss, which pushes scores down, and no gradient for box offsets."""
    task = Boxes(classes=3)
    head = head_of(task)
    seeded(task, head, levels(2), BoxesKind.collate([label(), label()])).sum().backward()
    assert head.proposals.objectness.bias.grad.sum() > 0
    assert head.regions.scores.bias.grad[0] < 0 < head.regions.scores.bias.grad[1:].min()
    assert not head.proposals.deltas.bias.grad.any() and not head.regions.deltas.bias.grad.any()


def test_ignored_boxes_are_neither_objects_nor_background() -> None:
    """Where one ignored box covers everything, an image costs nothing."""
    task = Boxes(classes=3)
    everywhere = BoxesKind.collate([label(((-500.0, -500.0, 500.0, 500.0), 1), ignore=True)] * 2)
    losses = seeded(task, head_of(task), levels(2), everywhere)
    assert losses.tolist() == [0, 0] and losses.requires_grad


def test_an_unknown_class_is_an_error() -> None:
    """A class id equal to the number of classes is not taken for background."""
    task = Boxes(classes=2)
    with pytest.raises(IndexError):
        seeded(task, head_of(task), levels(1), BoxesKind.collate([TWO]))


def test_the_seed_decides() -> None:
    """The same seed gives the same losses bit for bit, another seed other samples."""
    task = Boxes(classes=3, anchor_samples=32)
    head, values = head_of(task), levels()
    assert torch.equal(seeded(task, head, values), seeded(task, head, values))
    assert not torch.equal(seeded(task, head, values), seeded(task, head, values, seed=1))


@pytest.mark.parametrize("agnostic", [True, False])
def test_images_do_not_sway_each_other(agnostic: bool) -> None:
    """Sampling everything, an image's loss is the same alone, under any seed, as within a batch."""
    task = Boxes(classes=3, agnostic=agnostic, anchor_samples=10**6, region_samples=10**6)
    head, values = head_of(task), levels()
    whole = seeded(task, head, values)
    alone = torch.cat(
        [seeded(task, head, part(values, slice(i, i + 1)), part(TARGET, slice(i, i + 1)), seed=i + 7) for i in range(3)]
    )
    torch.testing.assert_close(whole, alone)


def test_parts_of_a_batch_sample_what_the_whole_samples() -> None:
    """Run in two parts one after the other, a batch draws the same samples and has the same losses as in one."""
    task = Boxes(classes=3, anchor_samples=32, region_samples=16)
    head, values = head_of(task), levels()
    whole = seeded(task, head, values)
    torch.manual_seed(0)
    parts = [task.losses(head, part(values, rows), part(TARGET, rows)) for rows in (slice(0, 2), slice(2, 3))]
    torch.testing.assert_close(whole, torch.cat(parts))


def test_no_rows_give_no_losses() -> None:
    """A batch of no images, as a process without labels runs it, gives an empty loss whose backward works."""
    task = Boxes(classes=3)
    losses = seeded(task, head_of(task), part(levels(), slice(0, 0)), part(TARGET, slice(0, 0)))
    assert losses.shape == (0,)
    losses.sum().backward()


def test_shapes_do_not_depend_on_values() -> None:
    """Losses, their backward and detections run on fake tensors."""
    task = Boxes(classes=3, depth=2)
    with FakeTensorMode() as mode:
        head, values = task.make_head(LEVELS), levels()
        losses = task.losses(head, values, pytree.tree_map(mode.from_tensor, TARGET))
        losses.sum().backward()
        assert losses.shape == (3,) and values[0].grad is not None
        assert head.eval()(values)["boxes"].shape == (3, 100, 4)


def test_autocast_keeps_losses_in_full_precision() -> None:
    """Under bfloat16 autocast the losses are float32 and near those without."""
    task = Boxes(classes=3)
    head, values = head_of(task), levels()
    exact = seeded(task, head, values)
    with torch.autocast("cpu", torch.bfloat16):
        rough = seeded(task, head, values)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05)


def test_five_hundred_objects() -> None:
    """An image with five hundred objects has a finite loss, and a gradient."""
    corner = torch.cartesian_prod(torch.arange(25.0), torch.arange(20.0)) * 3
    many = label(*[((x, y, x + 3, y + 3), i % 3) for i, (x, y) in enumerate(corner.tolist())])
    task, values = Boxes(classes=3), levels(1)
    losses = seeded(task, head_of(task), values, BoxesKind.collate([many]))
    losses.sum().backward()
    assert losses.isfinite().all() and values[0].grad is not None and values[0].grad.isfinite().all()


@pytest.mark.parametrize("box", [(20.0, 20.0, 20.0, 20.0), (20.0, 10.0, 20.0, 40.0)])
def test_objects_without_an_area(box: tuple[float, ...]) -> None:
    """No reader lets one through; should one come all the same, the loss is finite."""
    task, values = Boxes(classes=3), levels(2)
    losses = seeded(task, head_of(task), values, BoxesKind.collate([label((box, 1)), TWO]))
    losses.sum().backward()
    assert losses.isfinite().all() and all(value.grad is not None and value.grad.isfinite().all() for value in values)


def test_a_diverged_trunk_shows_in_the_loss() -> None:
    """Levels that are no numbers make the loss of their image none, and of no other."""
    task, values = Boxes(classes=3, pool="max", context=False), [level.detach() for level in levels()]
    for value in values:
        value[1] = torch.nan
    assert seeded(task, head_of(task), values).isnan().tolist() == [False, True, False]
