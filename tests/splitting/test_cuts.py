"""Where lists of operations are cut, on drawn lists, against running them value by value."""

import random

import pytest

from ubertrain.splitting.cuts import Cuts, Step


def drawn(seed: int) -> tuple[list[Step], list[int], list[int]]:
    """Steps, outputs and taps at random; the first step is the input, and every value descends from it."""
    draw = random.Random(seed)
    steps = [Step(view=True)]
    for place in range(1, draw.randint(4, 24)):
        near = range(max(0, place - 3), place)
        reads = tuple(sorted(draw.sample(near, min(len(near), draw.choice([1, 1, 1, 2])))))
        kind = draw.random()
        steps.append(
            Step(
                reads=reads,
                product=kind < 0.4,
                view=0.4 <= kind < 0.55,
                aliases=reads[:1] if kind >= 0.4 and kind < 0.65 else (),
                writes=reads[:1] if 0.55 <= kind < 0.65 else (),
            )
        )
    taps = sorted(draw.sample(range(1, len(steps)), draw.choice([0, 0, 1, 2])))
    return steps, [len(steps) - 1], taps


def source(steps: list[Step], place: int) -> int:
    """The step that made the memory a value stands in."""
    while steps[place].aliases:
        place = steps[place].aliases[0]
    return place


def run(steps: list[Step], cuts: Cuts, bounds: list[int], outputs: list[int]) -> list[int]:
    """Run stage by stage with what crosses the cuts only; what is at hand at the end."""
    at_hand, start = {0}, 1
    for bound in [*bounds, len(steps) - 1]:
        for place in range(start, bound + 1):
            assert set(steps[place].reads) <= at_hand
            at_hand.add(place)
        at_hand = set(cuts.crossing(bound)) if bound < len(steps) - 1 else at_hand
        start = bound + 1
    return [place for place in outputs if place in at_hand]


@pytest.mark.parametrize("finer", [False, True])
def test_stages_get_what_they_read(finer: bool) -> None:
    """Every stage finds its reads among what crosses the cut before it, and the outputs are there at the end."""
    for seed in range(300):
        steps, outputs, taps = drawn(seed)
        cuts = Cuts(steps, outputs, taps)
        assert run(steps, cuts, cuts.choose(finer=finer), outputs) == outputs


@pytest.mark.parametrize("finer", [False, True])
def test_what_is_overwritten_stays_with_what_overwrites_it(finer: bool) -> None:
    """No chosen cut, taps apart, has a step behind it that writes into memory made before it."""
    for seed in range(300):
        steps, outputs, taps = drawn(seed)
        for cut in set(Cuts(steps, outputs, taps).choose(finer=finer)) - set(taps):
            late = [t for step in steps[cut + 1 :] for t in step.writes]
            assert all(source(steps, target) > cut for target in late)


def test_whole_stages_hold_a_product_and_pass_one_tensor() -> None:
    """Without taps, what crosses is one tensor, and every stage has a product, unless there is none at all."""
    for seed in range(300):
        steps, outputs, _ = drawn(seed)
        cuts = Cuts(steps, outputs)
        bounds = [-1, *cuts.choose(finer=False), len(steps) - 1]
        assert all(len(cuts.crossing(cut)) == 1 for cut in bounds[1:-1])
        for first, second in zip(bounds, bounds[1:], strict=False):
            assert len(bounds) == 2 or any(step.product for step in steps[first + 1 : second + 1])


def test_finer_cuts_include_the_whole_ones() -> None:
    """Cutting finer keeps all cuts between whole stages and gives each stage one product at most, unless one is overwritten."""
    for seed in range(300):
        steps, outputs, taps = drawn(seed)
        cuts = Cuts(steps, outputs, taps)
        finer = cuts.choose(finer=True)
        assert set(cuts.choose(finer=False)) <= set(finer)
        closed = any(cuts.overwriter(cut) is not None for cut in range(len(steps) - 1))
        bounds = [-1, *finer, len(steps) - 1]
        counts = [sum(s.product for s in steps[a + 1 : b + 1]) for a, b in zip(bounds, bounds[1:], strict=False)]
        assert closed or max(counts) <= 1


def test_a_tap_crosses_first() -> None:
    """Where several values cross behind a tap, the tap is the first of them."""
    steps = [Step(view=True), Step(reads=(0,), product=True), Step(reads=(1,), product=True), Step(reads=(1, 2))]
    assert Cuts(steps, [3], [2]).crossing(2) == [2, 1]
    assert Cuts(steps, [3]).crossing(2) == [1, 2]


def test_attributes_do_not_cross() -> None:
    """What every stage can read anew is no part of a state."""
    steps = [
        Step(view=True),
        Step(constant=True, view=True),
        Step(reads=(0, 1), product=True),
        Step(reads=(1, 2), product=True),
    ]
    cuts = Cuts(steps, [3])
    assert cuts.choose(finer=False) == [2]
    assert cuts.crossing(2) == [2]


def test_a_sum_goes_with_the_product_before_it() -> None:
    """Behind a product that is only added to something there is one cut, after the sum."""
    steps = [
        Step(view=True),
        Step(reads=(0,)),
        Step(reads=(1,), product=True),
        Step(reads=(0, 2), light=True),
        Step(reads=(3,)),
        Step(reads=(3, 4), product=True),
    ]
    assert Cuts(steps, [5]).choose(finer=True) == [3]
    heavy = [*steps[:3], Step(reads=(0, 2)), *steps[4:]]
    assert Cuts(heavy, [5]).choose(finer=True) == [2, 3]
