"""What a plan says, against simulation, rehearsal and real steps."""

import json
from pathlib import Path

import pytest

from tests.measuring.test_head_cost import dense
from tests.training.rooms_model import DENSE, config_of, made
from ubertrain.errors import ConfigError
from ubertrain.measuring.devices import device_memory
from ubertrain.measuring.estimate import estimate
from ubertrain.measuring.rehearse import rehearse
from ubertrain.planning.schedule import Schedule
from ubertrain.planning.simulate import simulate
from ubertrain.training.memory import static_bytes
from ubertrain.training.plan import make_plan
from ubertrain.training.plan_lines import KEPT, PRODUCTS, RECOMPUTED, branch_lines, stage_lines, work_text

BRANCHES = "segmentation rows=1, depth, normals late"


@pytest.mark.parametrize(
    "trunk",
    ["res2 res3 res4 res5", "[res2] [res3] res4 [res5]", "(res2) (res3) (res4) (res5)", "(res2 res3) (res4 res5)",
     "((res2 res3) res4) res5", "(res2 (res3 res4) res5)", "res2 (res3 (res4 res5))", "([res2] [res3] res4) res5"],
)  # fmt: skip
def test_added_work_sums_up_to_the_simulations(tmp_path: Path, trunk: str) -> None:
    """What the stages add, each by itself, is all that the schedule adds."""
    model, batch = made(tmp_path, DENSE)
    chain = estimate(model.graph, batch.images, batch.targets, cost="flops")
    schedule = Schedule.parse(f"{trunk} | {BRANCHES}")
    lines = stage_lines(chain, schedule)
    assert [line.name for line in lines] == list(schedule.stages)
    assert [line.again for line in lines] == list(schedule.recomputed().values())
    assert sum(line.added for line in lines) == pytest.approx(simulate(chain, schedule).recompute_work, abs=1e-3)


def test_held_bytes_are_those_after_the_forward(tmp_path: Path) -> None:
    """What stages spare by keeping their products or as a span is what the trunk leaves less than if it keeps everything."""
    model, batch = made(tmp_path, DENSE)
    chain = estimate(model.graph, batch.images, batch.targets, cost="flops")

    def left(trunk: str) -> int:
        timeline = simulate(chain, Schedule.parse(f"{trunk} | {BRANCHES}")).timeline
        return next(moment.live_bytes for moment in timeline if moment.what == "forward res5")

    lines = stage_lines(chain, Schedule.parse(f"[res2] (res3 res4) res5 | {BRANCHES}"))
    assert [line.how for line in lines] == [PRODUCTS, RECOMPUTED, RECOMPUTED, KEPT]
    tap = chain.held(0, 1)  # the value of res3 waits for its branches
    copies = sum(chain.stages[number].noted for number in (1, 2))
    spared = sum(line.whole - line.holds for line in lines)
    assert left("res2 res3 res4 res5") - left("[res2] (res3 res4) res5") == spared - tap - copies


def test_branches_say_how_they_run(tmp_path: Path) -> None:
    """Rows at a time, early or late, and the bytes on top of what is alive when they begin."""
    model, batch = made(tmp_path, DENSE)
    chain = estimate(model.graph, batch.images, batch.targets, cost="flops")
    schedule = Schedule.parse(f"res2 res3 res4 res5 | {BRANCHES}")
    lines = {line.task: line for line in branch_lines(chain, schedule, simulate(chain, schedule))}
    assert [(line.at_a_time, line.way) for line in lines.values()] == [(1, "at the top"), (4, "at the top"), (4, "late")]
    assert lines["depth"].taps == ("res3", "res4")
    whole = Schedule.parse("res2 res3 res4 res5 | segmentation, depth, normals late")
    wide = {line.task: line for line in branch_lines(chain, whole, simulate(chain, whole))}
    assert wide["segmentation"].bytes > lines["segmentation"].bytes
    assert wide["depth"].bytes == lines["depth"].bytes


def test_a_head_that_recomputes_says_so_and_what_it_adds() -> None:
    """Its stages as a schedule writes them; trunk and heads together add all that the schedule adds."""
    case = dense()
    chain = estimate(case.graph, case.images, case.targets, cost="flops")
    schedule = Schedule.parse("(stem) last | a: 0 (1 2) [3] 4 5 6, b")
    usage = simulate(chain, schedule)
    heads = branch_lines(chain, schedule, usage)
    assert [line.head for line in heads] == ["0 (1 2) [3] 4 5 6", ""]
    assert heads[0].added > 0 == heads[1].added
    added = sum(line.added for line in (*stage_lines(chain, schedule), *heads))
    assert added == pytest.approx(usage.recompute_work, abs=1e-3)


