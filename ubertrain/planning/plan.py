"""From a chain and a budget to a schedule."""

from __future__ import annotations

from difflib import get_close_matches

from ubertrain.errors import ConfigError
from ubertrain.planning.bounds import too_small
from ubertrain.planning.chain import Chain
from ubertrain.planning.families import FAMILIES, family
from ubertrain.planning.keep_all import keep_all
from ubertrain.planning.schedule import Schedule
from ubertrain.planning.search import Programme
from ubertrain.planning.simulate import simulate
from ubertrain.units import parse_bytes

PLANNERS = ("optimal", *FAMILIES)
"""The names that `plan` knows."""


def plan(chain: Chain, budget: int | str | None = None, planner: str = "optimal") -> Schedule:
    """The schedule of least work within a budget.

    Among schedules of equal work the one that needs the least memory is taken, and then the simplest. More budget never means
    more work. Heads that do not couple their images run a few rows at a time if, and no further than, the budget demands it.

    Args:
        chain: the step's measures.
        budget: bytes of activations, what `LiveBytes` counts, as a number or like "6GiB"; None: nothing is saved that ordinary
            autograd keeps.
        planner: "optimal" finds the cheapest of all nested spans; "keep_all", "every_k" (Chen 2016), "per_stage" and "revolve"
            (Griewank and Walther 2000) give the cheapest of their kind that fits, to compare with.

    Raises:
        BudgetError: nothing fits; says what is needed, by what, and carries the `smallest` feasible budget and its `schedule`.
        ConfigError: the budget is no size, or there is no such planner.
    """
    known_planner(planner)
    if not chain.stages or (budget is None and planner == "optimal"):
        return keep_all(chain.names, chain.order)
    limit = None if budget is None else parse_bytes(budget)
    return plan_optimal(chain, Programme(chain), limit) if planner == "optimal" else _plan_family(chain, limit, planner)


def plan_optimal(chain: Chain, programme: Programme, budget: int | None) -> Schedule:
    """What `plan` answers with a programme that is solved already; asking it again is cheap.

    Args:
        chain: has at least one stage.
        programme: `Programme(chain)`.
        budget: in bytes.

    Raises:
        BudgetError: nothing fits.
    """
    everything = keep_all(chain.names, chain.order)
    if budget is None or simulate(chain, everything).peak_bytes <= budget:
        return everything
    found = programme.best(budget)
    if found is not None:
        return programme.schedule(found, budget)
    least = programme.smallest()
    raise too_small(chain, budget, "optimal", programme.schedule(least, least.peak_bytes))


def known_planner(planner: str) -> None:
    """Raises `ConfigError` for a name that is not in `PLANNERS`."""
    if planner not in PLANNERS:
        near = get_close_matches(planner, PLANNERS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"there is no planner {planner!r}; choose from {', '.join(PLANNERS)}{hint}")


def _plan_family(chain: Chain, budget: int | None, planner: str) -> Schedule:
    all_found = family(chain, planner)
    fitting = [found for found in all_found if budget is None or found.peak_bytes <= budget]
    if fitting:
        return min(fitting, key=lambda found: (found.work, found.rank)).schedule
    assert budget is not None
    raise too_small(chain, budget, planner, min(all_found, key=lambda found: found.peak_bytes).schedule)
