"""Which schedule a step follows: one that is written down, or the cheapest that fits the budget, by the labels at hand."""

from collections.abc import Collection, Iterable, Sequence

from ubertrain.data.batch import Batch
from ubertrain.engine.graph import Graph
from ubertrain.errors import BudgetError, ConfigError, UbertrainError
from ubertrain.measuring.chain_cache import remembered
from ubertrain.measuring.fit import fit
from ubertrain.measuring.timeline import Timeline, rehearse_timeline
from ubertrain.planning.chain import Chain
from ubertrain.planning.plan import plan
from ubertrain.planning.schedule import Schedule
from ubertrain.planning.simulate import simulate
from ubertrain.training.config import Config
from ubertrain.training.memory import parse_schedule, rounding_on, static_bytes, whole_budget
from ubertrain.training.precision import autocast_of
from ubertrain.units import format_bytes


class Planner:
    """Has a schedule for every set of labelled tasks.

    Without a chain it is always the one given. With one, a batch that labels some of the tasks gets a schedule of its own,
    planned in the same budget from the numbers of the full step, without the parts that do not run: some hundredths of a
    second when a set of tasks is met for the first time. Fewer branches leave more memory to the trunk, and less of it is run
    again.

    Why the budget holds: the numbers are those of a step that labels every image for every task, a simulated peak is never
    below the engine's, and a step with fewer labelled images needs no more than one with all of them. What can need more is a
    batch with fuller labels than those that were measured (an image with more boxes), or one whose labelled images are not
    neighbours, which are copied; batches are ordered so that they are.

    Schedules do not change results: on a CPU losses and gradients are the same bits by any of them, so a run may be resumed
    under another budget. The exception is a branch that runs in parts (`rows=k`), whose gradients agree to rounding. A resumed
    run therefore adopts the schedules it was saved with, as long as nothing that they were planned for has changed.

    Args:
        schedule: for all tasks.
        chain: the step that labels every image for every task.
        limit: bytes that a step may take by `chain`'s simulation.
        rehearsed: the step of `chain` by `schedule`.

    Attributes:
        schedule: for all tasks.
        chain, rehearsed: as given; None if no budget was fitted.
    """

    def __init__(
        self, schedule: Schedule, chain: Chain | None = None, limit: int | None = None, rehearsed: Timeline | None = None
    ) -> None:
        self.schedule, self.chain, self.rehearsed = schedule, chain, rehearsed
        self._limit = limit
        self._found: dict[frozenset[str], Schedule] = {}

    def schedule_for(self, tasks: Collection[str]) -> Schedule:
        """The schedule of a batch that labels `tasks`."""
        if self.chain is None:
            return self.schedule
        wanted = frozenset(tasks)
        if wanted not in self._found:
            self._found[wanted] = self._plan(self.chain, wanted)
        return self._found[wanted]

    def found(self) -> list[tuple[list[str], str]]:
        """(tasks, schedule) of what has been asked for so far, plain data."""
        return [(sorted(tasks), str(schedule)) for tasks, schedule in self._found.items()]

    def adopt(self, found: Iterable[tuple[Sequence[str], str]]) -> None:
        """Answer as another planner, which has `found`, did."""
        self._found |= {frozenset(tasks): Schedule.parse(text) for tasks, text in found}

    def _plan(self, chain: Chain, tasks: frozenset[str]) -> Schedule:
        if not tasks or tasks >= {branch.task for branch in chain.branches}:
            return self.schedule
        try:
            return plan(chain.only(tasks), self._limit)
        except BudgetError:  # the full schedule fits by its rehearsal alone; what it does for fewer tasks is less
            return self.schedule


def make_planner(config: Config, graph: Graph, batch: Batch | None) -> Planner:
    """The planner that `config.memory` asks for.

    Args:
        config: the experiment.
        graph: what it trains.
        batch: as `full_batch` makes it, on the graph's device; needed for a budget alone.

    Raises:
        BudgetError: no schedule fits the budget; names the smallest budget of the whole device that one does.
        ConfigError: the schedule is none, or does not fit the graph.
    """
    budget = whole_budget(config, graph)
    if budget is not None:
        assert batch is not None, "a budget is fitted to a batch"
        return fit_whole(config, graph, batch, budget)
    text = config.memory.schedule or "keep_all"
    try:
        return Planner(parse_schedule(text, graph))
    except UbertrainError as error:
        raise ConfigError(f"{config.where('memory', 'schedule')}: memory.schedule: {error}") from error


