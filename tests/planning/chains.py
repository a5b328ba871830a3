"""Chains drawn at random, with sizes of a few bytes, and every schedule of such a chain."""

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import combinations, product

from ubertrain.planning.chain import BranchCost, Chain, HeadCost, Keeping, NarrowCost, Narrowed, StageCost
from ubertrain.planning.schedule import BranchRun, Item, Products, Schedule, Span


def stage(name: str, number: int, **changes: object) -> StageCost:
    """A stage whose output is 4 bytes of its own, that keeps 6 and needs 2 more while it runs."""
    cost = StageCost(name, ((number, 4),), 4, Keeping(6, 8, 14, 20.0), None, 6, 0, 4, 16, 0, 10.0, 8.0)
    return replace(cost, **changes)  # type: ignore[arg-type]


def branch(task: str, *taps: int, **changes: object) -> BranchCost:
    """A branch that couples its images, on taps of 4 bytes of gradient."""
    total = 4 * len(taps)
    cost = BranchCost(task, taps, 2, 12 + total, 12 + total, None, 0, 1, len(taps) == 1, 5.0)
    return replace(cost, **changes)  # type: ignore[arg-type]


def chain_of(stages: tuple[StageCost, ...], branches: tuple[BranchCost, ...], unused: tuple[str, ...] = ()) -> Chain:
    """A chain in FLOPs, of which plain autograd is said to need nothing."""
    return Chain(stages, unused, branches, tuple(branch.task for branch in branches), "FLOPs", 0, 0.0, 2)


def drawn_chain(seed: int, count: int, noted: int = 0, simple: bool = False) -> Chain:
    """`count` stages with one to three branches: values handed on, frozen stages, several taps, heads in rows.

    Args:
        seed: another chain for each.
        count: stages.
        noted: most bytes of copied buffers a stage.
        simple: no value is handed on, none is kept in part, and one branch runs at the top, on the last stage.
    """
    draw = random.Random(seed)
    stages = tuple(_drawn_stage(draw, number, noted) for number in range(count))
    if simple:
        plain = tuple(replace(stage, output=stage.output[:1], products=None) for stage in stages)
        return chain_of(plain, (branch("t0", count - 1, may_be_late=False),))
    branches = [_drawn_branch(draw, task, stages, last=task == "t0") for task in ("t0", "t1", "t2")[: draw.randint(1, 3)]]
    draw.shuffle(branches)
    others = random.Random(seed + 1000 * count)  # so that chains without narrow branches stay as they were
    return chain_of(stages, tuple(replace(branch, narrow=_drawn_narrow(others, branch, stages)) for branch in branches))


def drawn_chain_with_a_head(seed: int, count: int) -> Chain:
    """The same, and one branch that couples its images has a head of one to three stages."""
    chain, draw = drawn_chain(seed, count), random.Random(seed)
    place = draw.randrange(len(chain.branches))
    branches = list(chain.branches)
    branches[place] = replace(branches[place], one_row=None, heads=(_drawn_head(draw, branches[place], chain.stages),))
    return replace(chain, branches=tuple(branches))


def _drawn_head(draw: random.Random, branch: BranchCost, stages: tuple[StageCost, ...]) -> HeadCost:
    """Its stages need less than the branch as a whole, most of the time; stage 0 needs more where it makes the sums."""
    drawn = [_drawn_stage(draw, number, 0) for number in range(draw.randint(1, 3))]
    drawn[-1] = replace(drawn[-1], output=())
    total, extra = sum(stages[tap].gradient for tap in branch.taps), draw.randint(0, 4)
    first, products = drawn[0], drawn[0].products
    first = replace(
        first,
        whole=replace(first.whole, backward_peak=first.whole.backward_peak + total + extra),
        products=products and replace(products, backward_peak=products.backward_peak + total + extra),
        tail_peak=first.tail_peak + total + draw.randint(0, 4),
    )
    return HeadCost(draw.randint(0, 2), tuple(drawn), first, draw.randint(1, 12), draw.randint(0, 1), 1.0)


def _drawn_narrow(draw: random.Random, branch: BranchCost, stages: tuple[StageCost, ...]) -> NarrowCost | None:
    if draw.random() < 0.2:
        return None
    levels = []
    for tap in branch.taps:
        held, gradient = draw.randint(0, 3), draw.randint(0, 3)
        peaks = [gradient + stages[tap].gradient + draw.randint(0, 4), gradient + stages[tap].gradient + draw.randint(0, 6)]
        levels.append(Narrowed(held, gradient, held + draw.randint(0, 4), *peaks))
    return NarrowCost(tuple(levels), draw.randint(1, 20), float(draw.randint(1, 3)))


