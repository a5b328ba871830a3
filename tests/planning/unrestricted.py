"""The least work of any sequence of runs, keeps and drops, nested or not: the shortest path over all that can be alive."""

from collections.abc import Iterator
from heapq import heappop, heappush

from ubertrain.planning.chain import Chain

State = tuple[int, str]
"""Stages whose backward is to come, count + 1 before the branch has run; per stage "-" nothing, "v" its value, "k" kept."""


def least_work(chain: Chain, budget: int) -> float:
    """Least work within `budget` bytes; infinite if nothing fits.

    Args:
        chain: one branch, at the top, on the last stage; no value is handed on, nothing is noted and no products are kept.
        budget: bytes.
    """
    count = len(chain.stages)
    start = (count + 1, "-" * count)
    queue: list[tuple[float, State]] = [(0.0, start)]
    done: set[State] = set()
    while queue:
        work, state = heappop(queue)
        if state[0] == 0:
            return work
        if state not in done:
            done.add(state)
            for more, peak, after in _moves(chain, *state):
                if peak <= budget and after not in done:
                    heappush(queue, (work + more, after))
    return float("inf")


def _moves(chain: Chain, rest: int, alive: str) -> Iterator[tuple[float, int, State]]:
    """(work, peak, next state) of everything that can be done now."""
    count, (branch,) = len(chain.stages), chain.branches
    before = rest == count + 1
    held = _bytes(chain, alive) + chain.starts + (0 if before else branch.left)
    top = count if before else rest - 1  # runs below this stage can be of use
    pending = 0 if before else chain.stages[rest - 1].pending
    for number, what in enumerate(alive):
        stage, pinned = chain.stages[number], alive[number + 1 : number + 2] == "k"
        if what == "k" or (what == "v" and not pinned):
            yield 0.0, 0, (rest, _put(alive, number, "v" if what == "k" else "-"))
        there = number == 0 or alive[number - 1] != "-"
        if what == "-" and there and number < top:
            yield stage.forward, held + pending + stage.pass_peak, (rest, _put(alive, number, "v"))
            yield stage.forward, held + pending + stage.whole.forward_peak, (rest, _put(alive, number, "k"))
    if before and alive[-1] != "-":
        yield branch.work, held + branch.first_peak, (count, alive)
    if not before:
        stage, what = chain.stages[rest - 1], alive[rest - 1]
        after = (rest - 1, _put(alive, rest - 1, "-"))
        if what == "k":
            yield stage.whole.backward, held - stage.whole.kept + stage.whole.backward_peak, after
        elif what == "-" and (rest == 1 or alive[rest - 2] != "-"):
            yield stage.partial + stage.whole.backward, held + stage.tail_peak, after


def _bytes(chain: Chain, alive: str) -> int:
    sizes = {"-": lambda stage: 0, "v": lambda stage: stage.output[0][1], "k": lambda stage: stage.whole.kept}
    return sum(sizes[what](stage) for what, stage in zip(alive, chain.stages, strict=True))


def _put(alive: str, number: int, what: str) -> str:
    return f"{alive[:number]}{what}{alive[number + 1 :]}"
