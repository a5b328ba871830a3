"""The conformance check for tasks: what the rest of the library relies on, one function per property."""

import inspect
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ubertrain.annotation import Annotation, ClassMap, Depth, Edges, Normals, SemanticEdges, Stereo, Warp
from ubertrain.annotation.examples import EXAMPLES
from ubertrain.engine.branch import Branch
from ubertrain.engine.branches import coupling
from ubertrain.engine.graph import Graph
from ubertrain.engine.level import IMAGE, Level
from ubertrain.errors import TaskError
from ubertrain.measuring.rehearse import rehearse
from ubertrain.planning.keep_all import keep_all
from ubertrain.task import Task

Example = Callable[[torch.Generator, tuple[int, int]], Any]
"""`example(generator, (height, width))` -> a random valid value of an annotation kind."""

_ROWS = 3
_SIZE = (64, 96)
_ODD_SIZE = (52, 75)
"""No multiple of any stride but 4."""
_STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}
_PER_PIXEL = (ClassMap, Depth, Normals, Edges, SemanticEdges, Stereo)
"""Kinds that can be unknown everywhere."""


def check_task(task: Task, *, example: Example | None = None, levels: Mapping[str, Level] | None = None,
               without_gradient: Sequence[str] = ()) -> None:  # fmt: skip
    """Raise unless `task` keeps what the library relies on: shapes, gradients, missing labels, determinism, pictures, scores.

    Runs the task on small random levels and labels, on CPU, in about a second. The random state of torch is left as it was.

    Args:
        task: an instance; check each set of keywords that you care about.
        example: makes labels for kinds of your own. Ours have one; ids are below `len(task.names)`, or 2.
        levels: tap name -> level, for taps whose strides matter; res2 to res5 have 4 to 32, others 8.
        without_gradient: parameters of the head that its loss is not meant to reach.

    Raises:
        TaskError: names the task and the first property that it breaks, and says how.
    """
    with torch.random.fork_rng(devices=[]):
        case = Case(task, example, dict(levels or {}), tuple(without_gradient))
        for check in CHECKS:
            torch.manual_seed(0)
            try:
                check(case)
            except Exception as error:
                how = str(error) if isinstance(error, TaskError) else f"{type(error).__name__}: {error}"
                raise TaskError(f"task {case.name!r} breaks the property {inspect.getdoc(check)!r} {how}") from error


@dataclass(frozen=True)
class Case:
    """A task with what it needs to run. All random numbers come from seeds, so every call gives the same.

    The attributes are the arguments of `check_task`.
    """

    task: Task
    example: Example | None = None
    levels_by_tap: Mapping[str, Level] = field(default_factory=dict)
    without_gradient: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The task's name in messages."""
        return self.task.name or type(self.task).__name__

    def described(self) -> list[Level]:
        """The levels as `make_head` is told of them; no two have the same channels."""
        fallback = {tap: Level(8 + 4 * i, _STRIDES.get(tap.split(".")[0], 8)) for i, tap in enumerate(self.task.taps)}
        fallback[IMAGE] = Level(3, 1)
        return [self.levels_by_tap.get(tap, fallback[tap]) for tap in self.task.taps]

    def head(self) -> nn.Module:
        """A new head, in training mode."""
        torch.manual_seed(1)
        return self.task.make_head(self.described()).train()

    def levels(self, size: tuple[int, int] = _SIZE) -> list[Tensor]:
        """Levels of a batch of images of `size`, leaves that require gradients; the images themselves do not."""
        generator = torch.Generator().manual_seed(2)
        shapes = [(_ROWS, level.channels, *(math.ceil(side / level.stride) for side in size)) for level in self.described()]
        values = [torch.randn(shape, generator=generator) for shape in shapes]
        named = zip(self.task.taps, values, strict=True)
        return [value.sigmoid() if tap == IMAGE else value.requires_grad_() for tap, value in named]

    def labels(self, size: tuple[int, int] = _SIZE, *, blank: Sequence[int] = ()) -> Any:
        """Collated labels of the batch; those of the rows `blank` show nothing but what lies outside of their image."""
        generator = torch.Generator().manual_seed(3)
        kind, values = self.task.annotation, []
        for row in range(_ROWS):
            value = self._example(generator, size)
            kind.check(value, size)
            if row in blank:
                value = kind.warp(value, Warp.about(size, size, centre=(-10.0 * size[1], -10.0 * size[0])))
            values.append(value)
        return kind.collate(values)

    def losses(self, head: nn.Module, levels: list[Tensor], target: Any, *, seed: int = 4) -> Tensor:
        """The task's losses under a seed."""
        torch.manual_seed(seed)
        return self.task.losses(head, levels, target)

    def answers(self, head: nn.Module, levels: list[Tensor]) -> Any:
        """The head's predictions in eval mode, without gradients."""
        torch.manual_seed(4)
        with torch.no_grad():
            return head.eval()(levels)

    def _example(self, generator: torch.Generator, size: tuple[int, int]) -> Any:
        if self.example is not None:
            return self.example(generator, size)
        for kind, make in EXAMPLES.items():
            if issubclass(self.task.annotation, kind):
                return make(generator, size, len(getattr(self.task, "names", "01")))
        raise TaskError(f"There is no example of the kind {self.task.annotation.__name__}; pass check_task(task, example=...).")