def test_stages_above_all_labels_do_not_run(tmp_path: Path) -> None:
    """They hold and cost nothing, also where they stand in a span with others."""
    model, batch = made(tmp_path, DENSE)
    chain = estimate(model.graph, batch.images, batch.targets, cost="flops").only(["segmentation"])
    schedule = Schedule.parse("res2 (res3 res4 res5) | segmentation")
    lines = stage_lines(chain, schedule)
    assert [line.how for line in lines[2:]] == ["does not run"] * 2
    assert sum(line.added for line in lines) == pytest.approx(simulate(chain, schedule).recompute_work, abs=1e-3)


def test_the_peak_is_the_rehearsed_one_of_the_schedule(tmp_path: Path) -> None:
    """Without a budget nothing is recomputed; the plan tells the exact peak of that, and fits it in a budget of as much."""
    free = make_plan(config_of(tmp_path, DENSE))
    model, batch = made(tmp_path, DENSE)
    assert free.budget is None
    assert set(free.schedule.recomputed().values()) == {0}
    assert free.peak_bytes == rehearse(model.graph, free.schedule, batch.images, batch.targets)
    assert free.rehearsed.at_peak.peak_bytes == free.peak_bytes
    tight = make_plan(config_of(tmp_path, DENSE, f"memory.budget={free.static.total + free.front[0].peak_bytes}"))
    assert tight.peak_bytes <= free.front[0].peak_bytes < free.peak_bytes
    assert tight.front == free.front


def test_a_schedule_of_finer_stages_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    """The exact peak and its moments are there; the table of stages, which the numbers do not tell, is not."""
    plan = make_plan(config_of(tmp_path, DENSE, "memory.schedule='(res2.normalise res2.block) res3 res4 res5'"))
    assert plan.usage is None
    assert plan.stages == ()
    assert plan.peak_bytes == max(moment.peak_bytes for moment in plan.rehearsed.timeline) > 0


def test_everything_is_in_the_json(tmp_path: Path) -> None:
    """It can be written and read, and holds schedule, front, timeline and chain."""
    plan = make_plan(config_of(tmp_path, DENSE, "memory.budget=1GiB"), measure=True)
    values = json.loads(json.dumps(plan.as_json()))
    assert values["chosen"]["schedule"] == str(plan.schedule)
    assert values["chosen"]["peak_bytes"] == values["memory"][-1]["ours"]
    assert values["plain"]["peak_bytes"] == values["memory"][-1]["autograd"]
    assert max(moment["peak_bytes"] for moment in values["timeline"]) == plan.peak_bytes
    assert {"front", "stages", "branches", "chain", "static", "budget"} <= values.keys()


def test_a_device_that_is_not_there_is_planned_for(tmp_path: Path) -> None:
    """Its memory is the budget, its roofline counts seconds, and bytes are rounded as its allocator rounds them."""
    plan = make_plan(config_of(tmp_path, DENSE, "device=cuda", "memory.cost=auto"), device="h100")
    assert plan.device == "h100"
    assert plan.budget == int(0.9 * device_memory("h100"))
    assert plan.chain.unit == "seconds"
    model, _ = made(tmp_path, DENSE)
    assert plan.static == static_bytes(model.graph, model.config, 512)
    assert plan.peak_bytes % 512 == 0


@pytest.mark.parametrize(("override", "budget"), [("memory.budget=5MiB", 5 * 2**20), ("memory.schedule=keep_all", None)])
def test_what_the_configuration_asks_for_stands_on_any_device(tmp_path: Path, override: str, budget: int | None) -> None:
    """A number of bytes or a schedule is what training will follow there, too."""
    plan = make_plan(config_of(tmp_path, DENSE, override), device="a100-40gb")
    assert plan.budget == budget
    assert plan.chain.unit == "FLOPs", "as the configuration says"


def test_an_absent_device_is_not_measured(tmp_path: Path) -> None:
    """A real step would be one of this machine."""
    with pytest.raises(ConfigError, match="a step cannot be measured on 'h100', which is planned for only"):
        make_plan(config_of(tmp_path, DENSE), device="h100", measure=True)


@pytest.mark.parametrize(
    ("work", "unit", "text"),
    [(1.5, "seconds", "1.5 s"), (0.0123, "seconds", "12.3 ms"), (4e-7, "seconds", "0.4 us"), (0, "seconds", "0 us"),
     (3.21e9, "FLOPs", "3.21 GFLOPs"), (1e13, "FLOPs", "10 TFLOPs"), (-2e-3, "seconds", "-2 ms")],
)  # fmt: skip
def test_work_is_told_in_a_unit_of_its_size(work: float, unit: str, text: str) -> None:
    """Three digits are enough."""
    assert work_text(work, unit) == text
