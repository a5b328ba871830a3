"""What a configuration will need, before it is trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from ubertrain.data.batch import Batch
from ubertrain.errors import ConfigError, ScheduleError
from ubertrain.measuring.chain_cache import remembered
from ubertrain.measuring.devices import device_memory
from ubertrain.measuring.timeline import Timeline, rehearse_timeline
from ubertrain.planning.chain import Chain
from ubertrain.planning.front import Point, front
from ubertrain.planning.schedule import Schedule
from ubertrain.planning.simulate import Usage, simulate
from ubertrain.training.build import Model, make_model, make_readers, prepare
from ubertrain.training.comparison import Comparison, compare_memory
from ubertrain.training.config import AUTO, Config
from ubertrain.training.device import device_of, on_device
from ubertrain.training.free_memory import SHARE
from ubertrain.training.fullest import full_batch
from ubertrain.training.memory import StaticBytes, rounding_on, static_bytes, whole_budget
from ubertrain.training.plan_lines import BranchLine, StageLine, branch_lines, stage_lines
from ubertrain.training.planner import fit_whole, make_planner
from ubertrain.training.precision import autocast_of


@dataclass(frozen=True)
class Plan:
    """A step whose every image has every label, by the schedule that training would follow.

    Attributes:
        device: "cpu", "cuda", or the device in the table that it is planned for.
        static: bytes that every schedule needs besides.
        budget: of the whole device, if there is one.
        chain: what is known of the step.
        schedule: what it keeps and recomputes.
        usage: what that needs by simulation; None where the schedule divides what `chain` measures as one, stages or batch.
        rehearsed: its exact peak, and what is alive when.
        front: what other budgets would cost, from the smallest feasible one up.
        stages: one line per stage, if there is a `usage`.
        branches: one line per branch, if there is a `usage`.
        memory: the schedule against plain autograd, measured; empty if that was not asked for.
    """

    device: str
    static: StaticBytes
    budget: int | None
    chain: Chain
    schedule: Schedule
    usage: Usage | None
    rehearsed: Timeline
    front: tuple[Point, ...]
    stages: tuple[StageLine, ...]
    branches: tuple[BranchLine, ...]
    memory: tuple[Comparison, ...] = ()

    @property
    def peak_bytes(self) -> int:
        """Of the step, exactly, static bytes not counted."""
        return self.rehearsed.peak_bytes

    def share_added(self, work: float) -> float:
        """How much more `work` is than that of plain autograd, as a share of it; negative if it is less."""
        return work / self.chain.plain_work - 1 if self.chain.plain_work else 0.0

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON can hold it."""
        points = [{**asdict(point), "schedule": str(point.schedule)} for point in self.front]
        added = None if self.usage is None else self.share_added(self.usage.work)
        chosen = {"schedule": str(self.schedule), "peak_bytes": self.peak_bytes, "added": added}
        work = {} if self.usage is None else {"work": self.usage.work, "recompute_work": self.usage.recompute_work}
        return {
            "device": self.device,
            "static": asdict(self.static),
            "budget": self.budget,
            "unit": self.chain.unit,
            "plain": {"peak_bytes": self.chain.plain_peak, "work": self.chain.plain_work},
            "chosen": {**chosen, **work, "moment": self.rehearsed.at_peak.what},
            "stages": [asdict(line) for line in self.stages],
            "branches": [asdict(line) for line in self.branches],
            "front": [{**point, "added": self.share_added(point["work"])} for point in points],
            "timeline": [asdict(moment) for moment in self.rehearsed.timeline],
            "chain": self.chain.to_dict(),
            "memory": [asdict(line) for line in self.memory],
        }


def make_plan(config: Config, *, device: str | None = None, planner: str = "optimal", measure: bool = False) -> Plan:
    """Plan a step whose every image has every label.

    Args:
        config: the experiment; its data sets must exist, for one label of each task.
        device: of the table of devices, which need not be there: seconds are those of its roofline, unless the configuration
            says what to count, and without a number of bytes in `memory.budget` the budget is the share of its memory that
            "auto" would take of it. Left out: the device of the configuration.
        planner: see `ubertrain.planning.plan`.
        measure: also run real steps.

    Raises:
        BudgetError: nothing fits the budget; names the smallest that something fits.
        ConfigError: no such device or planner.
    """
    if device is not None and measure:
        raise ConfigError(f"a step cannot be measured on {device!r}, which is planned for only; leave out one of the two")
    config = config if device is None else for_device(config, device)
    prepare(config)
    sets = make_readers(config, "train")
    model = make_model(config, sets)
    here = device_of(config)
    batch = on_device(full_batch(model.config, model.tasks, sets), here)
    rounding = rounding_on(torch.device("cuda") if device else here)
    plan = _plan(model, batch, device or str(here), planner, rounding)
    memory = compare_memory(model.graph, plan.schedule, batch) if measure else []
    return Plan(**{**vars(plan), "memory": tuple(memory)})


def for_device(config: Config, device: str) -> Config:
    """`config` as it is planned on this machine's CPU for a device of the table."""
    memory = config.memory
    update: dict[str, Any] = {} if memory.cost != AUTO else {"cost": device}
    if memory.budget == AUTO or (memory.budget is None and memory.schedule is None):
        update["budget"] = str(int(SHARE["cuda"] * device_memory(device)))
    changed = config.model_copy(update={"device": "cpu", "memory": memory.model_copy(update=update)})
    changed._origin = config._origin
    return changed


def _plan(model: Model, batch: Batch, device: str, planner: str, rounding: int) -> Plan:
    config, graph = model.config, model.graph
    budget = whole_budget(config, graph)
    if budget is None:
        found = make_planner(config, graph, None)
    else:
        found = fit_whole(config, graph, batch, budget, planner=planner, rounding=rounding)
    schedule, chain, rehearsed = found.schedule, found.chain, found.rehearsed
    if chain is None or rehearsed is None:
        with autocast_of(config, batch.images.device):
            chain = remembered(graph, batch.images, batch.targets, cost=config.memory.cost, rounding=rounding)
            rehearsed = rehearse_timeline(graph, schedule, batch.images, batch.targets, rounding=rounding)
    usage = _usage(chain, schedule)
    return Plan(
        device=device,
        static=static_bytes(graph, config, rounding),
        budget=budget,
        chain=chain,
        schedule=schedule,
        usage=usage,
        rehearsed=rehearsed,
        front=front(chain, planner),
        stages=tuple(stage_lines(chain, schedule)) if usage else (),
        branches=tuple(branch_lines(chain, schedule, usage)) if usage else (),
    )


def _usage(chain: Chain, schedule: Schedule) -> Usage | None:
    try:
        return simulate(chain, schedule)
    except ScheduleError:  # it was rehearsed, so it is right, but finer than the chain
        return None
