import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ubertrain.ops import nms as module
from ubertrain.ops.boxes import iou
from ubertrain.ops.compiled import compiled
from ubertrain.ops.nms import batched_nms, nms, nms_fixed


def loop(boxes: Tensor, scores: Tensor, threshold: float, classes: Tensor | None = None) -> list[int]:
    """Greedy suppression, word by word."""
    overlap = (iou(boxes, boxes) > threshold).tolist()
    kinds = [0] * len(boxes) if classes is None else classes.tolist()
    left = sorted(range(len(boxes)), key=lambda i: -scores[i].item())  # stable: the earlier of equals stays first
    kept = []
    while left:
        best, *left = left
        kept.append(best)
        left = [i for i in left if not overlap[best][i] or kinds[best] != kinds[i]]
    return kept


def crowded(count: int, grid: float = 0.0) -> tuple[Tensor, Tensor]:
    """Boxes that overlap in long chains; with `grid`, coordinates and scores are multiples of it, so that many are equal."""
    corner, size = torch.rand(count, 2) * 30, torch.rand(count, 2) * 20 + 4
    boxes, scores = torch.cat([corner, corner + size], dim=1), torch.rand(count)
    return ((boxes / grid / 8).round() * grid * 8, (scores / grid).round() * grid) if grid else (boxes, scores)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("grid", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("count", [0, 1, 2, 40, 120])
def test_nms_is_the_greedy_loop(count: int, grid: float, threshold: float) -> None:
    """Own suppression keeps exactly the loop's boxes in the loop's order, equal scores and equal boxes included."""
    boxes, scores = crowded(count, grid)
    assert nms(boxes, scores, threshold).tolist() == loop(boxes, scores, threshold)


def test_a_chain_alternates() -> None:
    """In a chain where each box overlaps only its neighbours, every other box survives: the longest possible iteration."""
    start = torch.arange(50.0)
    boxes = torch.stack([start, torch.zeros(50), start + 1.9, torch.ones(50)], dim=1)
    assert nms(boxes, -start, 0.3).tolist() == list(range(0, 50, 2))


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Working through the boxes in blocks gives the result of one block."""
    boxes, scores = crowded(100, 0.1)
    whole = nms(boxes, scores, 0.4)
    monkeypatch.setattr(module, "_BLOCK", 7)
    assert nms(boxes, scores, 0.4).tolist() == whole.tolist()


@pytest.mark.parametrize("shift", [0.0, -1000.0])
def test_classes_do_not_suppress_each_other(shift: float) -> None:
    """Batched suppression is the loop that compares classes, also for boxes at negative coordinates."""
    boxes, scores = crowded(90)
    classes = torch.randint(0, 4, (90,))
    kept = batched_nms(boxes + shift, scores, classes, 0.3)
    assert kept.tolist() == loop(boxes + shift, scores, 0.3, classes)
    assert len(batched_nms(boxes[:0], scores[:0], classes[:0], 0.3)) == 0


@pytest.mark.parametrize("count", [1, 5, 60])
def test_fixed_nms_is_nms_of_each_row_cut_or_padded(count: int) -> None:
    """Each row holds the first survivors of its own image, then -1; scores of -inf are no boxes."""
    boxes, scores = (torch.stack(parts) for parts in zip(*(crowded(40) for _ in range(3)), strict=True))
    scores[1, ::2], scores[2] = -torch.inf, -torch.inf
    kept = nms_fixed(boxes, scores, 0.4, count)
    assert kept.shape == (3, count)
    for row in range(3):
        expected = [i for i in loop(boxes[row], scores[row], 0.4) if scores[row, i] > -torch.inf][:count]
        assert kept[row].tolist() == expected + [-1] * (count - len(expected))


def test_fixed_nms_is_a_sound_operator() -> None:
    """PyTorch's own conformance check: schema, fake kernel and real kernel agree."""
    boxes, scores = crowded(20)
    torch.library.opcheck(nms_fixed, (boxes[None], scores[None], 0.5, 10))


def test_fixed_nms_takes_fake_tensors_and_no_rows() -> None:
    """Shapes are known without values, and a batch of no images gives no rows."""
    with FakeTensorMode():
        assert nms_fixed(torch.zeros(3, 40, 4), torch.zeros(3, 40), 0.5, 7).shape == (3, 7)
    assert nms_fixed(torch.zeros(0, 40, 4), torch.zeros(0, 40), 0.5, 7).shape == (0, 7)


def test_boxes_that_are_none() -> None:
    """Boxes without area suppress nobody and are kept; a score that is no number is no box."""
    flat = torch.tensor([[[5.0, 5.0, 5.0, 5.0], [5.0, 5.0, 5.0, 5.0], [4.0, 4.0, 6.0, 6.0], [0.0, 0.0, 9.0, 9.0]]])
    assert nms_fixed(flat, torch.tensor([[0.9, 0.8, 0.7, torch.nan]]), 0.5, 4).tolist() == [[0, 1, 2, -1]]


def test_images_in_groups_are_images_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many images at a time, some of them full early, have the survivors that each has alone, in blocks as well."""
    boxes, scores = (torch.stack(parts) for parts in zip(*(crowded(60) for _ in range(5)), strict=True))
    scores[3, 2:] = -torch.inf
    alone = torch.cat([nms_fixed(boxes[i : i + 1], scores[i : i + 1], 0.3, 6) for i in range(5)])
    monkeypatch.setattr(module, "_BLOCK", 8)
    monkeypatch.setattr(module, "_PAIRS", 128)
    assert torch.equal(nms_fixed(boxes, scores, 0.3, 6), alone)


def test_it_is_torchvisions() -> None:
    """The survivors are those of torchvision's compiled operator, where there is one."""
    operator = compiled("nms", "cpu")
    if operator is None:
        pytest.skip("torchvision's compiled operators do not load here")
    for threshold in (0.3, 0.7):
        boxes, scores = crowded(200)
        kept = module._greedy(boxes[None], scores[None], torch.ones(1, 200, dtype=torch.bool), threshold, 200)[0]
        assert kept[kept >= 0].tolist() == operator(boxes, scores, threshold).tolist()
