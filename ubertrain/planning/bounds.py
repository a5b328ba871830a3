"""What to say when a budget is too small: how much is needed, by which moment of the step, and what would lower it."""

from __future__ import annotations

from ubertrain.errors import BudgetError
from ubertrain.planning.chain import Chain
from ubertrain.planning.schedule import Schedule
from ubertrain.planning.simulate import simulate
from ubertrain.units import format_bytes


def too_small(chain: Chain, budget: int, planner: str, smallest: Schedule) -> BudgetError:
    """The error for a budget that no schedule of a planner meets.

    Args:
        chain: the step's measures.
        budget: in bytes.
        planner: its name.
        smallest: the planner's schedule of least peak.
    """
    usage = simulate(chain, smallest)
    peak, moment = usage.peak_bytes, usage.at_peak.what
    more = "" if planner == "optimal" else ", or planner='optimal'"
    return BudgetError(
        f"no schedule by planner {planner!r} keeps this step's activations within {format_bytes(budget)} ({budget} bytes); "
        f"the smallest feasible budget is {format_bytes(peak)} ({peak} bytes), needed at {moment!r}. Raise the budget to that, "
        f"or lower what this moment needs: {_remedies(chain, moment)}{more}",
        smallest=peak,
        schedule=smallest,
    )


def _remedies(chain: Chain, moment: str) -> str:
    """What would lower the bytes of a moment, the surest first."""
    remedies = [f"fewer images (now {chain.batch}) or smaller ones"]
    tapped = {tap for branch in chain.branches for tap in branch.taps}
    branch = next((branch for branch in chain.branches if moment == f"branch {branch.task}"), None)
    if moment.startswith("pull "):
        remedies.append("heads that do not read this level")
    elif branch is None:
        remedies.append("finer stages, ut.split(..., finer=True)")
    elif branch.heads:
        remedies.append(f"finer stages in the head of task {branch.task!r}, or a smaller one")
    elif branch.one_row is None and branch.rows > 1:
        remedies.append(f"a head of task {branch.task!r} that couples no images and so can run a few rows at a time")
    else:
        remedies.append(f"a smaller head of task {branch.task!r}")
    if len(tapped) > 1:
        remedies.append(f"fewer taps (now {', '.join(chain.stages[tap].name for tap in sorted(tapped))})")
    return "; ".join(remedies)
