import pytest
import torch
import torch.nn.functional as F

from tests.tasks.box_targets import SIZE, TARGET, first_stage, head_of, levels, truth
from ubertrain.ops.assign import Truth, assign
from ubertrain.ops.boxes import area, clip, encode, iou
from ubertrain.tasks.boxes import Boxes
from ubertrain.tasks.proposals import Kept, Proposals


def test_perfect_proposals_cost_nothing() -> None:
    """A first stage that is sure of every anchor and knows every offset has a loss of nearly 0, and of much more if wrong."""
    head, where = first_stage(Boxes(classes=3))
    labels = assign(where[None], truth(TARGET), positive=0.7, negative=0.3, best=True)
    wanted = torch.stack([encode(boxes[index], where) for boxes, index in zip(TARGET["boxes"], labels.truth, strict=True)])
    logits = torch.where(labels.positive, 30.0, -30.0)
    chance = torch.rand(logits.shape)
    assert head.proposals.losses(Proposals(logits, wanted, where), truth(TARGET), chance, SIZE).max() < 1e-6
    assert head.proposals.losses(Proposals(-logits, wanted, where), truth(TARGET), chance, SIZE).min() > 10
    shifted = head.proposals.losses(Proposals(logits, wanted + 1, where), truth(TARGET), chance, SIZE)
    assert shifted[0] > 0.01 and shifted[1] < 1e-6


def test_proposal_loss_is_the_papers_formula() -> None:
    """With every anchor sampled: mean cross-entropy plus smooth L1 with sigma 3 of the positive, summed in loops."""
    task = Boxes(classes=3, anchor_samples=10**6)
    head, where = first_stage(task)
    logits, deltas = torch.randn(3, len(where)), torch.randn(3, len(where), 4)
    losses = head.proposals.losses(Proposals(logits, deltas, where), truth(TARGET), torch.rand(logits.shape), SIZE)
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


def test_proposals_are_distinct_boxes_within_the_image() -> None:
    """What the first stage hands on lies in the image, has an area, and overlaps by at most 0.7; the rest is padding."""
    head = head_of(Boxes(classes=3))
    said = head.proposals(head.pyramid(levels()))
    boxes, real = head.proposals.select(said, SIZE, Kept(256, 200))
    assert boxes.shape == (3, 200, 4) and not boxes.requires_grad
    for row in range(3):
        kept = boxes[row][real[row]]
        assert (area(kept) >= 1).all() and (kept >= 0).all() and (kept <= torch.tensor([96, 64, 96, 64])).all()
        assert iou(kept, kept).fill_diagonal_(0).max() <= 0.7 + 1e-6
        assert 0 < len(kept) < 200 and not boxes[row][~real[row]].any()


def test_specks_are_not_proposed() -> None:
    """Boxes that shrank below a square pixel, or below `min_side` along one side, are no proposals; the rest is padding."""
    head, where = first_stage(Boxes(classes=3, min_side=16))
    logits, kept = torch.randn(3, len(where)), Kept(256, 64)
    for log_sides in ((-9.0, -9.0), (-1.2, 0.5)):
        deltas = torch.tensor([0.0, 0.0, *log_sides]).expand(3, len(where), 4)
        boxes, real = head.proposals.select(Proposals(logits, deltas, where), SIZE, kept)
        chosen = boxes[real]
        assert (chosen[:, 2:] - chosen[:, :2]).amin(dim=1).ge(16).all() and not boxes[~real].any()
        assert real.any() == (log_sides[0] > -9)


def test_more_is_kept_while_training() -> None:
    """Candidates and proposals have counts of their own for training and for detecting, as published."""
    task = Boxes(classes=3, candidates=40, proposals=20, test_candidates=30, test_proposals=9)
    head, values = head_of(task), levels()
    assert (task.first.train, task.first.test) == (Kept(40, 20), Kept(30, 9))
    said = head.proposals(head.pyramid(values))
    assert head.proposals.select(said, SIZE, task.first.train)[0].shape == (3, 20, 4)
    assert head.proposals.select(said, SIZE, task.first.test)[0].shape == (3, 9, 4)
    assert Boxes(classes=3, proposals=5).first.test == Kept(256, 5)


def test_the_published_counts() -> None:
    """12000 to 2000 and 6000 to 300, on an image with more anchors than that, keep so many distinct boxes."""
    head, where = first_stage(Boxes(classes=1, scales=(1, 2, 4), min_side=2), size=(320, 400))
    assert len(where) == 18000
    said = Proposals(torch.randn(1, len(where)), torch.randn(1, len(where), 4) / 10, where)
    for kept in (Kept(12000, 2000), Kept(6000, 300)):
        boxes, real = head.proposals.select(said, (320, 400), kept)
        assert real.all() and boxes.shape == (1, kept.proposals, 4)
        assert iou(boxes[0, :300], boxes[0]).sub(torch.eye(300, kept.proposals)).max() <= 0.7 + 1e-6


def test_anchors_across_the_border_can_be_left_out() -> None:
    """With `inside`, no anchor that reaches out of the image has a gradient; the others have."""
    for inside in (True, False):
        head, where = first_stage(Boxes(classes=3, inside=inside, anchor_samples=10**6))
        logits = torch.zeros(3, len(where), requires_grad=True)
        said = Proposals(logits, torch.zeros(3, len(where), 4), where)
        head.proposals.losses(said, truth(TARGET), torch.rand(logits.shape), SIZE).sum().backward()
        crosses = (where[:, :2] < 0).any(dim=1) | (where[:, 2:] > torch.tensor([SIZE[1], SIZE[0]])).any(dim=1)
        assert logits.grad is not None and logits.grad[:, ~crosses].any()
        assert bool(logits.grad[:, crosses].any()) != inside


def test_the_best_anchor_is_the_best_of_those_inside() -> None:
    """With `inside`, an object at the border has a positive anchor: the best one within the image, as published."""
    head, where = first_stage(Boxes(classes=3, inside=True, anchor_samples=10**6))
    box = torch.tensor([0.0, 0.0, 28.0, 60.0])  # the anchor that fits it best reaches out of the image
    target = Truth(box.view(1, 1, 4), torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.bool))
    overlap, whole = iou(box[None], where)[0], (clip(where, SIZE) == where).all(dim=1)
    assert not whole[overlap.argmax()]
    best = overlap.masked_fill(~whole, -1.0)
    logits = torch.zeros(1, len(where), requires_grad=True)
    said = Proposals(logits, torch.zeros(1, len(where), 4), where)
    head.proposals.losses(said, target, torch.rand(logits.shape), SIZE).sum().backward()
    assert logits.grad is not None
    assert (logits.grad[0] < 0).nonzero().flatten().tolist() == (best == best.max()).nonzero().flatten().tolist()


def test_what_is_no_number_is_still_proposed() -> None:
    """A diverged first stage gives boxes that are no numbers, not an image without proposals."""
    head, where = first_stage(Boxes(classes=3))
    said = Proposals(torch.full((1, len(where)), torch.nan), torch.full((1, len(where), 4), torch.nan), where)
    boxes, real = head.proposals.select(said, SIZE, Kept(256, 64))
    assert real.all() and boxes.isnan().all()
