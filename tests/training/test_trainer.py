"""The training step: what it moves, what it leaves alone, and what survives when it fails."""

import copy
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.rooms import write_config, write_rooms
from ubertrain.data.batch import Batch
from ubertrain.engine.labels import Labels
from ubertrain.errors import NonFiniteError
from ubertrain.training.build import Model, make_loader, make_model, make_readers, prepare
from ubertrain.training.config import Config, load
from ubertrain.training.fullest import full_batch
from ubertrain.training.interrupt import Interrupted
from ubertrain.training.memory import parse_schedule, static_bytes
from ubertrain.training.planner import Planner, make_planner
from ubertrain.training.records import Listener, PeakRecord, StepRecord
from ubertrain.training.state import StateFolder
from ubertrain.training.trainer import Trainer

DENSE = {"segmentation": {"taps": ["res2", "res3"], "width": 8}, "depth": {"taps": ["res2", "res3"], "width": 8}}


class Rig:
    """A trainer on rooms with two dense tasks, and its batches."""

    def __init__(
        self,
        folder: Path,
        *overrides: str,
        listeners: Iterable[Listener] = (),
        schedule: str = "keep_all",
        batch_norm: bool = False,
    ) -> None:
        data = folder / "data"
        if not data.exists():
            write_rooms(data, parts=(("class_map",), ("depth",), ("class_map", "depth")))
        self.config: Config = load(write_config(folder, data, {"tasks": DENSE}), overrides)
        prepare(self.config)
        readers = make_readers(self.config, "train")
        self.model: Model = make_model(self.config, readers)
        if batch_norm:
            _put_batch_norm(self.model.graph.heads)
        self.batches = make_loader(self.config, self.model.tasks, readers).batches
        self.states = StateFolder(folder / "state")
        planner = Planner(parse_schedule(schedule, self.model.graph))
        if self.config.memory.budget:
            batch = full_batch(self.model.config, self.model.tasks, readers)
            planner = make_planner(self.config, self.model.graph, batch)
        self.trainer = Trainer(
            self.model.graph,
            planner,
            self.config,
            states=self.states,
            evaluate=dict,
            listeners=list(listeners),
        )

    def everything(self) -> dict[str, Any]:
        """Copies of weights, buffers, optimizer state and the counters."""
        optimizer = copy.deepcopy(self.trainer.optimizer.state_dict())
        weights = {name: tensor.clone() for name, tensor in self.model.graph.state_dict().items()}
        return {"weights": weights, "optimizer": optimizer, "step": self.trainer.step, "random": torch.get_rng_state()}

    def batch(self, *tasks: str) -> Batch:
        """The first batch with the labels of `tasks` alone."""
        batch = next(iter(self.batches(0)))
        return Batch(batch.images, {task: batch.targets[task] for task in tasks}, batch.ids)


def _put_batch_norm(module: nn.Module) -> None:
    """Replace every group norm by a batch norm, which has buffers."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.GroupNorm):
            setattr(module, name, nn.BatchNorm2d(child.num_channels))
        _put_batch_norm(child)


def assert_same(one: Any, other: Any) -> None:
    """Equal bit for bit, structure by structure."""
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    else:
        assert one == other


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("schedule", ["keep_all", "every_k:2"])
def test_a_task_without_labels_is_untouched(tmp_path: Path, kind: str, schedule: str) -> None:
    """In a step without labels a task's parameters, buffers and optimizer state keep their bits: nothing decays or rolls on."""
    rig = Rig(tmp_path, f"optimizer.type={kind}", "optimizer.weight_decay=0.5", schedule=schedule, batch_norm=True)
    rig.trainer.take_step(rig.batch("segmentation", "depth"))
    head = rig.model.graph.heads["depth"]
    averages = [copy.deepcopy(rig.trainer.optimizer.state[parameter]) for parameter in head.parameters()]
    weights = copy.deepcopy(head.state_dict())
    assert any(name.endswith("running_mean") for name in weights)
    others = copy.deepcopy(rig.model.graph.heads["segmentation"].state_dict())
    rig.trainer.take_step(rig.batch("segmentation"))
    assert_same(weights, head.state_dict())
    assert_same(averages, [rig.trainer.optimizer.state[parameter] for parameter in head.parameters()])
    now = rig.model.graph.heads["segmentation"].state_dict()
    assert not all(torch.equal(others[name], now[name]) for name in others)


