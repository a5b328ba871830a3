"""A whole run, from a configuration to a report."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from ubertrain.data.reader import Reader
from ubertrain.training.build import Model, make_loader, make_model, make_readers, prepare
from ubertrain.training.comparison import Comparison, compare_memory
from ubertrain.training.config import Config
from ubertrain.training.device import device_of, on_device
from ubertrain.training.fullest import full_batch
from ubertrain.training.judge import Judge
from ubertrain.training.memory import static_bytes
from ubertrain.training.pictures import draw_pictures
from ubertrain.training.planner import Planner, make_planner
from ubertrain.training.records import JsonLines, Listener, Scores, TensorBoard
from ubertrain.training.report import Report, task_results
from ubertrain.training.resume import changes, require_fit
from ubertrain.training.run_folder import RunFolder
from ubertrain.training.state import State
from ubertrain.training.trainer import Trainer


def run(
    config: Config, folder: RunFolder, *, resume: bool = False, compare: bool = False, listeners: Sequence[Listener] = ()
) -> Report:
    """Evaluate, train, evaluate again, draw pictures and write the report.

    Args:
        config: what to do.
        folder: where everything is written.
        resume: continue from the newest whole state in `folder`.
        compare: also measure the step's memory against plain autograd's, with one task and more.
        listeners: hear of everything, besides the run's own files.

    Raises:
        UbertrainError: what is wrong with the configuration, the data or the saved state.
        Interrupted: Ctrl-C or SIGTERM came; everything that was trained is saved.
    """
    started = time.perf_counter()
    prepare(config)
    train_sets, val_sets = make_readers(config, "train"), make_readers(config, "val")
    model = make_model(config, train_sets, val_sets)
    loader = make_loader(model.config, model.tasks, train_sets)
    planner, memory = _plan(model, train_sets, compare)
    judge = Judge(model, val_sets)
    with ExitStack() as stack:
        state, remarks = _begin(model, folder, resume)
        heard = [*listeners, *_own_listeners(model.config, folder, state)]
        for listener in heard:
            stack.callback(listener.close)
        trainer = Trainer(model.graph, planner, model.config, states=folder.states, evaluate=judge.scores, listeners=heard)
        before = _start(trainer, state, remarks, folder)
        trainer.train(loader.batches)
        after = trainer.evaluate_now()
        trainer.tell_began("scoring constant answers")
        constant = judge.constant_scores(train_sets)
        trainer.tell_began("drawing")
        draw_pictures(model.graph, model.tasks, model.config, val_sets, folder.pictures)
        report = Report(
            steps=trainer.step,
            seconds=time.perf_counter() - started,
            schedule=str(planner.schedule),
            results=task_results(model.tasks, before=before, after=after, constant=constant),
            by_set=judge.last.by_set,
            peak_bytes=trainer.peak_bytes,
            static=static_bytes(model.graph, model.config),
            epochs={name: trainer.draws[name] / len(reader) for name, reader in train_sets.items()},
            skipped=dict.fromkeys(judge.skipped, 0) | dict(trainer.skipped),
            memory=tuple(memory),
            first_peak=trainer.first_peak,
        )
        folder.write_report(report.as_json())
    return report


def _plan(model: Model, train_sets: Mapping[str, Reader], compare: bool) -> tuple[Planner, list[Comparison]]:
    """The schedules, and the memory of the full one against plain autograd's if that is asked for."""
    if not compare and model.config.memory.budget is None:
        return make_planner(model.config, model.graph, None), []
    batch = on_device(full_batch(model.config, model.tasks, train_sets), device_of(model.config))
    planner = make_planner(model.config, model.graph, batch)
    return planner, compare_memory(model.graph, planner.schedule, batch) if compare else []


def _begin(model: Model, folder: RunFolder, resume: bool) -> tuple[State | None, list[str]]:
    """The state to resume from, and what the user should know about it; a new folder otherwise."""
    if not resume:
        folder.begin(model.config)
        return None, []
    state, damaged = folder.states.load()
    require_fit(state, model.graph, model.config)
    folder.config_file.write_text(model.config.dump())
    changed = [f"changed since: {change}" for change in changes(state, model.config)]
    return state, [*damaged, f"resuming after step {state.step}", *changed]


def _own_listeners(config: Config, folder: RunFolder, state: State | None) -> list[Listener]:
    step = state.step if state else 0
    lines = JsonLines(folder.metrics_file, step)
    return [lines, TensorBoard(folder.path / "tensorboard", step)] if config.tensorboard else [lines]


def _start(trainer: Trainer, state: State | None, remarks: Sequence[str], folder: RunFolder) -> Scores:
    """Put the trainer where the state left it, or evaluate it as it is; returns the scores before the first step."""
    for remark in remarks:
        for listener in trainer.listeners:
            listener.noted(remark)
    if state is None:
        return trainer.evaluate_now()
    trainer.restore(state)
    return folder.first_scores() if state.step else trainer.evaluate_now()
