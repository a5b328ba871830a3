import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from ubertrain.annotation.boxes import Boxes as BoxesKind
from ubertrain.engine.branch import Branch
from ubertrain.engine.engine import Engine
from ubertrain.engine.graph import Graph
from ubertrain.engine.level import Level
from ubertrain.engine.meter import LiveBytes
from ubertrain.errors import ConfigError, TaskError
from ubertrain.measuring.rehearse import rehearse
from ubertrain.ops.anchors import anchors
from ubertrain.ops.assign import Truth, assign
from ubertrain.ops.boxes import area, encode, iou
from ubertrain.planning.keep_all import keep_all
from ubertrain.planning.schedule import Schedule
from ubertrain.tasks.boxes import Boxes, FasterRCNN, Proposals, Views
from ubertrain.testing import check_task

LEVELS = [Level(8, 8), Level(12, 16), Level(16, 32)]
SIZE = (64, 96)


def label(*rows: tuple[tuple[float, ...], int], ignore: bool = False) -> dict[str, Tensor]:
    """One image's boxes (box, class), not collated."""
    return {
        "boxes": torch.tensor([box for box, _ in rows]).view(-1, 4),
        "classes": torch.tensor([kind for _, kind in rows], dtype=torch.long),
        "ignore": torch.full((len(rows),), ignore),
    }


TWO = label(((8.0, 8.0, 40.0, 40.0), 0), ((50.0, 20.0, 90.0, 52.0), 2))
TARGET = BoxesKind.collate([TWO, label(), label(((10.0, 5.0, 30.0, 60.0), 1))])


