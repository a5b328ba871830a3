from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from tests.tasks.box_targets import LEVELS, SIZE, TARGET, label, levels, part, proposed, seeded
from ubertrain.annotation.boxes import Boxes as BoxesKind
from ubertrain.ops.boxes import area
from ubertrain.tasks.boxes import Boxes
from ubertrain.tasks.fast_rcnn import FastRCNN


def head_of(**keywords: Any) -> tuple[Boxes, FastRCNN]:
    """A task that is given proposals, and its head."""
    task = Boxes(classes=3, proposer="given", **keywords)
    head = task.make_head(LEVELS)
    assert isinstance(head, FastRCNN)
    return task, head


def test_it_has_no_first_stage() -> None:
    """Neither anchors nor anything that learns to propose."""
    assert not [name for name, _ in head_of()[1].named_parameters() if name.startswith("proposals")]


def test_given_boxes_are_judged_and_no_others() -> None:
    """Every detection is one of the given boxes, moved by at most what an untrained network moves; padding is none."""
    _, head = head_of(min_score=0.0)
    given = torch.tensor([[[8.0, 8.0, 40.0, 40.0], [50.0, 20.0, 90.0, 52.0], [0.0, 0.0, 0.0, 0.0]]]).repeat(3, 1, 1)
    found = head.eval()(levels(), given)
    boxes = found["boxes"][found["classes"] >= 0]
    distance = (boxes[:, None] - given[0, :2]).abs().amax(dim=-1)
    assert len(boxes) == 3 * 2 * 3 and (distance.amin(dim=1) < 4).all()


def test_without_given_boxes_a_grid_of_windows_is_judged() -> None:
    """A new image comes without proposals, and is predicted all the same."""
    _, head = head_of(min_score=0.0, scales=(2, 4))
    windows = head._grid(levels(), SIZE)
    assert windows.shape == (3, 2 * 3 * 2 * 3, 4)  # cells, sizes, ratios
    assert (windows >= 0).all() and (windows <= torch.tensor([96, 64, 96, 64])).all() and (area(windows) > 0).all()
    assert (head.eval()(levels())["classes"] >= 0).any()


def test_so_many_proposals_as_asked_for() -> None:
    """The first ones count, as many as `proposals` while learning and `test_proposals` while detecting."""
    _, head = head_of(proposals=4, test_proposals=2, min_score=0.0)
    values, target = levels(), proposed(TARGET)
    found, cut = head.eval()(values, target["proposals"]), head(values, target["proposals"][:, :2])
    for name, answer in found.items():
        assert torch.equal(answer, cut[name])
    torch.manual_seed(0)
    whole = head(values, target=target)
    torch.manual_seed(0)
    assert torch.equal(whole, head(values, target={**target, "proposals": target["proposals"][:, :4]}))


def test_the_loss_is_the_second_stages() -> None:
    """Sampling everything, an image's loss is the same alone, under any seed, as within a batch."""
    task, head = head_of(region_samples=10**6)
    values, target = levels(), proposed(TARGET)
    whole = seeded(task, head, values, target)
    alone = [seeded(task, head, part(values, slice(i, i + 1)), part(target, slice(i, i + 1)), seed=i + 7) for i in range(3)]
    torch.testing.assert_close(whole, torch.cat(alone))


@pytest.mark.parametrize("pool", ["align", "max"])
def test_images_without_proposals_or_objects(pool: Any) -> None:
    """No proposals leave the objects alone to learn from; neither leave a loss of 0 that is connected."""
    task, head = head_of(pool=pool)
    none = torch.zeros(3, 1, 4)
    losses = seeded(task, head, levels(), {**TARGET, "proposals": none})
    assert losses.tolist()[1] == 0 and losses[0] > 0 and losses[2] > 0
    empty = {**BoxesKind.collate([label(), label()]), "proposals": none[:2]}
    losses = seeded(task, head, levels(2), empty)
    losses.sum().backward()
    assert losses.tolist() == [0, 0]
    assert (head.eval()(levels(), none)["classes"] == -1).all()


def test_proposals_in_an_empty_image_are_negatives() -> None:
    """An image without objects teaches that its proposals are background, also where hard negatives alone are asked for."""
    task, head = head_of(background_from=0.1)
    target = proposed(BoxesKind.collate([label(), label()]))
    seeded(task, head, levels(2), target).sum().backward()
    gradient = head.regions.scores.bias.grad
    assert isinstance(gradient, Tensor) and gradient[0] < 0 < gradient[1:].min()


def test_five_hundred_objects() -> None:
    """An image with five hundred objects and two thousand proposals has a finite loss."""
    task, head = head_of(proposals=2000, region_samples=256)
    corner = torch.cartesian_prod(torch.arange(25.0), torch.arange(20.0)) * 3
    many = label(*[((x, y, x + 3, y + 3), i % 3) for i, (x, y) in enumerate(corner.tolist())])
    losses = seeded(task, head, levels(1), proposed(BoxesKind.collate([many]), count=1500))
    assert losses.isfinite().all()


def test_shapes_do_not_depend_on_values() -> None:
    """Losses, their backward and detections, from given boxes and from windows, run on fake tensors."""
    real = proposed(TARGET)
    with FakeTensorMode() as mode:
        task, head = head_of(pool="max")
        values, target = levels(), pytree.tree_map(mode.from_tensor, real)
        losses = task.losses(head, values, target)
        losses.sum().backward()
        assert losses.shape == (3,) and values[0].grad is not None
        assert head.eval()(values, target["proposals"])["boxes"].shape == head(values)["boxes"].shape == (3, 100, 4)
