"""What the engine promises beyond exact gradients: absence, rows, memory, scaling, and what it refuses."""

import copy
import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.zoo import BATCH, ZOO, Head, conv, images, labels, plain, squared, two_tasks
from ubertrain.engine.branch import Branch
from ubertrain.engine.engine import Engine
from ubertrain.engine.graph import Graph
from ubertrain.engine.labels import Labels
from ubertrain.engine.meter import LiveBytes
from ubertrain.errors import ScheduleError, TaskError, UbertrainError
from ubertrain.planning.every_k import every_k
from ubertrain.planning.keep_all import keep_all
from ubertrain.planning.schedule import Schedule

WIDTHS = (4, 6, 8)
SPANS = "(s0 s1) (s2)"


def trunk(*after: Callable[[int], nn.Module]) -> dict[str, nn.Module]:
    """Three stages: a convolution and what `after` makes, by default an in-place ReLU."""
    return plain(WIDTHS, lambda c: [make(c) for make in after] or [nn.ReLU(True)])


def graph_of(*tasks: str, head: Callable[[], nn.Module] = lambda: Head([8])) -> Graph:
    """Tasks on the last of three stages with batch norm."""
    return Graph(trunk(nn.BatchNorm2d), {task: Branch(head(), ["s2"], squared) for task in tasks})


def grads(graph: Graph) -> dict[str, Tensor | None]:
    """Every .grad by parameter name."""
    return {name: p.grad for name, p in graph.named_parameters()}


def optimizers() -> list[Callable[[Any], torch.optim.Optimizer]]:
    """Optimizers that move weights also without a gradient, unless it is None."""
    return [
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.1),
    ]


@pytest.mark.parametrize("make", optimizers(), ids=["sgd", "adamw"])
@pytest.mark.parametrize("absent", [{}, {"b": Labels(labels(0), [])}], ids=["no key", "no rows"])
def test_a_task_without_labelled_rows_stays_bitwise_untouched(make: Any, absent: dict[str, Any]) -> None:
    """Parameters, buffers and optimizer state of its head survive a step in which other tasks train, momentum running."""
    graph = graph_of("a", "b", head=lambda: Head([8], extra=nn.BatchNorm1d(3)))
    optimizer, engine = make(graph.parameters()), Engine(graph, Schedule.parse(SPANS))

    def step(targets: dict[str, Any]) -> None:
        optimizer.zero_grad(set_to_none=True)
        engine.forward_backward(images(), targets)
        optimizer.step()

    step({"a": labels(), "b": labels()})
    head = graph.heads["b"]
    before = copy.deepcopy((head.state_dict(), [optimizer.state[p] for p in head.parameters()]))
    other = copy.deepcopy(graph.heads["a"].state_dict())
    step({"a": labels(), **absent})
    after = (head.state_dict(), [optimizer.state[p] for p in head.parameters()])
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert all(p.grad is None for p in head.parameters())
    assert not torch.equal(graph.heads["a"].parts[0].weight, other["parts.0.weight"])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_split_rows_give_the_gradient_of_the_whole(k: int) -> None:
    """`rows=k` changes gradients by rounding only (relative 1e-6), with rows scattered over the batch."""
    whole, split = graph_of("a", "b").double(), None
    split = copy.deepcopy(whole)
    batch, targets = images().double(), {"a": labels().double(), "b": Labels(labels(3).double(), [0, 2, 3])}
    left = Engine(whole, Schedule.parse(f"{SPANS} | a, b")).forward_backward(batch, targets)
    right = Engine(split, Schedule.parse(f"{SPANS} | a rows={k}, b rows={k}")).forward_backward(batch, targets)
    torch.testing.assert_close(right, left, rtol=1e-6, atol=0)
    torch.testing.assert_close(grads(split), grads(whole), rtol=1e-6, atol=1e-12)


