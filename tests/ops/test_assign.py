import math

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ubertrain.ops import assign as module
from ubertrain.ops.assign import Assignment, Truth, assign, sample
from ubertrain.ops.boxes import coverage, iou


def truth(*rows: tuple[float, ...], classes: tuple[int, ...] | None = None, ignore: tuple[bool, ...] | None = None) -> Truth:
    """One image's boxes; class 0 and not ignored unless said otherwise."""
    count = len(rows)
    return Truth(
        torch.tensor([rows], dtype=torch.float32).view(1, count, 4),
        torch.tensor([classes or (0,) * count]),
        torch.tensor([ignore or (False,) * count]),
    )


def brute_force(candidates: Tensor, label: Truth, positive: float, negative: float, best: bool) -> list[str]:
    """The rules of Faster R-CNN, section 3.1.2, candidate by candidate."""
    overlap = iou(candidates, label.boxes[0])
    inside = coverage(candidates, label.boxes[0])
    kinds = list(zip(label.classes[0].tolist(), label.ignore[0].tolist(), strict=True))
    objects = [j for j, (kind, ignore) in enumerate(kinds) if kind >= 0 and not ignore]
    words = []
    for i in range(len(candidates)):
        highest = max((overlap[i, j].item() for j in objects), default=0.0)
        is_best = best and any(overlap[i, j] > 0 and overlap[i, j] == overlap[:, j].max() for j in objects)
        if highest >= positive or is_best:
            words.append("positive")
        elif highest < negative and not any(
            kind >= 0 and ignore and inside[i, j] >= 0.5 for j, (kind, ignore) in enumerate(kinds)
        ):
            words.append("negative")
        else:
            words.append("nothing")
    return words


def words(labels: Assignment) -> list[str]:
    """The assignment of one image, word by word."""
    assert not (labels.positive & labels.negative).any()
    pairs = zip(labels.positive[0].tolist(), labels.negative[0].tolist(), strict=True)
    return ["positive" if a else "negative" if b else "nothing" for a, b in pairs]


SQUARE = (10.0, 10.0, 20.0, 20.0)


@pytest.mark.parametrize(
    ("label", "candidate", "best", "expected"),
    [
        (truth(SQUARE), (10, 10, 20, 20), False, "positive"),
        (truth(SQUARE), (10, 10, 20, 17), False, "positive"),  # IoU 0.7 exactly counts
        (truth(SQUARE), (10, 10, 20, 16), False, "nothing"),
        (truth(SQUARE), (10, 10, 20, 16), True, "positive"),  # no other candidate comes closer
        (truth(SQUARE), (10, 10, 20, 12), False, "negative"),
        (truth(SQUARE), (50, 50, 60, 60), True, "negative"),  # the best of all, but it does not overlap at all
        (truth(SQUARE, classes=(-1,)), (10, 10, 20, 20), True, "negative"),  # padding is no object
        (truth(SQUARE, ignore=(True,)), (10, 10, 20, 20), True, "nothing"),
        (truth(SQUARE, ignore=(True,)), (15, 10, 25, 20), True, "nothing"),  # half within is within
        (truth(SQUARE, ignore=(True,)), (16, 10, 26, 20), True, "negative"),
        (truth(SQUARE, (0, 0, 90, 90), ignore=(False, True)), (10, 10, 20, 20), False, "positive"),  # an object in a crowd
        (truth(SQUARE, (0, 0, 90, 90), classes=(0, -1), ignore=(False, True)), (50, 50, 60, 60), False, "negative"),
    ],
)
def test_one_candidate_by_hand(label: Truth, candidate: tuple[int, ...], best: bool, expected: str) -> None:
    """Thresholds, best candidates, padding and ignored boxes, one case each."""
    candidates = torch.tensor([[candidate]], dtype=torch.float32)
    assert words(assign(candidates, label, positive=0.7, negative=0.3, best=best)) == [expected]


@pytest.mark.parametrize(
    ("label", "expected"),
    [(truth(SQUARE), "nothing"), (truth(SQUARE, classes=(-1,)), "negative"), (truth(SQUARE, ignore=(True,)), "negative")],
)
def test_easy_negatives_can_be_left_out(label: Truth, expected: str) -> None:
    """What overlaps the objects by less than `least` counts as nothing; without objects all are negatives still."""
    candidates = torch.tensor([[(50.0, 50.0, 60.0, 60.0), (10.0, 10.0, 20.0, 12.0)]])
    labels = assign(candidates, label, positive=0.5, negative=0.5, least=0.1)
    assert words(labels)[0] == expected
    if expected == "nothing":
        assert words(labels)[1] == "negative"


@pytest.mark.parametrize("box", [(15.0, 15.0, 15.0, 15.0), (15.0, 12.0, 15.0, 18.0), (20.0, 20.0, 10.0, 10.0), (math.nan,) * 4])
def test_boxes_that_are_none_are_no_positives(box: tuple[float, ...]) -> None:
    """A candidate without area, inside out or not a number stands for no object; an object without area is found by nobody."""
    assert "positive" not in words(assign(torch.tensor([[box]]), truth(SQUARE), positive=0.5, negative=0.3, best=True))
    assert "positive" not in words(assign(torch.tensor([[SQUARE]]), truth(box), positive=0.5, negative=0.3, best=True))


