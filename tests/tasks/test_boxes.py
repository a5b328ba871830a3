import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tasks.box_targets import LEVELS, SIZE, TARGET, head_of, label, levels, proposed, seeded
from ubertrain.annotation.boxes import Boxes as BoxesKind
from ubertrain.annotation.proposed_boxes import ProposedBoxes
from ubertrain.engine.branch import Branch
from ubertrain.engine.engine import Engine
from ubertrain.engine.graph import Graph
from ubertrain.engine.level import Level
from ubertrain.engine.meter import LiveBytes
from ubertrain.errors import ConfigError, TaskError
from ubertrain.measuring.rehearse import rehearse
from ubertrain.metrics.box_ap import BoxAP
from ubertrain.metrics.voc_ap import Voc07AP, VocAP
from ubertrain.planning.keep_all import keep_all
from ubertrain.planning.schedule import Schedule
from ubertrain.tasks.boxes import Boxes
from ubertrain.testing import check_task

RAW: dict[str, Any] = {"taps": ("res4",), "channels": 0, "context": False}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"classes": ["cup", "pot"], "agnostic": False, "depth": 2},
    {"depth": 3, "scales": (4,), "pool": "max"},
    {"depth": 4, "regions_from": "size", "canonical": 40.0, "protocol": "voc"},
    {"depth": 2, "regions_from": "size", "canonical": 40.0, "pool": "max", "protocol": "voc07"},
    {"inside": True, "min_side": 4, "nms": 0.3, "pool": "max", "bins": (3, 2, 1), **RAW},
    {"proposer": "given"},
    {"proposer": "given", "background_from": 0.1, "agnostic": False, "pool": "max", "bins": (6, 3, 2, 1), **RAW},
]


@pytest.mark.parametrize("keywords", [*VARIANTS[::2], *(pytest.param(v, marks=pytest.mark.slow) for v in VARIANTS[1::2])])
def test_conforms(keywords: dict[str, Any]) -> None:
    """The public conformance check holds for Faster and Fast R-CNN, on one level and several, with either pooling."""
    check_task(Boxes(**{"classes": 1, **keywords}))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"classes": []}, "at least one class"),
        ({"classes": 0}, "at least one class"),
        ({"channels": 12}, "multiples of 8"),
        ({"depth": 5}, "given are 2 classes, channels 64, depth 5"),
        ({"channels": 0}, "reads one tap; given are 3"),
        ({"bins": []}, "bins: must be above 0; given is 0"),
        ({"scales": ()}, "scales: must be above 0"),
        ({"detections": 0}, "detections: must be above 0; given is 0"),
        ({"test_proposals": -1}, "test_proposals: must be above 0; given is -1"),
        ({"test_candidates": 0}, "test_candidates: must be above 0; given is 0"),
        ({"nms": 1.5}, "nms: must be between 0 and 1; given is 1.5"),
        ({"positives": -0.1}, "positives: must be between 0 and 1"),
        ({"min_side": -1}, "min_side: must be 0 or above; given is -1"),
        ({"min_side": float("nan")}, "min_side: must be 0 or above; given is nan"),
    ],
)
def test_impossible_keywords_are_refused(keywords: dict[str, Any], message: str) -> None:
    """The message names the key and what was given."""
    with pytest.raises(ConfigError, match=message):
        Boxes(**{"classes": 2, **keywords})


def test_levels_out_of_order_are_refused() -> None:
    """Taps given coarsest first would be read at wrong places."""
    with pytest.raises(TaskError, match=r"finest first.*\[32, 16, 8\]"):
        Boxes(classes=2, taps=("res5", "res4", "res3")).make_head(LEVELS[::-1])


@pytest.mark.parametrize(("protocol", "kind"), [("coco", BoxAP), ("voc", VocAP), ("voc07", Voc07AP)])
def test_the_protocol_chooses_the_score(protocol: Any, kind: type) -> None:
    """Each protocol has its metric."""
    assert type(Boxes(classes=2, protocol=protocol).metric()) is kind


def test_the_default_is_a_network_that_proposes() -> None:
    """Without given proposals the task asks for plain boxes, and its head takes nothing more."""
    plain, given = Boxes(classes=2), Boxes(classes=2, proposer="given")
    assert (plain.annotation, given.annotation) == (BoxesKind, ProposedBoxes)
    assert plain.given(proposed(TARGET)) is None
    assert given.given(target := proposed(TARGET)) is target["proposals"]
    assert given.label == plain.label == "boxes"


def test_a_loss_of_the_prediction_alone_does_not_exist() -> None:
    """Asking for it says what to call instead."""
    with pytest.raises(TaskError, match="call losses"):
        Boxes(classes=2).loss({}, TARGET)


def small_graph(**keywords: Any) -> tuple[Graph, Tensor, dict[str, Any]]:
    """Detection on a three-stage trunk with a batch of three images."""
    task, channels, stages = Boxes(**{"classes": 3, "width": 32, "channels": 16, **keywords}), 3, {}
    for name, level in zip(("res3", "res4", "res5"), LEVELS, strict=True):
        stages[name] = nn.Sequential(nn.Conv2d(channels, level.channels, 3, 8 if channels == 3 else 2, 1), nn.ReLU())
        channels = level.channels
    read = [level for name, level in zip(stages, LEVELS, strict=True) if name in task.taps]
    graph = Graph(trunk=stages, branches={"boxes": Branch(task.make_head(read), list(task.taps), losses=task.losses)})
    return graph, torch.rand(3, 3, *SIZE), {"boxes": proposed(TARGET)}


@pytest.mark.parametrize("keywords", [keywords for keywords in VARIANTS if "classes" not in keywords])
def test_memory_is_known_before_the_step(keywords: dict[str, Any]) -> None:
    """The peak that fake tensors foretell is the peak of a real step, to the byte."""
    graph, images, targets = small_graph(**keywords)
    schedule = keep_all(list(graph.trunk), ["boxes"])
    expected = rehearse(graph, schedule, images, targets)
    with LiveBytes() as meter:
        Engine(graph, schedule).forward_backward(images, targets)
    assert meter.peak == expected


class Operations(TorchDispatchMode):
    """Counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_a_larger_batch_is_no_more_operations() -> None:
    """No operation of a step runs image by image, which would make planning slow and GPUs idle."""
    counts = []
    for rows in (2, 8):
        graph, _, targets = small_graph()
        many = {name: values[:1].repeat(rows, *[1] * (values.ndim - 1)) for name, values in targets["boxes"].items()}
        with Operations() as operations:
            graph.losses(torch.rand(rows, 3, *SIZE), {"boxes": many})["boxes"].backward()
        counts.append(operations.count)
    assert counts[0] == counts[1] < 2000


@pytest.mark.parametrize(("text", "exact"), [("res3 (res4 res5) | boxes", True), ("res3 res4 res5 | boxes rows=2", False)])
@pytest.mark.parametrize("keywords", [{}, {"proposer": "given", "pool": "max"}])
def test_engine_gives_the_gradients_of_plain_autograd(text: str, exact: bool, keywords: dict[str, Any]) -> None:
    """With recompute the gradients are bitwise those of plain autograd; in parts of two images, to rounding."""
    graph, images, targets = small_graph(**keywords)
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