def test_split_rows_take_the_memory_of_one_part() -> None:
    """A wide head over eight images needs about an eighth of its activations when run image by image."""
    head = nn.Sequential(nn.Conv2d(4, 256, 1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    graph = Graph({"s": conv(3, 4)}, {"a": Branch(First(head), ["s"], squared)})
    batch, targets = torch.randn(8, 3, 16, 16), {"a": torch.randn(8, 256)}
    peaks = [step_peak(graph, text, batch, targets) for text in ("s | a", "s | a rows=1")]
    assert peaks[1] < peaks[0] / 4


class First(nn.Module):
    """A head that applies a module to its first level."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, levels: list[Tensor]) -> Tensor:
        return self.module(levels[0])


def step_peak(graph: Graph, schedule: str, batch: Any, targets: dict[str, Any]) -> int:
    """Measured peak bytes of one step."""
    with LiveBytes() as meter:
        Engine(graph, Schedule.parse(schedule)).forward_backward(batch, targets)
    return meter.peak


class Couples(nn.Identity):
    couples_images = True


@pytest.mark.parametrize(("extra", "reason"), [(nn.BatchNorm1d(3), "BatchNorm1d 'extra'"), (Couples(), "couples_images")])
def test_splitting_the_rows_of_a_coupling_head_is_refused(extra: nn.Module, reason: str) -> None:
    """The message names the module; nothing is left in .grad."""
    graph = graph_of("a", head=lambda: Head([8], extra=extra))
    with pytest.raises(ScheduleError, match=reason):
        Engine(graph, Schedule.parse(f"{SPANS} | a rows=2")).forward_backward(images(), {"a": labels()})
    assert all(gradient is None for gradient in grads(graph).values())


def test_splitting_the_rows_of_a_coupling_loss_is_refused() -> None:
    """A loss module that declares couples_images is as good a reason as a head."""
    criterion = LossModule()
    criterion.couples_images = True
    graph = Graph(trunk(), {"a": Branch(Head([8]), ["s2"], criterion)})
    with pytest.raises(ScheduleError, match="LossModule declares couples_images"):
        Engine(graph, Schedule.parse(f"{SPANS} | a rows=2")).forward_backward(images(), {"a": labels()})


class LossModule(nn.Module):
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return squared(prediction, target)


def test_batch_norm_in_eval_mode_does_not_couple() -> None:
    """A head whose batch norm is in eval mode may be split."""
    graph = graph_of("a", head=lambda: Head([8], extra=nn.BatchNorm1d(3).eval()))
    Engine(graph, Schedule.parse(f"{SPANS} | a rows=2")).forward_backward(images(), {"a": labels()})
    assert graph.heads["a"].parts[0].weight.grad is not None


def test_gradients_add_to_what_is_there() -> None:
    """Two steps accumulate as two backward calls do, bit for bit and in the same .grad tensors."""
    ours, theirs = graph_of("a", "b"), None
    theirs = copy.deepcopy(ours)
    engine = Engine(ours, Schedule.parse(SPANS))
    for _ in range(2):
        batch, targets = images(), {"a": labels(), "b": Labels(labels(2), [1, 3])}
        sum(theirs.losses(batch, targets).values()).backward()
        held = ours.heads["a"].parts[0].weight.grad
        engine.forward_backward(batch, targets)
    assert held is ours.heads["a"].parts[0].weight.grad
    torch.testing.assert_close(grads(ours), grads(theirs), rtol=0, atol=0)


def test_a_grad_scaler_scales_as_in_plain_autograd() -> None:
    """`scaler` gives the bits of scaler.scale(loss).backward(); the losses come back unscaled."""
    ours = graph_of("a", "b")
    theirs = copy.deepcopy(ours)
    batch, targets = images(), {"a": labels(), "b": Labels(labels(2), [1, 3])}
    plain_losses = theirs.losses(batch, targets)
    torch.amp.GradScaler("cpu", init_scale=1024.0).scale(sum(plain_losses.values())).backward()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    losses = Engine(ours, Schedule.parse(SPANS)).forward_backward(batch, targets, scaler=scaler)
    torch.testing.assert_close(grads(ours), grads(theirs), rtol=0, atol=0)
    torch.testing.assert_close(losses, {t: loss.detach() for t, loss in plain_losses.items()}, rtol=0, atol=0)


class Fails(nn.Module):
    """Raises in its forward or in its backward."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def forward(self, x: Tensor) -> Tensor:
        if self.where == "forward":
            raise RuntimeError("deliberate")
        if x.requires_grad:
            x.register_hook(self.fail)
        return x

    def fail(self, gradient: Tensor) -> None:
        raise RuntimeError("deliberate")


def failing_graph(place: str, where: str) -> Graph:
    """Three tasks; the second head or the second stage raises, forward or backward."""
    stages = trunk(nn.BatchNorm2d)
    heads = {task: Head([8]) for task in "abc"}
    if place == "head":
        heads["b"].extra = Fails(where)
    else:
        stages["s1"] = nn.Sequential(stages["s1"], Fails(where))
    return Graph(stages, {task: Branch(head, ["s2"], squared) for task, head in heads.items()})


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("place", ["head", "trunk"])
@pytest.mark.parametrize("schedule", ["s0 s1 s2", "(s0 (s1)) (s2)"])
def test_an_exception_leaves_no_gradient_and_no_memory(place: str, where: str, schedule: str) -> None:
    """After an error every .grad is the tensor it was, with the values it had, and nothing of the step stays alive."""
    graph = failing_graph(place, where)
    weight = graph.heads["c"].parts[0].weight
    weight.grad = held = torch.ones_like(weight)
    with LiveBytes() as meter:
        with pytest.raises(RuntimeError, match="deliberate"):
            Engine(graph, Schedule.parse(schedule)).forward_backward(images(), {task: labels() for task in "abc"})
        gc.collect()
    assert weight.grad is held and torch.equal(held, torch.ones_like(weight))
    assert [name for name, gradient in grads(graph).items() if gradient is not None] == ["heads.c.parts.0.weight"]
    assert meter.live == 0


def test_a_step_frees_without_the_garbage_collector() -> None:
    """No reference cycle holds activations: after a step only the losses are alive."""
    case = ZOO["multi_tap_decoders"]()
    gc.disable()
    try:
        with LiveBytes() as meter:
            losses = Engine(case.graph, every_k(case.graph.stage_names, case.graph.branches, 2)).forward_backward(
                case.images, case.targets
            )
    finally:
        gc.enable()
    assert meter.live == 4 * len(losses)


def dense(tasks: int) -> tuple[Graph, Tensor, dict[str, Any]]:
    """A trunk of eight stages with `tasks` equal dense heads: a hidden layer and logits, upsampled to the input's size."""

    def head() -> nn.Module:
        return First(
            nn.Sequential(conv(16, 32, nn.GroupNorm(4, 32), nn.ReLU(True)), nn.Conv2d(32, 8, 1), nn.Upsample(scale_factor=8))
        )

    down = {
        "stem": conv(3, 8, nn.MaxPool2d(2)),
        "down.0": conv(8, 16, nn.MaxPool2d(2)),
        "down.1": conv(16, 16, nn.MaxPool2d(2)),
    }
    stages = {**down, **{f"r.{i}": conv(16, 16, nn.BatchNorm2d(16), nn.ReLU(True)) for i in range(5)}}
    branches = {f"t{i}": Branch(head(), ["r"], squared) for i in range(tasks)}
    targets = {f"t{i}": torch.randn(BATCH, 8, 64, 64) for i in range(tasks)}
    return Graph(stages, branches), torch.randn(BATCH, 3, 64, 64), targets


@pytest.mark.parametrize("k", [1, 2, 3, None])
def test_the_peak_does_not_grow_with_the_number_of_tasks(k: int | None) -> None:
    """From 1 to 12 equal dense heads the engine's peak grows by at most 2 %, plain autograd's more than twofold."""
    ours, plain_peaks = {}, {}
    for tasks in (1, 2, 4, 8, 12):
        graph, batch, targets = dense(tasks)
        names = graph.stage_names, tuple(graph.branches)
        ours[tasks] = step_peak(graph, str(every_k(*names, k) if k else keep_all(*names)), batch, targets)
        with LiveBytes() as meter:
            sum(graph.losses(batch, targets).values()).backward()
        plain_peaks[tasks] = meter.peak
    assert max(ours.values()) <= 1.02 * ours[1]
    assert plain_peaks[12] > 2 * plain_peaks[1]


ORDERS = [
    ("s0 s1 s2", "s0 s1 s2 b a"),
    ("(s0) (s1) (s2)", "s0 s1 s2 b a s2 s1 s0"),
    ("(s0 s1) (s2)", "s0 s1 s2 b a s2 s0 s1"),
    ("(s0 (s1)) (s2)", "s0 s1 s2 b a s2 s0 s1"),
    ("((s0 s1) s2)", "s0 s1 s2 b a s0 s1 s2 s0 s1"),
    ("(((s0) s1) s2)", "s0 s1 s2 b a s0 s1 s2 s0 s1 s0"),
]


@pytest.mark.parametrize(("schedule", "order"), ORDERS)
def test_stages_run_in_the_order_the_schedule_says(schedule: str, order: str) -> None:
    """Once forward, branches last to first, then spans again from the last; counts are those the schedule predicts."""
    ran: list[str] = []
    graph = Graph(trunk(), {t: Branch(Head([8]), ["s2"], squared) for t in "ab"})
    for name, module in [*((n, graph.stage(n)) for n in graph.stage_names), *graph.heads.items()]:
        module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    Engine(graph, Schedule.parse(f"{schedule} | a, b")).forward_backward(images(), {"a": labels(), "b": labels()})
    assert ran == order.split()
    assert {s: ran.count(s) - 1 for s in graph.stage_names} == Schedule.parse(schedule).recomputed()


def test_stages_above_the_highest_labelled_tap_do_not_run() -> None:
    """With only a low task labelled, upper stages keep their buffers and get no gradient."""
    graph = Graph(trunk(nn.BatchNorm2d), {"low": Branch(Head([4]), ["s0"], squared), "top": Branch(Head([8]), ["s2"], squared)})
    Engine(graph, Schedule.parse(SPANS)).forward_backward(images(), {"low": labels()})
    assert graph.stage("s2")[1].num_batches_tracked == 0
    assert graph.stage("s0")[1].num_batches_tracked == 1


def test_a_schedule_may_name_the_children_of_a_sequential_stage() -> None:
    """`res.0 res.1` spells out a stage `res` that is an nn.Sequential; gradients stay those of plain autograd."""
    stages = {"stem": conv(3, 4), "res": nn.Sequential(conv(4, 4, nn.BatchNorm2d(4)), conv(4, 4, nn.ReLU()))}
    graph = Graph(stages, {"a": Branch(Head([4]), ["res"], squared)})
    theirs, batch, targets = copy.deepcopy(graph), images(), {"a": labels()}
    theirs.losses(batch, targets)["a"].backward()
    Engine(graph, Schedule.parse("stem (res.0.0 res.0.1) (res.1)")).forward_backward(batch, targets)
    torch.testing.assert_close(grads(graph), grads(theirs), rtol=0, atol=0)


def test_a_child_that_stands_twice_in_a_sequential_is_named_twice() -> None:
    """The children are all entries of the nn.Sequential: leaving out the second of two equal ones is refused."""
    tanh = nn.Tanh()
    graph = Graph({"s": nn.Sequential(conv(3, 4), tanh, conv(4, 4), tanh)}, {"a": Branch(Head([4]), ["s"], squared)})
    theirs, batch, targets = copy.deepcopy(graph), images(), {"a": labels()}
    theirs.losses(batch, targets)["a"].backward()
    Engine(graph, Schedule.parse("(s.0 s.1) s.2 s.3")).forward_backward(batch, targets)
    torch.testing.assert_close(grads(graph), grads(theirs), rtol=0, atol=0)
    with pytest.raises(ScheduleError, match="stage 's'"):
        Engine(graph, Schedule.parse("(s.0 s.1) s.2"))


class Skip(nn.Sequential):
    """A Sequential that does more than its children."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def hooked() -> nn.Sequential:
    """A Sequential whose hook would be passed by."""
    module = conv(3, 3)
    module.register_forward_hook(lambda module, inputs, output: 2 * output)
    return module


@pytest.mark.parametrize("stage", [Skip(nn.Conv2d(3, 3, 1)), hooked()], ids=["forward", "hook"])
def test_a_sequential_that_does_more_than_its_children_is_not_run_by_them(stage: nn.Module) -> None:
    """A subclass with its own forward, or a hook, makes naming the children an error."""
    graph = Graph({"s": stage}, {"a": Branch(Head([3]), ["s"], squared)})
    with pytest.raises(ScheduleError, match="stage 's'"):
        Engine(graph, Schedule.parse("s.0"))


MISFITS = [
    ("s0 s2", "stage 's1'"),
    ("s0 s1 s2 s3", "'s3' after the end"),
    ("s0 s1", "stage 's2'"),
    ("s1 s0 s2", "stage 's0'"),
    ("s0 s1 s2 | a", "branches b"),
    ("s0 s1 s2 | a, b, c", "branches c"),
    ("s0 s1 s2 | b, a", "in the order of their declaration"),
    ("s0 s1.1 s1.0 s2", "stage 's1'"),
]


@pytest.mark.parametrize(("schedule", "message"), MISFITS)
def test_a_schedule_that_does_not_fit_the_graph_is_refused(schedule: str, message: str) -> None:
    """A missing, extra or misplaced stage or branch is named."""
    with pytest.raises(ScheduleError, match=message):
        Engine(graph_of("a", "b"), Schedule.parse(schedule))


def wrong_targets() -> list[tuple[dict[str, Any], str]]:
    """Labels for one task "depth" that cannot be used, and what the message must hold."""
    return [
        ({"depht": labels()}, "unknown task 'depht'; did you mean 'depth'"),
        ({"depth": labels(3)}, r"shape \(3, 3\)"),
        ({"depth": Labels(labels(2), [0, 0])}, "unique"),
        ({"depth": Labels(labels(1), [9])}, "within the batch"),
        ({"depth": Labels(labels(), torch.tensor([True, False, True, False]))}, "positions in the batch"),
        ({"depth": Labels(labels(2), [0.5, 1.7])}, "positions in the batch"),
        ({"depth": Labels(labels(3), [0, 1])}, "2 labelled rows"),
    ]


@pytest.mark.parametrize(("targets", "message"), wrong_targets())
def test_labels_that_do_not_fit_are_refused(targets: dict[str, Any], message: str) -> None:
    """Engine and oracle refuse the same labels with the same words."""
    graph = graph_of("depth")
    for step in (graph.losses, Engine(graph, Schedule.parse(SPANS)).forward_backward):
        with pytest.raises(TaskError, match=message):
            step(images(), targets)


@pytest.mark.parametrize(
    "loss", [lambda p, t: squared(p, t).mean(), lambda p, t: p, lambda p, t: 1.0, lambda p, t: t[:, 0].long()]
)
def test_a_loss_that_is_not_one_value_per_image_is_refused(loss: Any) -> None:
    """A scalar, a map, a number and integers are refused, naming the task and the shape that is wanted."""
    graph = Graph(trunk(), {"depth": Branch(Head([8]), ["s2"], loss)})
    with pytest.raises(TaskError, match=r"task 'depth'.*shape \(4,\)"):
        Engine(graph, Schedule.parse(SPANS)).forward_backward(images(), {"depth": labels()})


class AddsInPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.add_(1)


def test_writing_into_a_span_input_is_refused() -> None:
    """A span whose first stage overwrites the input it would be recomputed from is an error that names the span."""
    graph = Graph({"a": conv(3, 4), "b": AddsInPlace(), "c": conv(4, 4)}, {"t": Branch(Head([4]), ["c"], squared)})
    Engine(graph, Schedule.parse("a b c")).forward_backward(images(), {"t": labels()})
    with pytest.raises(ScheduleError, match=r"span \(b c\)"):
        Engine(graph, Schedule.parse("a (b c)")).forward_backward(images(), {"t": labels()})


def test_writing_into_a_tap_is_refused() -> None:
    """A stage that overwrites what branches have still to read is an error for engine and oracle alike."""
    graph = Graph(
        {"a": conv(3, 4), "b": AddsInPlace()}, {"t": Branch(Head([4]), ["a"], squared), "u": Branch(Head([4]), ["b"], squared)}
    )
    for step in (graph.losses, Engine(graph, Schedule.parse("a b")).forward_backward):
        with pytest.raises(ScheduleError, match="'b' writes in place into tap 'a'"):
            step(images(), {"t": labels(), "u": labels()})


@pytest.mark.parametrize("frozen", [False, True])
def test_a_head_that_writes_into_its_level_is_refused(frozen: bool) -> None:
    """Engine and oracle name the task whose head overwrites what other tasks read, also where the trunk is frozen."""
    first = nn.Sequential(nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    graph = Graph(trunk(), {"a": Branch(Head([8]), ["s2"], squared), "b": Branch(First(first), ["s2"], squared)})
    graph.trunk.requires_grad_(not frozen)
    for step in (graph.losses, Engine(graph, Schedule.parse("s0 s1 s2")).forward_backward):
        with pytest.raises(TaskError, match="task 'b': its head or loss writes in place"):
            step(images(), {"a": labels(), "b": labels(out=8)})


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_a_step_without_gradients_is_refused(off: Any) -> None:
    """Where gradients are off, a step says so instead of training nothing."""
    with off(), pytest.raises(UbertrainError, match="gradients"):
        Engine(graph_of("a"), Schedule.parse(SPANS)).forward_backward(images(), {"a": labels()})


class Alternates(nn.Module):
    """Does something else at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 1
        self.convs = nn.ModuleList([conv(4, 4, nn.Tanh()), conv(4, 4)])

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.convs[self.calls % 2](x)


def test_a_stage_that_does_not_repeat_itself_is_named() -> None:
    """A stage with a hidden counter is an error under recompute, naming its span, with .grad untouched."""
    graph = Graph({"a": conv(3, 4), "odd": Alternates()}, {"t": Branch(Head([4]), ["odd"], squared)})
    with pytest.raises(ScheduleError, match=r"span \(odd\) did not do the same again"):
        Engine(graph, Schedule.parse("a (odd)")).forward_backward(images(), {"t": labels()})
    assert all(gradient is None for gradient in grads(graph).values())


@pytest.mark.xfail(strict=True, reason="branches run last to first, so a buffer that two heads share averages in that order")
def test_buffers_of_a_head_shared_by_two_branches() -> None:
    """A limit: running statistics that two branches share differ from plain autograd's in the order of averaging."""
    head = Head([8], extra=nn.BatchNorm1d(3))
    graph = Graph(trunk(), {t: Branch(head, ["s2"], lambda p, y, s=s: squared(p * s, y)) for s, t in enumerate("ab", 1)})
    theirs = copy.deepcopy(graph)
    batch, targets = images(), {"a": labels(), "b": Labels(labels(2), [0, 1])}
    theirs.losses(batch, targets)
    Engine(graph, Schedule.parse(SPANS)).forward_backward(batch, targets)
    assert torch.equal(graph.heads["a"].extra.running_mean, theirs.heads["a"].extra.running_mean)


def test_keep_all_equals_plain_autograd_in_trunk_memory() -> None:
    """keep_all never needs more than plain autograd."""
    case = two_tasks(plain((4, 6, 6, 8), lambda c: [nn.BatchNorm2d(c), nn.ReLU(True)]), (4, 6, 6, 8))
    with LiveBytes() as meter:
        sum(case.graph.losses(case.images, case.targets).values()).backward()
    assert (
        step_peak(case.graph, str(keep_all(case.graph.stage_names, case.graph.branches)), case.images, case.targets)
        <= meter.peak
    )