def check_declarations(case: Case) -> None:
    """The task says what it needs."""
    kind = getattr(case.task, "annotation", None)
    _expect(isinstance(kind, type) and issubclass(kind, Annotation), f"Its annotation is {kind!r}, which is no kind of label.")
    taps = case.task.taps
    _expect(not isinstance(taps, str) and len(taps) > 0, f"Its taps are {taps!r}; give a list of trunk levels.")


def check_keywords(case: Case) -> None:
    """Everything that its constructor takes is a keyword."""
    for name, parameter in inspect.signature(type(case.task)).parameters.items():
        named = parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        _expect(named, f"{name!r} is {parameter.kind.description}, which YAML cannot name or check; spell the keywords out.")


def check_predictions(case: Case) -> None:
    """A prediction has one row per image, in training and in eval mode."""
    head, levels = case.head(), case.levels()
    modes = [("eval", case.answers(head, levels))]
    if _plain_loss(case.task):
        modes.append(("training", head.train()(levels)))
    for mode, prediction in modes:
        leaves = _tensors(prediction)
        _expect(leaves, f"In {mode} mode the head returns no tensor.")
        for leaf in leaves:
            fits = leaf.ndim > 0 and len(leaf) == _ROWS
            _expect(fits, f"In {mode} mode the head returns shape {tuple(leaf.shape)} for {_ROWS} images.")


def check_loss(case: Case) -> None:
    """The loss is one finite number per image, connected to the head."""
    loss = case.losses(case.head(), case.levels(), case.labels())
    _expect(isinstance(loss, Tensor) and loss.shape == (_ROWS,), f"It is {_shown(loss)}; expected shape ({_ROWS},).")
    _expect(loss.is_floating_point() and bool(loss.isfinite().all()), f"It is {loss.tolist()}.")
    _expect(loss.requires_grad, "It does not depend on the head's parameters; is something detached?")


def check_gradients(case: Case) -> None:
    """The loss reaches every parameter of the head and every level it asks for."""
    head, levels = case.head(), case.levels()
    case.losses(head, levels, case.labels()).sum().backward()
    for name, parameter in head.named_parameters():
        if parameter.requires_grad and name not in case.without_gradient:
            gradient = parameter.grad
            _expect(gradient is not None, f"{name!r} has no gradient; use it, or name it in without_gradient.")
            _expect(_finite(gradient), f"The gradient of {name!r} is not finite.")
    for tap, level in zip(case.task.taps, levels, strict=True):
        _expect(level.grad is not None or tap == IMAGE, f"Level {tap!r} has no gradient; leave it out of taps.")
        _expect(tap == IMAGE or _finite(level.grad), f"The gradient of level {tap!r} is not finite.")


def check_blank_labels(case: Case) -> None:
    """A label without a valid pixel gives a loss of exactly 0, and labels without objects a finite one."""
    head, levels = case.head(), case.levels()
    loss = case.losses(head, levels, case.labels(blank=range(_ROWS)))
    per_pixel = issubclass(case.task.annotation, _PER_PIXEL)
    _expect(_finite(loss), f"The loss is {loss.tolist()}.")
    _expect(loss.requires_grad, "The loss is not connected to the head, so that its backward fails.")
    _expect(not per_pixel or not loss.any(), f"The loss is {loss.tolist()}.")
    loss.sum().backward()
    for name, parameter in head.named_parameters():
        gradient = parameter.grad
        _expect(gradient is None or _finite(gradient), f"The gradient of {name!r} is not finite.")
        _expect(gradient is None or not per_pixel or not gradient.any(), f"The gradient of {name!r} is not 0.")
    mixed = case.losses(head, levels, case.labels(blank=[1]))
    _expect(_finite(mixed) and not (per_pixel and mixed[1]), f"Next to labelled images, the losses are {mixed.tolist()}.")