def _drawn_stage(draw: random.Random, number: int, noted: int) -> StageCost:
    own = draw.randint(1, 9)
    output = [(number, own)]
    if number and draw.random() < 0.3:
        output.append((draw.randint(max(0, number - 2), number - 1), draw.randint(1, 4)))
    gradient = 0 if draw.random() < 0.2 else own
    kept = own + draw.randint(0, 12)
    peak, forward = own + draw.randint(0, 4), draw.randint(1, 20)
    whole = Keeping(kept, kept + draw.randint(0, 3), kept + gradient + draw.randint(0, 8), float(2 * forward * (gradient > 0)))
    products = None
    if draw.random() < 0.5:
        part = draw.randint(own, kept)
        more = whole.backward + draw.randint(0, 6)
        products = Keeping(part, kept + draw.randint(0, 5), kept + gradient + draw.randint(0, 9), more)
    return StageCost(
        name=f"s{number}",
        output=tuple(output),
        gradient=gradient,
        whole=whole,
        products=products,
        pass_peak=peak,
        noted=draw.randint(0, noted),
        pending=draw.choice([0, gradient, gradient, own]),
        tail_peak=max(whole.forward_peak, whole.backward_peak) + draw.randint(0, 3),
        meeting=draw.randint(0, 3),
        forward=float(forward),
        partial=float(draw.randint(0, forward)),
    )


def _drawn_branch(draw: random.Random, task: str, stages: tuple[StageCost, ...], last: bool) -> BranchCost:
    taps = {len(stages) - 1} if last else {draw.randrange(len(stages))}
    if draw.random() < 0.3:
        taps.add(draw.randrange(len(stages)))
    ordered = tuple(sorted(taps))
    total = sum(stages[tap].gradient for tap in ordered)
    need, rows = total + draw.randint(1, 25), draw.randint(1, 4)
    one = total + draw.randint(1, 12) if draw.random() < 0.4 else None
    return BranchCost(
        task=task,
        taps=ordered,
        rows=rows,
        first_peak=need,
        later_peak=need + draw.randint(0, 3),
        one_row=one,
        per_row=draw.randint(1, 8),
        left=draw.randint(0, 2),
        may_be_late=len(taps) == 1 and draw.random() < 0.7,
        work=float(draw.randint(1, 9)),
    )


def every_schedule(chain: Chain) -> Iterator[Schedule]:
    """All schedules of the programme's class, every branch narrow, whole, one row at a time or stage by stage.

    Left out are spans that end a span, and products kept there: they mean what their insides mean.
    """
    for items in _lists(0, len(chain.stages), chain.stages, in_span=False):
        for late, narrow in product(_late_sets(chain), _narrow_sets(chain)):
            for rows in product(*(((None, 1) if branch.one_row is not None else (None,)) for branch in chain.branches)):
                runs = [
                    BranchRun(branch.task, part, branch.may_be_late and set(branch.taps) <= late)
                    for branch, part in zip(chain.branches, rows, strict=True)
                ]
                if any(run.task in narrow and run.rows for run in runs):
                    continue
                runs = [BranchRun(run.task, narrow=True) if run.task in narrow else run for run in runs]
                for heads in product(*map(_head_lists, chain.branches)):
                    if not any(run.narrow and head for run, head in zip(runs, heads, strict=True)):
                        staged = (replace(run, head=head) for run, head in zip(runs, heads, strict=True))
                        yield Schedule((*items, *chain.unused), tuple(staged))


def _head_lists(branch: BranchCost) -> tuple[tuple[Item, ...], ...]:
    """Nothing, and all lists of items over the stages of a head."""
    return ((), *(found for head in branch.heads for found in _lists(0, len(head.stages), head.stages, in_span=False)))


def _late_sets(chain: Chain) -> Iterator[set[int]]:
    taps = {branch.taps[0] for branch in chain.branches if branch.may_be_late}
    able = [tap for tap in taps if all(branch.may_be_late for branch in chain.branches if tap in branch.taps)]
    return (set(late) for size in range(len(able) + 1) for late in combinations(able, size))


def _narrow_sets(chain: Chain) -> list[set[str]]:
    """Sets of branches none of which shares a tap with another, or could run late with all that do."""
    late = max(_late_sets(chain), key=len)
    may = [branch for branch in chain.branches if branch.narrow and not set(branch.taps) <= late]
    sets = [set(chosen) for size in range(len(may) + 1) for chosen in combinations(may, size)]
    taps = [({tap for b in chosen for tap in b.taps}, {tap for b in chain.branches if b not in chosen for tap in b.taps})
            for chosen in sets]  # fmt: skip
    return [{branch.task for branch in chosen} for chosen, (ours, theirs) in zip(sets, taps, strict=True) if not ours & theirs]


@cache
def _lists(start: int, end: int, stages: tuple[StageCost, ...], in_span: bool) -> tuple[tuple[Item, ...], ...]:
    """All lists of items over stages `start` to `end` - 1."""
    if start == end:
        return ((),)
    found: list[tuple[Item, ...]] = []
    last = in_span and start == end - 1
    ways: list[Item] = [stages[start].name]
    if stages[start].products is not None and not last:
        ways.append(Products(stages[start].name))
    found += [(way, *rest) for way in ways for rest in _lists(start + 1, end, stages, in_span)]
    for stop in range(start + 1, end if in_span else end + 1):
        spans = [Span(inside) for inside in _lists(start, stop, stages, True)]
        found += [(span, *rest) for span in spans for rest in _lists(stop, end, stages, in_span)]
    return tuple(found)
