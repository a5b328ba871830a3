"""What a configuration will need, before it is trained."""

from dataclasses import dataclass

from ubertrain.planning.schedule import Schedule
from ubertrain.training.build import make_model, make_readers, prepare
from ubertrain.training.comparison import Comparison, compare_memory
from ubertrain.training.config import Config
from ubertrain.training.device import device_of, on_device
from ubertrain.training.memory import Candidate, StaticBytes, candidates, choose_schedule, full_batch, static_bytes
from ubertrain.training.precision import autocast_of


@dataclass(frozen=True)
class Plan:
    """The schedules at hand and the one that training will follow.

    Attributes:
        static: bytes that every schedule needs.
        candidates: what else each of them needs.
        chosen: by the configuration.
        memory: `chosen` against plain autograd, measured; empty if that was not asked for.
    """

    static: StaticBytes
    candidates: list[Candidate]
    chosen: Schedule
    memory: list[Comparison]


def make_plan(config: Config, *, measure: bool = False) -> Plan:
    """Rehearse every candidate on a batch whose every image has every label.

    Args:
        config: the experiment; its data sets must exist, for one label of each task.
        measure: also run real steps.

    Raises:
        BudgetError: nothing fits the configuration's budget; names the smallest that something fits.
    """
    prepare(config)
    sets = make_readers(config, "train")
    model = make_model(config, sets)
    batch = on_device(full_batch(model.config, model.tasks, sets), device_of(config))
    with autocast_of(model.config, batch.images.device):
        found = candidates(model.graph, batch)
    chosen = choose_schedule(model.config, model.graph, batch)
    memory = compare_memory(model.graph, chosen, batch) if measure else []
    return Plan(static_bytes(model.graph, model.config), found, chosen, memory)