def check_images_apart(case: Case) -> None:
    """In eval mode an image gets the same answer alone as within a batch."""
    head, levels = case.head(), case.levels()
    whole = case.answers(head, levels)
    for row in range(_ROWS):
        alone = case.answers(head, _row(levels, row))
        _expect(_close(alone, _row(whole, row)), f"Image {row} does not; the head mixes images.")


def check_narrow(case: Case) -> None:
    """A head that can narrow its levels predicts from what is narrow what it predicts from the levels."""
    levels = case.levels()
    head: Any = case.head()
    if not (hasattr(head, "narrow") and hasattr(head, "join")):
        return
    torch.manual_seed(4)
    whole = _tensors(head(levels))
    torch.manual_seed(4)
    joined = _tensors(head.join([head.narrow(place, level) for place, level in enumerate(levels)]))
    same = len(whole) == len(joined) and all(torch.equal(a, b) for a, b in zip(whole, joined, strict=True))
    _expect(same, "It does not: forward(levels) differs from join([narrow(place, level), ...]).")


def check_losses_apart(case: Case) -> None:
    """An image has the same loss alone as within a batch, unless the head declares that it couples images."""
    head, levels, target = case.head(), case.levels(), case.labels()
    if _plain_loss(case.task):
        prediction = pytree.tree_map_only(Tensor, Tensor.detach, head(levels))
        whole = case.task.loss(prediction, target)
        for row in range(_ROWS):
            alone = case.task.loss(_row(prediction, row), _row(target, row))
            _expect(_close(alone, _row(whole, row)), f"Image {row} does not; the loss mixes images.")
    whole = case.losses(head, levels, target)
    if coupling(head) or not torch.equal(whole, case.losses(head, levels, target, seed=5)):
        return  # what is random or coupled on purpose cannot be compared image by image
    for row in range(_ROWS):
        alone = case.losses(head, _row(levels, row), _row(target, row))
        _expect(_close(alone, _row(whole, row)), f"Image {row} does not; set couples_images = True on the module that mixes.")


def check_determinism(case: Case) -> None:
    """The same seed gives the same head, losses, gradients and answers."""
    runs = []
    for _ in range(2):
        head, levels = case.head(), case.levels()
        loss = case.losses(head, levels, case.labels())
        loss.sum().backward()
        gradients = [level.grad for level in levels] + [parameter.grad for parameter in head.parameters()]
        runs.append([list(head.parameters()), loss, gradients, case.answers(head, levels)])
    for what, first, second in zip(["parameters", "losses", "gradients", "answers"], *runs, strict=True):
        same = all(torch.equal(a, b) for a, b in zip(_tensors(first), _tensors(second), strict=True))
        _expect(same, f"The {what} differ between two runs.")


def check_inputs_untouched(case: Case) -> None:
    """Levels and labels are left as they are, since other tasks read them too."""
    head, target = case.head(), case.labels()
    levels = [level.detach() for level in case.levels()]
    before = [tensor.clone() for tensor in _tensors([levels, target])]
    case.losses(head, levels, target)
    case.answers(head, levels)
    for tensor, copy in zip(_tensors([levels, target]), before, strict=True):
        _expect(torch.equal(tensor, copy), f"A tensor of shape {tuple(tensor.shape)} was written to; avoid in-place work.")


def check_any_size(case: Case) -> None:
    """Images need not be multiples of a stride: levels are rounded up, labels are not."""
    head, levels, target = case.head(), case.levels(_ODD_SIZE), case.labels(_ODD_SIZE)
    _expect(_finite(case.losses(head, levels, target)), f"The loss is not finite at {_ODD_SIZE}.")
    case.task.metric().update(case.answers(head, levels), target)


def check_fake_tensors(case: Case) -> None:
    """A step runs on fake tensors, so that memory can be planned: shapes do not depend on values."""
    stages, channels = {}, 3
    for tap, level, values in zip(case.task.taps, case.described(), case.levels(), strict=True):
        stages[tap] = nn.Sequential(nn.AdaptiveAvgPool2d(values.shape[-2:]), nn.Conv2d(channels, level.channels, 1))
        channels = level.channels
    graph = Graph(trunk=stages, branches={case.name: Branch(case.head(), list(case.task.taps), losses=case.task.losses)})
    schedule = keep_all(list(stages), [case.name])
    peak = rehearse(graph, schedule, torch.zeros(_ROWS, 3, *_SIZE), {case.name: case.labels()})
    _expect(peak > 0, "The step allocates nothing.")