def test_a_step_is_plain_autograd_and_the_optimizer(tmp_path: Path) -> None:
    """Clipped steps of the trainer give the weights of the textbook loop, bit for bit."""
    rig = Rig(tmp_path, "clip=0.5", "lr_schedule.type=constant", schedule="every_k:2")
    twin = copy.deepcopy(rig.model.graph).train()
    optimizer = torch.optim.SGD(
        [{"params": [p for n, p in twin.named_parameters() if (p.ndim > 1) == decays], "weight_decay": 0.01 * decays}
         for decays in (True, False)], lr=0.01, momentum=0.9)  # fmt: skip
    rig.model.graph.train()
    for step in range(3):
        batch = next(iter(rig.batches(step)))
        with torch.random.fork_rng():
            rig.trainer.take_step(batch)
        torch.stack(list(twin.losses(batch.images, batch.targets).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    for (name, ours), theirs in zip(rig.model.graph.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs), name


class InterruptAfter(Listener):
    """Presses Ctrl-C during a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def advanced(self, step: int) -> None:
        if step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_interrupted_and_resumed_is_uninterrupted(tmp_path: Path, stop: int, kind: str) -> None:
    """Ctrl-C during any step saves its end; resuming gives the weights, optimizer and random numbers of a run without it."""
    whole = Rig(tmp_path, f"optimizer.type={kind}")
    whole.trainer.train(whole.batches)

    first = Rig(tmp_path / "again", f"optimizer.type={kind}", listeners=[InterruptAfter(stop)])
    with pytest.raises(Interrupted, match=f"stopped by SIGINT after step {stop} of 4"):
        first.trainer.train(first.batches)

    second = Rig(tmp_path / "again", f"optimizer.type={kind}")
    torch.rand(7)  # whatever a new process does before it resumes
    state, complaints = second.states.load()
    assert complaints == []
    assert state.step == stop
    second.trainer.restore(state)
    second.trainer.train(second.batches)
    assert_same(whole.everything(), second.everything())


BUDGET = ("memory.budget=400KiB", "memory.cost=flops")


def test_a_batch_follows_the_schedule_of_its_labels(tmp_path: Path) -> None:
    """Each set of tasks has an engine of its own schedule, made when it is first met, and no step leaves the budget."""
    rig = Rig(tmp_path, *BUDGET, "log_every=1")
    planner = rig.trainer.planner
    left = 400 * 1024 - static_bytes(rig.model.graph, rig.config).total
    for tasks in (["segmentation"], ["depth"], ["depth", "segmentation"], ["depth"]):
        rig.trainer.take_step(rig.batch(*tasks))
        assert rig.trainer._engines[frozenset(tasks)].schedule == planner.schedule_for(tasks)
        assert 0 < rig.trainer.peak_bytes <= left
    assert len(rig.trainer._engines) == 3


def test_the_first_peak_is_foretold_for_its_very_batch(tmp_path: Path) -> None:
    """On a CPU to the byte, for the labels that the batch has; a later step is not told of, nor one without a budget."""
    records: list[PeakRecord] = []

    class Notes(Listener):
        def peaked(self, record: PeakRecord) -> None:
            records.append(record)

    rig = Rig(tmp_path, *BUDGET, listeners=[Notes()])
    rig.trainer.take_step(rig.batch("depth"))
    rig.trainer.take_step(rig.batch("segmentation"))
    assert [record.tasks for record in records] == [("depth",)]
    assert records[0].predicted == records[0].measured == rig.trainer.peak_bytes
    free = Rig(tmp_path, listeners=[Notes()])
    free.trainer.take_step(free.batch("depth"))
    assert free.trainer.first_peak is None
    assert len(records) == 1


@pytest.mark.parametrize(("change", "same"), [((), True), (("memory.budget=401KiB",), False), (("data.batch=3",), False)])
def test_a_resumed_run_follows_the_schedules_it_was_saved_with(tmp_path: Path, change: tuple[str, ...], same: bool) -> None:
    """A clock may tell another time and a plan be another; branches in parts would then sum in another order."""
    first = Rig(tmp_path, *BUDGET)
    first.trainer.take_step(first.batch("depth"))
    first.trainer.save()
    second = Rig(tmp_path, *BUDGET, *change)
    assert second.trainer.planner.chain is not None
    other = Planner(parse_schedule("keep_all", second.model.graph), second.trainer.planner.chain, 2**30)
    second.trainer.planner = other
    state, _ = second.states.load()
    second.trainer.restore(state)
    assert Planner(other.schedule, other.chain, 2**30).schedule_for(["depth"]) != first.trainer.planner.schedule_for(["depth"])
    assert (other.schedule_for(["depth"]) == first.trainer.planner.schedule_for(["depth"])) == same


def poisoned(batch: Batch, row: int) -> Batch:
    """The batch with an image of nan."""
    images = batch.images.clone()
    images[row] = torch.nan
    return Batch(images, batch.targets, batch.ids)


def test_a_loss_that_is_not_finite_undoes_the_step_and_saves(tmp_path: Path) -> None:
    """The error names the task and the samples, and what is saved is the end of the step before, to the bit."""
    rig = Rig(tmp_path, schedule="every_k:2")
    good, bad = next(iter(rig.batches(0))), poisoned(rig.batch("depth"), 0)

    def batches(start: int) -> Iterator[Batch]:
        yield good
        expected.update(rig.everything())
        yield bad

    expected: dict[str, Any] = {}
    with pytest.raises(NonFiniteError) as caught:
        rig.trainer.train(batches)
    assert_same(expected, rig.everything())
    rows = bad.targets["depth"].positions(len(bad.ids), "depth")
    assert f"step 2: the loss of task 'depth' is nan; samples: {', '.join(bad.ids[row] for row in rows)}" in str(caught.value)
    state, _ = rig.states.load()
    assert state.step == 1
    assert_same(expected["weights"], dict(state.weights))


def test_a_gradient_that_is_not_finite_names_its_parameter(tmp_path: Path) -> None:
    """A finite loss with an infinite gradient stops the run before the optimizer sees it."""
    rig = Rig(tmp_path)
    weight = next(iter(rig.model.graph.heads["segmentation"].parameters()))
    weight.register_hook(lambda gradient: gradient * torch.inf)
    before = rig.everything()
    with pytest.raises(
        NonFiniteError, match="step 1: the gradient of heads.segmentation.* is not finite, though every loss is; samples: "
    ):
        rig.trainer.take_step(rig.batch("segmentation"))
    assert_same(before, rig.everything())


def test_a_broken_loss_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in a task ends the run as it is, with everything before it saved."""
    rig = Rig(tmp_path)
    before = rig.everything()
    batch = next(iter(rig.batches(0)))
    broken = Batch(batch.images, {**batch.targets, "segmentation": Labels(torch.zeros(1, 2, 2), [0])}, batch.ids)
    with pytest.raises((RuntimeError, ValueError)):
        rig.trainer.train(lambda step: [broken])
    assert_same(before, rig.everything())
    assert rig.states.load()[0].step == 0


def test_float16_skips_steps_that_overflow(tmp_path: Path) -> None:
    """Under the scaler an overflow is no error: the scale shrinks and the weights stay."""
    rig = Rig(tmp_path, "autocast=float16")
    assert rig.trainer.scaler is not None
    rig.trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    before = {name: parameter.clone() for name, parameter in rig.model.graph.named_parameters()}
    rig.trainer.take_step(rig.batch("segmentation", "depth"))
    assert_same(before, dict(rig.model.graph.named_parameters()))
    assert rig.trainer.scaler.get_scale() < 2.0**127


def test_float16_does_not_hide_a_broken_gradient(tmp_path: Path) -> None:
    """A gradient that is infinite without any scaling is an error under the scaler too."""
    rig = Rig(tmp_path, "autocast=float16")
    rig.trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    weight = next(iter(rig.model.graph.heads["depth"].parameters()))
    weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(NonFiniteError, match=r"the gradient of heads\.depth"):
        rig.trainer.take_step(rig.batch("depth"))


class Heard(Listener):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.records: list[StepRecord] = []
        self.evaluations: list[int] = []
        self.notes: list[str] = []

    def stepped(self, record: StepRecord) -> None:
        self.records.append(record)

    def evaluated(self, step: int, scores: Any) -> None:
        self.evaluations.append(step)

    def noted(self, text: str) -> None:
        self.notes.append(text)


def test_listeners_hear_losses_memory_and_evaluations(tmp_path: Path) -> None:
    """The first step and every `log_every`-th are told with mean losses and measured peak; evaluations with their step."""
    heard = Heard()
    rig = Rig(tmp_path, "steps=6", "log_every=3", "evaluate_every=2", listeners=[heard])
    rig.trainer.train(rig.batches)
    assert [record.step for record in heard.records] == [1, 3, 6]
    assert all(record.peak_bytes for record in heard.records)
    assert heard.records[-1].draws == {"rooms": 24}
    assert heard.records[1].images_per_second is not None
    assert heard.evaluations == [2, 4]
    assert rig.trainer.peak_bytes == max(record.peak_bytes or 0 for record in heard.records)


def test_evaluating_does_not_change_training(tmp_path: Path) -> None:
    """However often a run evaluates, and whatever random numbers that takes, it trains the same weights."""
    plain = Rig(tmp_path)
    plain.trainer.train(plain.batches)
    watched = Rig(tmp_path, "evaluate_every=1")
    watched.trainer.evaluate = _draws
    watched.trainer.train(watched.batches)
    assert_same(plain.everything(), watched.everything())


def _draws() -> dict[str, dict[str, float]]:
    """An evaluation that uses random numbers."""
    return {"depth": {"AbsRel": float(torch.rand(1))}}


def test_what_was_left_out_is_counted(tmp_path: Path) -> None:
    """Samples that the loader left out are told and counted; a batch without any image is a step without effect."""
    heard = Heard()
    rig = Rig(tmp_path, "log_every=1", listeners=[heard])
    before = rig.everything()["weights"]
    rig.trainer.take_step(Batch(torch.zeros(0, 3, 48, 64), {}, (), ("a is broken", "b is broken")))
    assert heard.notes == ["left out: a is broken", "left out: b is broken"]
    assert heard.records[-1].skipped == 2
    assert rig.trainer.skipped == {"a is broken": 1, "b is broken": 1}
    assert_same(before, rig.everything()["weights"])