def test_five_hundred_objects() -> None:
    """Each of five hundred objects is found by the candidate that is its box, and by no other's."""
    corner = torch.cartesian_prod(torch.arange(25.0), torch.arange(20.0)) * 10
    boxes = torch.cat([corner, corner + 8], dim=1)
    label = Truth(boxes[None], torch.zeros(1, 500, dtype=torch.long), torch.zeros(1, 500, dtype=torch.bool))
    labels = assign(boxes[None], label, positive=0.5, negative=0.5)
    assert labels.positive.all() and labels.truth[0].tolist() == list(range(500))


@pytest.mark.parametrize("best", [False, True])
def test_pieces_do_not_show(best: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several images, and pieces of their candidates, are labelled as each image is in one piece."""
    corner = torch.rand(3, 30, 2) * 30
    boxes = torch.cat([corner, corner + 5 + torch.rand(3, 30, 2) * 20], dim=2)
    label = Truth(boxes[:, :4], torch.tensor([[0, 1, 2, -1]] * 3), torch.tensor([[False, False, True, False]] * 3))
    alone = [
        assign(boxes[i : i + 1], Truth(*(part[i : i + 1] for part in label)), positive=0.5, negative=0.3, best=best)
        for i in range(3)
    ]
    for pairs in (2**18, 260, 9, 1):
        monkeypatch.setattr(module, "_PAIRS", pairs)
        labels = assign(boxes, label, positive=0.5, negative=0.3, best=best)
        for ours, expected in zip(labels, zip(*alone, strict=True), strict=True):
            assert torch.equal(ours, torch.cat(expected))


def test_it_is_a_sound_operator() -> None:
    """PyTorch's own conformance check: schema, fake kernel and real kernel agree."""
    torch.library.opcheck(module._assign, (torch.rand(1, 5, 4), *truth(SQUARE), 0.7, 0.3, 0.0, True))


def test_fake_tensors_and_no_rows() -> None:
    """Shapes are known without values; a batch of no images gives no rows."""
    with FakeTensorMode():
        none = Truth(torch.zeros(0, 2, 4), torch.zeros(0, 2, dtype=torch.long), torch.zeros(0, 2, dtype=torch.bool))
        assert [part.shape for part in assign(torch.zeros(1, 7, 4), none, positive=0.7, negative=0.3)] == [(0, 7)] * 3
    none = Truth(torch.zeros(0, 2, 4), torch.zeros(0, 2, dtype=torch.long), torch.zeros(0, 2, dtype=torch.bool))
    assert [part.shape for part in assign(torch.zeros(1, 7, 4), none, positive=0.7, negative=0.3)] == [(0, 7)] * 3


@pytest.mark.parametrize("best", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_random_scenes_match_brute_force(seed: int, best: bool) -> None:
    """Crowded scenes with padding and ignored boxes, coarse enough that overlaps tie, are labelled as by the rules."""
    torch.manual_seed(seed)
    corner, size = torch.randint(0, 8, (40, 2)) * 4, torch.randint(1, 5, (40, 2)) * 4
    boxes = torch.cat([corner, corner + size], dim=1).float()
    label = Truth(
        boxes[None, :6], torch.tensor([[0, 1, -1, 2, 0, -1]]), torch.tensor([[False, False, False, False, True, True]])
    )
    labels = assign(boxes[None, 6:], label, positive=0.6, negative=0.3, best=best)
    assert words(labels) == brute_force(boxes[6:], label, 0.6, 0.3, best)
    found = labels.positive[0] & (labels.truth[0] >= 0)
    nearest = iou(boxes[6:], boxes[:6])[:, [0, 1, 3]].argmax(dim=1)
    assert labels.truth[0][found].tolist() == torch.tensor([0, 1, 3])[nearest][found].tolist()


@pytest.mark.parametrize(
    ("positives", "negatives", "drawn_positives", "drawn"),
    [(10, 30, 4, 8), (2, 30, 2, 8), (10, 3, 4, 7), (0, 30, 0, 8), (0, 0, 0, 0), (3, 0, 3, 3)],
)
def test_sample_draws_what_there_is(positives: int, negatives: int, drawn_positives: int, drawn: int) -> None:
    """At most 4 of 8 are positive, negatives fill the rest, nobody is drawn twice, and what counts as nothing is not drawn."""
    kind = torch.tensor([[0] * positives + [1] * negatives + [2] * (50 - positives - negatives)])
    kind = kind[:, torch.randperm(50)]
    index, used = sample(Assignment(kind == 0, kind == 1, kind), torch.rand(1, 50), 8, 4)
    chosen = index[used]
    assert index.shape == used.shape == (1, 8)
    assert len(set(index[0].tolist())) == 8
    assert (kind[0, chosen] == 0).sum() == drawn_positives
    assert len(chosen) == drawn
    assert (kind[0, chosen] < 2).all()


def test_sample_is_uniform() -> None:
    """Over many draws every negative is drawn about equally often (chi-squared within 5 standard deviations)."""
    positive = torch.zeros(2000, 20, dtype=torch.bool)
    index, _ = sample(Assignment(positive, ~positive, positive.long()), torch.rand(2000, 20), 5, 2)
    counts = index.flatten().bincount(minlength=20).double()
    chi = ((counts - 500).square() / (500 * 15 / 20)).sum().item() * 19 / 20
    assert abs(chi - 19) < 5 * (2 * 19) ** 0.5


def test_sample_larger_than_the_crowd() -> None:
    """Asked for more than there are candidates, it returns all of them."""
    positive = torch.tensor([[True, False, False]])
    index, used = sample(Assignment(positive, ~positive, positive.long()), torch.rand(1, 3), 10, 5)
    assert sorted(index[0].tolist()) == [0, 1, 2]
    assert used.all()