def check_drawing(case: Case) -> None:
    """A picture is (height, width, 3) uint8 and of the image's size, whatever the prediction."""
    answer = pytree.tree_map_only(Tensor, lambda leaf: leaf[0], case.answers(case.head(), case.levels(_ODD_SIZE)))
    image = np.random.default_rng(0).integers(0, 256, (*_ODD_SIZE, 3), dtype=np.uint8)
    before = image.copy()
    for extreme in (None, 0.0, 1e6, -1e6):
        picture = case.task.draw(image, answer if extreme is None else _filled(answer, extreme))
        fits = isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.shape == image.shape
        what = "The prediction" if extreme is None else f"A prediction of {extreme:g} everywhere"
        _expect(fits, f"{what} for an image of {image.shape} is drawn as {_shown(picture)}.")
        _expect(np.array_equal(image, before), "Drawing wrote to the image; copy it first.")


def check_metric(case: Case) -> None:
    """The metric has its primary score, and two halves merged score as the whole."""
    answers, target = case.answers(case.head(), case.levels()), case.labels()
    whole, merged = case.task.metric(), case.task.metric()
    whole.update(answers, target)
    for row in range(_ROWS):
        part = case.task.metric()
        part.update(_row(answers, row), _row(target, row))
        merged.merge(part)
    scores = whole.compute()
    _expect(whole.primary in scores, f"Its scores are {sorted(scores)}; its primary is {whole.primary!r}.")
    _expect(isinstance(whole.higher_is_better, bool), "It does not say whether higher_is_better.")
    for name, score in merged.compute().items():
        same = math.isclose(score, scores[name], rel_tol=1e-6, abs_tol=1e-9) or math.isnan(score) and math.isnan(scores[name])
        _expect(same, f"{name} is {scores[name]} for the whole and {score} for the images merged.")


def check_metric_without_labels(case: Case) -> None:
    """Where nothing is labelled, the primary score is nan, not 0."""
    nothing = case.task.metric()
    score = nothing.compute()[nothing.primary]
    _expect(math.isnan(score), f"Before any update it is {score}.")
    if issubclass(case.task.annotation, _PER_PIXEL):
        nothing.update(case.answers(case.head(), case.levels()), case.labels(blank=range(_ROWS)))
        score = nothing.compute()[nothing.primary]
        _expect(math.isnan(score), f"With every pixel unknown it is {score}.")


def check_pickling(case: Case) -> None:
    """The task and its metric can be sent to other processes."""
    task, metric = case.task, case.task.metric()
    metric.update(case.answers(case.head(), case.levels()), case.labels())
    copy, metric_copy = pickle.loads(pickle.dumps((task, metric)))
    keys = Case(copy, case.example, case.levels_by_tap).head().state_dict().keys()
    _expect(keys == case.head().state_dict().keys(), "The copy makes another head.")
    for name, score in metric_copy.compute().items():
        _expect(score == metric.compute()[name] or math.isnan(score), f"The copy's {name} is {score}.")


CHECKS: tuple[Callable[[Case], None], ...] = (
    check_declarations, check_keywords, check_predictions, check_loss, check_gradients, check_blank_labels,
    check_images_apart, check_narrow, check_losses_apart, check_determinism, check_inputs_untouched, check_any_size,
    check_fake_tensors, check_drawing, check_metric, check_metric_without_labels, check_pickling,
)  # fmt: skip


def _expect(condition: Any, sentence: str) -> None:
    if not condition:
        raise TaskError(sentence)


def _plain_loss(task: Task) -> bool:
    """Whether the task's losses come from the head's prediction alone."""
    return type(task).losses is Task.losses


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def _row(value: Any, row: int) -> Any:
    """The batch of one row."""
    return pytree.tree_map_only(Tensor, lambda leaf: leaf[row : row + 1], value)


def _filled(value: Any, number: float) -> Any:
    """`value` with `number` in place of every floating-point number."""
    return pytree.tree_map_only(Tensor, lambda leaf: torch.full_like(leaf, number) if leaf.is_floating_point() else leaf, value)


def _finite(values: Tensor | None) -> bool:
    """Whether there are values and all are finite."""
    return values is not None and bool(values.isfinite().all())


def _close(a: Any, b: Any) -> bool:
    """Equal up to what another order of summation does in float32."""
    pairs = zip(_tensors(a), _tensors(b), strict=True)
    return all(x.shape == y.shape and torch.allclose(x, y, rtol=1e-3, atol=1e-5) for x, y in pairs)


def _shown(value: Any) -> str:
    """Shape and dtype where there are any, else the type."""
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"{tuple(shape)} {value.dtype}"
