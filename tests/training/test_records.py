"""What a run writes down."""

import json
import math
from pathlib import Path

import pytest

from ubertrain.training.records import JsonLines, StepRecord, TensorBoard, finite


def record(step: int) -> StepRecord:
    """A record in which the speed was not measured."""
    return StepRecord(step, {"depth": 0.5}, 0.01, math.inf, None, 1024, {"rooms": 8 * step}, 0)


def lines(path: Path) -> list[dict[str, object]]:
    """What stands in the file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_event_is_a_line_of_json(tmp_path: Path) -> None:
    """Steps, evaluations and notes are one object each, and what is not finite is null."""
    log = JsonLines(tmp_path / "metrics.jsonl")
    log.evaluated(0, {"depth": {"AbsRel": math.nan}})
    log.stepped(record(1))
    log.noted("left out: a")
    log.close()
    evaluation, step, note = lines(tmp_path / "metrics.jsonl")
    assert evaluation == {"event": "evaluation", "step": 0, "scores": {"depth": {"AbsRel": None}}}
    assert step["losses"] == {"depth": 0.5}
    assert step["gradient_norm"] is None
    assert note == {"event": "note", "text": "left out: a"}


def test_a_resumed_run_takes_back_what_it_repeats(tmp_path: Path) -> None:
    """Lines of steps after the saved state, and one that a kill cut short, are dropped."""
    log = JsonLines(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        log.stepped(record(step))
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "step", "st')
    log = JsonLines(tmp_path / "metrics.jsonl", resumed_at=2)
    log.stepped(record(3))
    log.close()
    assert [line["step"] for line in lines(tmp_path / "metrics.jsonl")] == [1, 2, 3]


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    """Every number of a record and an evaluation is an event."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = TensorBoard(tmp_path)
    log.stepped(record(1))
    log.evaluated(1, {"depth": {"AbsRel": 0.25}})
    log.noted("hello")
    log.close()
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) == {"loss/depth", "lr", "gradient_norm", "peak_bytes", "depth/AbsRel"}
    assert events.Scalars("depth/AbsRel")[0].value == 0.25


def test_tensorboard_forgets_what_is_trained_again(tmp_path: Path) -> None:
    """Steps after the saved state appear once, as the resumed run took them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for resumed_at, steps in ((0, (1, 2, 3, 4)), (2, (3, 4))):
        log = TensorBoard(tmp_path, resumed_at)
        for step in steps:
            log.stepped(record(step))
        log.close()
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("lr")] == [1, 2, 3, 4]


def test_finite_reaches_everywhere() -> None:
    """Numbers that JSON has no word for become None at any depth."""
    assert finite({"a": [1.0, math.nan, (math.inf, "x")]}) == {"a": [1.0, None, [None, "x"]]}