def levels(rows: int = 3, size: tuple[int, int] = SIZE) -> list[Tensor]:
    """Random levels of `rows` images, leaves."""
    return [torch.randn(rows, c, size[0] // s, size[1] // s, requires_grad=True) for c, s in LEVELS]


def head_of(task: Boxes) -> FasterRCNN:
    """The task's head for `LEVELS`."""
    head = task.make_head(LEVELS)
    assert isinstance(head, FasterRCNN)
    return head


def truth(target: Mapping[str, Tensor]) -> Truth:
    """The collated target as the operators take it."""
    return Truth(target["boxes"], target["classes"], target["ignore"])


def seeded(task: Boxes, head: nn.Module, values: list[Tensor], target: Any = TARGET, seed: int = 0) -> Tensor:
    """The losses under a seed."""
    torch.manual_seed(seed)
    return task.losses(head, values, target)


@pytest.mark.parametrize(
    "keywords",
    [{"classes": 3}, {"classes": ["cup", "pot"], "agnostic": False, "depth": 2}, {"classes": 1, "depth": 3, "scales": (4,)}],
)
def test_conforms(keywords: dict[str, Any]) -> None:
    """The public conformance check holds for one level and for several, for one box offset and for one per class."""
    check_task(Boxes(**keywords))


@pytest.mark.parametrize(
    "keywords", [{"classes": []}, {"classes": 0}, {"classes": 2, "channels": 12}, {"classes": 2, "depth": 4}]
)
def test_impossible_keywords_are_refused(keywords: dict[str, Any]) -> None:
    """The message names what was given."""
    with pytest.raises(ConfigError, match="given are"):
        Boxes(**keywords)


def test_a_loss_of_the_prediction_alone_does_not_exist() -> None:
    """Asking for it says what to call instead."""
    with pytest.raises(TaskError, match="call losses"):
        Boxes(classes=2).loss({}, TARGET)


def first_stage(task: Boxes, target: Mapping[str, Tensor]) -> tuple[FasterRCNN, Tensor]:
    """A head and its anchors on the finest level of images of `SIZE`."""
    where = anchors(
        torch.zeros(SIZE[0] // 8, SIZE[1] // 8), 8, [8 * scale for scale in task.settings.scales], task.settings.ratios
    )
    return head_of(task), where


def test_perfect_proposals_cost_nothing() -> None:
    """A first stage that is sure of every anchor and knows every offset has a loss of nearly 0, and of much more if wrong."""
    head, where = first_stage(Boxes(classes=3), TARGET)
    labels = assign(where[None], truth(TARGET), positive=0.7, negative=0.3, best=True)
    wanted = torch.stack([encode(boxes[index], where) for boxes, index in zip(TARGET["boxes"], labels.truth, strict=True)])
    logits = torch.where(labels.positive, 30.0, -30.0)
    chance = torch.rand(logits.shape)
    assert head.proposals.losses(Proposals(logits, wanted, where), truth(TARGET), chance).max() < 1e-6
    assert head.proposals.losses(Proposals(-logits, wanted, where), truth(TARGET), chance).min() > 10
    shifted = head.proposals.losses(Proposals(logits, wanted + 1, where), truth(TARGET), chance)
    assert shifted[0] > 0.01 and shifted[1] < 1e-6


def test_proposal_loss_is_the_papers_formula() -> None:
    """With every anchor sampled: mean cross-entropy plus smooth L1 with sigma 3 of the positive, summed in loops."""
    task = Boxes(classes=3, anchor_samples=10**6)
    head, where = first_stage(task, TARGET)
    logits, deltas = torch.randn(3, len(where)), torch.randn(3, len(where), 4)
    losses = head.proposals.losses(Proposals(logits, deltas, where), truth(TARGET), torch.rand(logits.shape))
    labels = assign(where[None], truth(TARGET), positive=0.7, negative=0.3, best=True)
    for row in range(3):
        total = 0.0
        for i in range(len(where)):
            if labels.positive[row, i]:
                total -= F.logsigmoid(logits[row, i]).item()
                x = (deltas[row, i] - encode(TARGET["boxes"][row, labels.truth[row, i]], where[i])).abs()
                total += torch.where(x < 1 / 9, 4.5 * x**2, x - 1 / 18).sum().item()
            elif labels.negative[row, i]:
                total -= F.logsigmoid(-logits[row, i]).item()
        assert losses[row].item() == pytest.approx(total / len(where), rel=1e-4)


def perfect(head: FasterRCNN, target: Mapping[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the second stage the right answer for every box that overlaps an object by half or more."""

    def answer(seen: Views, boxes: Tensor) -> tuple[Tensor, Tensor]:
        labels = assign(boxes, truth(target), positive=0.5, negative=0.5)
        nearest = labels.truth
        classes = torch.where(labels.positive, target["classes"].gather(1, nearest) + 1, 0)
        wanted = encode(target["boxes"].gather(1, nearest[..., None].expand(-1, -1, 4)), boxes)
        hot = F.one_hot(classes, head.regions.settings.classes + 1)
        own = wanted[:, :, None] * hot[..., 1:, None] + 9.0 * (1 - hot[..., 1:, None])
        return hot * 30.0, wanted[:, :, None] if head.regions.settings.agnostic else own

    monkeypatch.setattr(head.regions, "forward", answer)


@pytest.mark.parametrize("agnostic", [True, False])
def test_perfect_regions_cost_nothing(agnostic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second stage that knows class and offset has a loss of 0; it sees at least the objects themselves as positive.

    Where each class has an offset of its own, those of the other classes do not matter.
    """
    head = head_of(Boxes(classes=3, agnostic=agnostic))
    proposals, real = torch.rand(3, 20, 4) * 10, torch.ones(3, 20, dtype=torch.bool)
    proposals[..., 2:] += proposals[..., :2]
    chance = torch.rand(3, 20 + TARGET["boxes"].shape[1])
    boxes, used, labels = head.regions.choose(proposals, real, truth(TARGET), chance)
    assert (labels.positive & used).sum(dim=1).tolist() == [2, 0, 1]
    seen = Views(values := levels(), head.pyramid(values))
    untrained = head.regions.losses(seen, proposals, real, truth(TARGET), chance)
    perfect(head, TARGET, monkeypatch)
    losses = head.regions.losses(seen, proposals, real, truth(TARGET), chance)
    assert losses.max() < 1e-6 < 0.1 < untrained.min()


def test_perfect_regions_score_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the second stage is right about every proposal and the proposals cover the image, average precision is 1."""
    task = Boxes(classes=3, detections=20)
    head = head_of(task).eval()
    perfect(head, TARGET, monkeypatch)
    corners = torch.cartesian_prod(
        torch.arange(0.0, 90, 8), torch.arange(0.0, 60, 8), torch.tensor([24.0, 40]), torch.tensor([32.0, 56])
    )
    proposals = torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:]], dim=1).expand(3, -1, 4)
    found = head.regions.detect(Views([], []), proposals, torch.ones(proposals.shape[:2], dtype=torch.bool), SIZE)
    assert {name: tuple(values.shape) for name, values in found.items()} == {
        "boxes": (3, 20, 4),
        "scores": (3, 20),
        "classes": (3, 20),
    }
    assert (found["classes"] >= 0).sum(dim=1).tolist() == [2, 0, 1]
    assert (found["scores"][found["classes"] < 0] == 0).all() and (found["boxes"][found["classes"] < 0] == 0).all()
    metric = task.metric()
    metric.update(found, TARGET)
    assert metric.compute()["AP"] == 1.0


def test_detections_below_the_threshold_are_dropped() -> None:
    """An untrained head, whose classes are about equally likely, detects nothing above 1/2 and much above 1/10."""
    for min_score, some in ((0.5, False), (0.1, True)):
        found = head_of(Boxes(classes=3, min_score=min_score)).eval()(levels())
        assert bool((found["classes"] >= 0).any()) == some
        assert (found["scores"][found["classes"] >= 0] > min_score).all()


def test_detections_of_a_class_do_not_overlap() -> None:
    """After suppression no two detections of one class overlap by more than `nms`; those of two classes may."""
    found = head_of(Boxes(classes=3, min_score=0.01, nms=0.4)).eval()(levels())
    for boxes, classes, scores in zip(found["boxes"], found["classes"], found["scores"], strict=True):
        count = int((classes >= 0).sum())
        overlap = iou(boxes, boxes)[:count, :count].fill_diagonal_(0)
        same = classes[:count, None] == classes[None, :count]
        assert (overlap[same] <= 0.4 + 1e-6).all() and overlap.max() > 0.4
        assert (scores[:count].diff() <= 0).all()


def test_proposals_are_distinct_boxes_within_the_image() -> None:
    """What the first stage hands on lies in the image, has an area, and overlaps by at most 0.7; the rest is padding."""
    head = head_of(Boxes(classes=3, proposals=200))
    said = head.proposals(head.pyramid(levels()))
    boxes, real = head.proposals.select(said, SIZE)
    assert boxes.shape == (3, 200, 4) and not boxes.requires_grad
    for row in range(3):
        kept = boxes[row][real[row]]
        assert (area(kept) >= 1).all() and (kept >= 0).all() and (kept <= torch.tensor([96, 64, 96, 64])).all()
        assert iou(kept, kept).fill_diagonal_(0).max() <= 0.7 + 1e-6
        assert 0 < len(kept) < 200 and not boxes[row][~real[row]].any()


def test_padding_and_specks_are_neither_proposed_nor_detected() -> None:
    """Boxes that shrank below a square pixel are no proposals, and what is no proposal is never detected."""
    task = Boxes(classes=3, min_score=0.0)
    head, where = first_stage(task, TARGET)
    speck = torch.tensor([0.0, 0.0, -9.0, -9.0]).expand(3, len(where), 4)
    boxes, real = head.proposals.select(Proposals(torch.randn(3, len(where)), speck, where), SIZE)
    assert not real.any() and not boxes.any()
    found = head.eval().regions.detect(Views(values := levels(), head.pyramid(values)), boxes, real, SIZE)
    assert (found["classes"] == -1).all()


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


def part(value: Any, rows: slice) -> Any:
    """Some rows of every tensor."""
    return pytree.tree_map_only(Tensor, lambda leaf: leaf[rows], value)


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


def small_graph() -> tuple[Graph, Tensor, dict[str, Any]]:
    """Detection on a three-stage trunk with a batch of three images."""
    task, channels, stages = Boxes(classes=3, width=32, channels=16), 3, {}
    for tap, level in zip(task.taps, LEVELS, strict=True):
        stages[tap] = nn.Sequential(nn.Conv2d(channels, level.channels, 3, 8 if channels == 3 else 2, 1), nn.ReLU())
        channels = level.channels
    graph = Graph(trunk=stages, branches={"boxes": Branch(task.make_head(LEVELS), list(task.taps), losses=task.losses)})
    return graph, torch.rand(3, 3, *SIZE), {"boxes": TARGET}


def test_memory_is_known_before_the_step() -> None:
    """The peak that fake tensors foretell is the peak of a real step, to the byte."""
    graph, images, targets = small_graph()
    schedule = keep_all(list(graph.trunk), ["boxes"])
    expected = rehearse(graph, schedule, images, targets)
    with LiveBytes() as meter:
        Engine(graph, schedule).forward_backward(images, targets)
    assert meter.peak == expected


@pytest.mark.parametrize(("text", "exact"), [("res3 (res4 res5) | boxes", True), ("res3 res4 res5 | boxes rows=2", False)])
def test_engine_gives_the_gradients_of_plain_autograd(text: str, exact: bool) -> None:
    """With recompute the gradients are bitwise those of plain autograd; in parts of two images, to rounding."""
    graph, images, targets = small_graph()
    other = copy.deepcopy(graph)
    torch.manual_seed(0)
    graph.losses(images, targets)["boxes"].backward()
    torch.manual_seed(0)
    Engine(other, Schedule.parse(text)).forward_backward(images, targets)
    for (name, ours), expected in zip(other.named_parameters(), graph.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, expected.grad, rtol=0 if exact else 1e-4, atol=0 if exact else 1e-6, msg=name)


def test_a_batch_can_be_learned_by_heart() -> None:
    """Forty steps on fixed levels bring the loss of a batch below a third."""
    task = Boxes(classes=3)
    head, values = head_of(task), [level.detach() for level in levels()]
    optimizer = torch.optim.Adam(head.parameters(), 2e-3)
    before = seeded(task, head, values).sum().item()
    for _ in range(40):
        optimizer.zero_grad()
        task.losses(head, values, TARGET).sum().backward()
        optimizer.step()
    assert seeded(task, head, values).sum().item() < before / 3


def test_drawing_names_classes() -> None:
    """A detection changes the picture at its frame; padding and detections that are hardly likely do not."""
    image = np.zeros((*SIZE, 3), dtype=np.uint8)
    task = Boxes(classes=["cup", "pot"])
    answer = {"boxes": torch.tensor([[10.0, 10.0, 50.0, 40.0], [0.0, 0.0, 0.0, 0.0]]), "scores": torch.tensor([0.9, 0.0])}
    drawn = task.draw(image, answer | {"classes": torch.tensor([1, -1])})
    assert drawn[10, 30].any() and not drawn[0, 0].any()
    assert not np.array_equal(drawn, task.draw(image, answer | {"classes": torch.tensor([0, -1])}))
    unlikely = {"scores": torch.tensor([0.2, 0.0]), "classes": torch.tensor([1, -1])}
    assert not task.draw(image, answer | unlikely).any()


def rectangles(generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """Up to four rectangles of three colours on a noisy ground of 96 x 128, later ones on top."""
    image = torch.rand(3, 1, 1, generator=generator) / 2 + torch.rand(3, 96, 128, generator=generator) / 10
    rows = []
    for _ in range(int(torch.randint(0, 5, (), generator=generator))):
        kind = int(torch.randint(0, 3, (), generator=generator))
        width, height = torch.randint(14, 50, (2,), generator=generator).tolist()
        x, y = (
            int(torch.rand((), generator=generator) * (128 - width)),
            int(torch.rand((), generator=generator) * (96 - height)),
        )
        image[:, y : y + height, x : x + width] = (torch.arange(3) == kind)[:, None, None] * 0.8
        rows.append(((float(x), float(y), float(x + width), float(y + height)), kind))
    return image, label(*rows)


def rectangle_batch(generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """Eight images with their collated boxes."""
    images, labels = zip(*(rectangles(generator) for _ in range(8)), strict=True)
    return torch.stack(images), BoxesKind.collate(list(labels))


class TinyTrunk(nn.Module):
    """Five strided convolutions; returns what the last three make."""

    def __init__(self) -> None:
        super().__init__()
        widths = [3, 16, 16, *(level.channels * 4 for level in LEVELS)]
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in zip(widths[:-1], widths[1:], strict=True)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        values = [images - 0.5]
        for step in self.steps:
            values.append(step(values[-1]))
        return values[-3:]


@pytest.mark.slow
def test_it_learns_to_detect_rectangles() -> None:
    """From scratch, 250 steps of eight images: average precision at IoU 0.5 on new images is above 0.7."""
    task, trunk, generator = Boxes(classes=3), TinyTrunk(), torch.Generator().manual_seed(0)
    head = task.make_head([Level(channels * 4, stride) for channels, stride in LEVELS])
    parameters = [*trunk.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, 2e-3)
    decay = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=250, pct_start=0.1)
    for _ in range(250):
        images, target = rectangle_batch(generator)
        optimizer.zero_grad()
        task.losses(head, trunk(images), target).mean().backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        decay.step()
    trunk.eval(), head.eval()
    metric = task.metric()
    with torch.no_grad():
        for _ in range(6):
            images, target = rectangle_batch(generator)
            metric.update(head(trunk(images)), target)
    assert metric.compute()["AP50"] > 0.7
