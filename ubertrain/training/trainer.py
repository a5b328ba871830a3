"""The training loop: it reads like the step it performs."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from ubertrain.data.batch import Batch
from ubertrain.engine.engine import Engine
from ubertrain.engine.graph import Graph
from ubertrain.measuring.rehearse import rehearse
from ubertrain.training import random_state
from ubertrain.training.config import Config
from ubertrain.training.device import on_device
from ubertrain.training.finite import require_finite_gradients, require_finite_losses
from ubertrain.training.interrupt import Interrupt, Interrupted
from ubertrain.training.memory import rounding_on
from ubertrain.training.optimizer import lr_factor, make_optimizer, set_lr
from ubertrain.training.peak import peak_meter
from ubertrain.training.planner import Planner
from ubertrain.training.precision import autocast_of
from ubertrain.training.records import Listener, PeakRecord, Scores, StepRecord
from ubertrain.training.resume import plans_alike
from ubertrain.training.state import State, StateFolder
from ubertrain.training.undo import Undo


class Trainer:
    """Takes optimizer steps, and saves, evaluates and tells what happens on the way.

    A task without labels in a step keeps its head, buffers and optimizer state bit for bit: its gradients are None, so
    neither momentum nor weight decay moves it.

    Args:
        graph: trained in place, on the device it is on.
        planner: what a step keeps and recomputes, by the tasks that its batch labels.
        config: the optimizer, its learning rate, clipping, precision, and how often to save, evaluate and log.
        states: where states are saved.
        evaluate: scores of the graph as it is now.
        listeners: hear of every step, evaluation and remark.
    """

    def __init__(
        self,
        graph: Graph,
        planner: Planner,
        config: Config,
        *,
        states: StateFolder,
        evaluate: Callable[[], Scores],
        listeners: Sequence[Listener] = (),
    ) -> None:
        self.graph, self.config, self.states, self.evaluate, self.listeners = graph, config, states, evaluate, listeners
        self.planner = planner
        self.optimizer = make_optimizer(graph, config.optimizer)
        self.device = next(graph.parameters()).device
        self.scaler = torch.amp.GradScaler(self.device.type) if config.autocast == "float16" else None
        self.step = 0
        self.draws: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.peak_bytes = 0
        self.first_peak: PeakRecord | None = None
        self._engines: dict[frozenset[str], Engine] = {}
        self._whole = True
        self._saved_at = -1
        self._window = _Window()

    def train(self, batches: Callable[[int], Iterable[Batch]]) -> None:
        """Take the steps that are left of `config.steps`.

        Args:
            batches: `batches(step)` are the batches of the steps from `step` on; equal steps give equal batches.

        Raises:
            Interrupted: Ctrl-C or SIGTERM came; the step at hand was finished.
            NonFiniteError: a loss or gradient is not finite; the step was undone.

        Whatever ends the run, everything that was trained is saved first.
        """
        self.graph.train()
        self.tell_began("training")
        with self._saved_at_the_end(), Interrupt() as interrupt:
            for batch in _until(batches(self.step), self.config.steps - self.step):
                self.take_step(batch)
                if _due(self.step, self.config.save_every):
                    self.save()
                if _due(self.step, self.config.evaluate_every) and self.step < self.config.steps:
                    self.evaluate_now()
                    self.tell_began("training")
                if interrupt.requested:
                    raise Interrupted(f"stopped by {interrupt.requested} after step {self.step} of {self.config.steps}")

    def take_step(self, batch: Batch) -> None:
        """One optimizer step. After an exception weights, buffers, optimizer and random numbers are what they were."""
        meter = peak_meter(self.graph, self.device) if self._is_measured() else None
        with Undo(self.graph):
            there, engine = on_device(batch, self.device), self._engine(batch)
            with autocast_of(self.config, self.device):
                predicted = self._predict(engine, there) if self.step == 0 else None
                with meter or nullcontext():
                    losses = engine.forward_backward(there.images, there.targets, scaler=self.scaler)
            require_finite_losses(self.step + 1, losses, batch)
            norm = self._clip(batch)
        set_lr(self.optimizer, lr_factor(self.config.lr_schedule, self.step, self.config.steps))
        self._update()
        self._note(batch, losses, norm, meter.peak if meter else None)
        if meter is not None and predicted is not None:
            self._note_first(PeakRecord(tuple(losses), predicted, meter.peak))

    def evaluate_now(self) -> Scores:
        """Evaluate between two steps, without a trace in the random numbers of training, and tell the listeners."""
        self.tell_began(f"evaluating after step {self.step}")
        before = random_state.capture()
        self.graph.eval()
        try:
            scores = self.evaluate()
        finally:
            self.graph.train()
            random_state.restore(before)
        for listener in self.listeners:
            listener.evaluated(self.step, scores)
        self._window.restart()
        return scores

    def save(self) -> Path:
        """Save the state after the last whole step."""
        rest = {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else {},
            "random": random_state.capture(),
            "config": self.config.model_dump_json(),
            "draws": dict(self.draws),
            "skipped": dict(self.skipped),
            "peak_bytes": self.peak_bytes,
            "schedules": self.planner.found() if self.planner.chain else [],
        }
        place = self.states.save(State(self.step, self.graph.state_dict(), rest))
        self._saved_at = self.step
        self._window.restart()
        return place

    def restore(self, state: State) -> None:
        """Continue from `state`, which must fit the graph."""
        self.graph.load_state_dict(dict(state.weights))
        self.optimizer.load_state_dict(state.rest["optimizer"])
        if self.scaler and state.rest["scaler"]:
            self.scaler.load_state_dict(state.rest["scaler"])
        self.draws, self.skipped = Counter(state.rest["draws"]), Counter(state.rest["skipped"])
        self.step, self.peak_bytes = state.step, state.rest["peak_bytes"]
        self._saved_at = state.step
        if plans_alike(state, self.config):
            self.planner.adopt(state.rest.get("schedules", []))
        random_state.restore(state.rest["random"])

    def tell_began(self, work: str) -> None:
        """Tell the listeners what takes time now."""
        for listener in self.listeners:
            listener.began(work)

    def _engine(self, batch: Batch) -> Engine:
        """The engine for the tasks that `batch` labels."""
        tasks = frozenset(batch.targets)
        if tasks not in self._engines:
            self._engines[tasks] = Engine(self.graph, self.planner.schedule_for(tasks))
        return self._engines[tasks]

    def _predict(self, engine: Engine, batch: Batch) -> int | None:
        """Peak bytes of the step that follows, if it follows a fitted schedule."""
        if self.planner.chain is None:
            return None
        return rehearse(self.graph, engine.schedule, batch.images, batch.targets, rounding=rounding_on(self.device))

    def _note_first(self, record: PeakRecord) -> None:
        self.first_peak = record
        for listener in self.listeners:
            listener.peaked(record)

    def _clip(self, batch: Batch) -> float:
        """Shorten the gradient to `config.clip`; returns its norm before."""
        if self.scaler and batch.targets:
            self.scaler.unscale_(self.optimizer)
        parameters = [parameter for parameter in self.graph.parameters() if parameter.grad is not None]
        norm = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        if not torch.isfinite(norm) and not self._may_overflow():
            require_finite_gradients(self.step + 1, self.graph, batch)
        if self.config.clip and parameters:
            clip_grads_with_norm_(parameters, self.config.clip, norm)
        return norm.item()

    def _may_overflow(self) -> bool:
        """Whether a gradient may be infinite because its loss was scaled: the step is skipped then and the scale shrinks."""
        return self.scaler is not None and self.scaler.get_scale() > 1

    def _update(self) -> None:
        """Step the optimizer. Should a second Ctrl-C land in here, the half-stepped weights must not be saved."""
        self._whole = False
        if self.scaler is None:
            self.optimizer.step()
        elif any(parameter.grad is not None for parameter in self.graph.parameters()):
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._whole = True

    def _is_measured(self) -> bool:
        """Counting bytes slows a step down: the first step and those that are logged must do."""
        return self.step == 0 or _due(self.step + 1, self.config.log_every)

    def _note(self, batch: Batch, losses: dict[str, Tensor], norm: float, peak: int | None) -> None:
        """Count the step, and tell the listeners."""
        self.draws.update(name.partition("/")[0] for name in batch.ids)
        news = [problem for problem in batch.skipped if problem not in self.skipped]
        self.skipped.update(batch.skipped)
        self.peak_bytes = max(self.peak_bytes, peak or 0)
        self._window.add(losses, len(batch.ids), peak)
        for listener in self.listeners:
            listener.advanced(self.step)
            for problem in news:
                listener.noted(f"left out: {problem}")
        if self.step == 1 or _due(self.step, self.config.log_every):
            lr = self.optimizer.param_groups[0]["lr"]
            order = list(self.graph.branches)
            record = self._window.record(order, self.step, lr, norm, dict(self.draws), sum(self.skipped.values()))
            for listener in self.listeners:
                listener.stepped(record)
            self._window = _Window()

    @contextmanager
    def _saved_at_the_end(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.graph.zero_grad(set_to_none=True)
            if self._whole and self._saved_at != self.step:
                self.save()


class _Window:
    """Sums over the steps since the last record."""

    def __init__(self) -> None:
        self.losses: dict[str, list[Tensor]] = {}
        self.images, self.seconds = 0, 0.0
        self.peak: int | None = None
        self.restart()

    def restart(self) -> None:
        """Do not count the time up to now: something other than training took it."""
        self._since = time.perf_counter()

    def add(self, losses: dict[str, Tensor], images: int, peak: int | None) -> None:
        """Add a step, with the wait for its batch; one whose memory was measured does not count for the speed."""
        for task, loss in losses.items():
            self.losses.setdefault(task, []).append(loss)
        if peak is None:
            self.images, self.seconds = self.images + images, self.seconds + time.perf_counter() - self._since
        else:
            self.peak = peak
        self.restart()

    def record(self, order: list[str], step: int, lr: float, norm: float, draws: dict[str, int], skipped: int) -> StepRecord:
        """What the listeners are told, with the tasks in `order`."""
        losses = {task: torch.stack(self.losses[task]).mean().item() for task in order if task in self.losses}
        speed = self.images / self.seconds if self.images else None
        return StepRecord(step, losses, lr, norm, speed, self.peak, draws, skipped)


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _until(batches: Iterable[Batch], count: int) -> Iterator[Batch]:
    """The first `count` of `batches`, and no further one is asked for."""
    iterator = iter(batches)
    for _ in range(count):
        yield next(iterator)