def fit_whole(
    config: Config, graph: Graph, batch: Batch, budget: int, *, planner: str = "optimal", rounding: int | None = None
) -> Planner:
    """A planner for a budget of the whole device: what is static comes off before schedules are fitted.

    Args:
        config, graph, batch: as in `make_planner`.
        budget: in bytes.
        planner: see `plan`.
        rounding: see `estimate`; left out: what the graph's device rounds to.

    Raises:
        BudgetError: as `make_planner`.
    """
    device = batch.images.device
    rounding = rounding_on(device) if rounding is None else rounding
    static = static_bytes(graph, config, rounding).total
    with autocast_of(config, device):
        chain = remembered(graph, batch.images, batch.targets, cost=config.memory.cost, rounding=rounding)
        limit = max(budget - static, 0)
        split = config.memory.split_batch
        try:
            schedule, rehearsed = _fitted(graph, batch, chain, limit, planner=planner, rounding=rounding, split_batch=split)
        except BudgetError as error:
            raise _too_small(config, chain, error, budget, static) from error
    if schedule.rows is None:  # where the simulation is short, other schedules are held to what it is short by
        limit = min(limit, max(limit - rehearsed.peak_bytes + simulate(chain, schedule).peak_bytes, 0))
    return Planner(schedule, chain, limit, rehearsed)


def _fitted(
    graph: Graph, batch: Batch, chain: Chain, limit: int, *, planner: str, rounding: int, split_batch: bool
) -> tuple[Schedule, Timeline]:
    """As `fit`, with the rehearsal that proves the schedule; where the plan is right at once, that is the only one."""
    if not split_batch:
        schedule = plan(chain, limit, planner)
        rehearsed = rehearse_timeline(graph, schedule, batch.images, batch.targets, rounding=rounding)
        if rehearsed.peak_bytes <= limit:
            return schedule, rehearsed
    schedule = fit(
        graph,
        batch.images,
        batch.targets,
        budget=limit,
        planner=planner,
        rounding=rounding,
        split_batch=split_batch,
        chain=chain,
    )
    return schedule, rehearse_timeline(graph, schedule, batch.images, batch.targets, rounding=rounding)


def _too_small(config: Config, chain: Chain, error: BudgetError, budget: int, static: int) -> BudgetError:
    """The same error in bytes of the whole device, with the keys that would help."""
    given = f"{config.where('memory', 'budget')}: a memory.budget of {format_bytes(budget)}"
    if not isinstance(error.schedule, Schedule) or error.schedule.rows is not None:
        smallest = None if error.smallest is None else static + error.smallest
        said = (
            "" if smallest is None else f". The smallest feasible memory.budget is {smallest} bytes ({format_bytes(smallest)})"
        )
        text = f"{given}, of which weights, gradients and optimizer take {format_bytes(static)}: {error}{said}"
        return BudgetError(text, smallest=smallest, schedule=error.schedule)
    usage = simulate(chain, error.schedule)
    step, moment, smallest = usage.peak_bytes, usage.at_peak.what, static + usage.peak_bytes
    kind, _, name = moment.partition(" ")
    head = f", or a narrower head in tasks.{name}" if kind == "branch" else ""
    return BudgetError(
        f"{given} is too small: weights, gradients and optimizer take {format_bytes(static)}, and a step needs "
        f"{format_bytes(step)} on top, at {moment!r}. The smallest feasible memory.budget is {smallest} bytes "
        f"({format_bytes(smallest)}). Raise it to that, or choose a smaller data.batch (now {config.data.batch}) or data.size "
        f"(now {list(config.data.size)}){head}",
        smallest=smallest,
        schedule=error.schedule,
    )
