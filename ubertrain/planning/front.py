"""What every budget costs: the schedules of which none is beaten in both memory and work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ubertrain.planning.chain import Chain
from ubertrain.planning.families import family
from ubertrain.planning.keep_all import keep_all
from ubertrain.planning.plan import known_planner
from ubertrain.planning.schedule import Schedule
from ubertrain.planning.search import Found, Programme
from ubertrain.planning.simulate import simulate


@dataclass(frozen=True)
class Point:
    """One schedule of a front.

    Attributes:
        peak_bytes: simulated: the smallest budget that it fits.
        work: simulated, in the chain's unit.
        schedule: of the whole step.
    """

    peak_bytes: int
    work: float
    schedule: Schedule


def front(chain: Chain, planner: str = "optimal", count: int = 200) -> tuple[Point, ...]:
    """The Pareto front of a planner, from the smallest feasible peak to the least work: peaks rise and work falls.

    Args:
        chain: the step's measures.
        planner: one that `plan` knows.
        count: about how many schedules of the programme are looked at, spread over the whole range.

    Raises:
        ConfigError: there is no such planner.
    """
    known_planner(planner)
    if not chain.stages:
        schedule = keep_all(chain.names, chain.order)
        return (Point(0, simulate(chain, schedule).work, schedule),)
    if planner != "optimal":
        return tuple(Point(found.peak_bytes, found.work, found.schedule) for found in _unbeaten(family(chain, planner)))
    programme = Programme(chain)
    found = _unbeaten(programme.sample(count))
    return tuple(Point(one.peak_bytes, one.work, programme.schedule(one, one.peak_bytes)) for one in found)


def _unbeaten(all_found: Iterable[Found]) -> list[Found]:
    best: list[Found] = []
    for found in sorted(all_found, key=lambda found: (found.peak_bytes, found.work, found.rank)):
        if not best or found.work < best[-1].work:
            best.append(found)
    return best
