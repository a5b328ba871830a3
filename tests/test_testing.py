"""The conformance check: it passes a plain task, and finds each way in which one can break its contract."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ubertrain.annotation import Annotation, Depth, Warp
from ubertrain.engine.level import Level
from ubertrain.errors import TaskError
from ubertrain.metrics import DepthErrors, Metric
from ubertrain.ops.pixels import to_size, valid_mean
from ubertrain.task import Task
from ubertrain.testing import check_task


class Head(nn.Module):
    """Enlarges the sum of two scores; a subclass breaks it."""

    def __init__(self, levels: list[Level]) -> None:
        super().__init__()
        self.score = nn.ModuleList(nn.Conv2d(level.channels, 1, 1) for level in levels)

    def forward(self, levels: list[Tensor]) -> Tensor:
        height, width = (4 * side for side in levels[0].shape[-2:])
        return sum(F.interpolate(score(level), (height, width)) for score, level in zip(self.score, levels, strict=True))[:, 0]


class Plain(Task):
    """Depth by a squared difference; the good task that the bad ones derive from."""

    annotation = Depth
    taps = ("res2", "res3")
    head: ClassVar[type[nn.Module]] = Head

    def make_head(self, levels: list[Level]) -> nn.Module:
        return self.head(levels)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return valid_mean((to_size(prediction, target.shape[-2:]) - target) ** 2, target > 0)

    def metric(self) -> Metric:
        return DepthErrors()

    def draw(self, image: np.ndarray, prediction: Tensor) -> np.ndarray:
        return Depth.draw(image, to_size(prediction, image.shape[:2]))


def broken_head(forward: Callable[[Any, list[Tensor]], Any]) -> type[Plain]:
    """A plain task whose head has another `forward(self, levels)`."""
    return type("Broken", (Plain,), {"head": type("BrokenHead", (Head,), {"forward": forward})})


def broken(**members: Any) -> type[Plain]:
    """A plain task with other members."""
    return type("Broken", (Plain,), members)


class KeywordsOfAnyName(Plain):
    def __init__(self, **options: int) -> None:
        self.options = options


class UnusedParameter(Plain):
    class head(Head):
        def __init__(self, levels: list[Level]) -> None:
            super().__init__(levels)
            self.spare = nn.Parameter(torch.zeros(1))


class UnusedLevel(Plain):
    class head(Head):
        def __init__(self, levels: list[Level]) -> None:
            super().__init__(levels[:1])

        def forward(self, levels: list[Tensor]) -> Tensor:
            return super().forward(levels[:1])


class BatchNormed(Plain):
    class head(Head):
        def __init__(self, levels: list[Level]) -> None:
            super().__init__(levels)
            self.norm = nn.BatchNorm2d(levels[0].channels)

        def forward(self, levels: list[Tensor]) -> Tensor:
            return super().forward([self.norm(levels[0]), levels[1]])


class Declared(Plain):
    class head(Head):
        couples_images = True

        def forward(self, levels: list[Tensor]) -> Tensor:
            return _mixes_in_training(self, levels)


class Dropped(Plain):
    class head(Head):
        def forward(self, levels: list[Tensor]) -> Tensor:
            return super().forward([F.dropout(level, training=self.training) for level in levels])


class Narrowing(Plain):
    class head(Head):
        def narrow(self, place: int, level: Tensor) -> Tensor:
            return level.mean(dim=1, keepdim=True)

        def join(self, narrowed: list[Tensor]) -> Tensor:
            return narrowed[0]


class MeanOfMeans(DepthErrors):
    """Averages over updates, whatever their size."""

    def __init__(self) -> None:
        super().__init__()
        self.scores: list[float] = []

    def update(self, prediction: Tensor, target: Tensor) -> None:
        self.sums.zero_()
        super().update(prediction, target)
        self.scores.append(super().compute()["AbsRel"])

    def merge(self, other: Any) -> None:
        self.scores += other.scores

    def compute(self) -> dict[str, float]:
        return {"AbsRel": float(np.mean(self.scores)) if self.scores else float("nan")}


class PerfectOnNothing(DepthErrors):
    def compute(self) -> dict[str, float]:
        return {name: float(np.nan_to_num(score)) for name, score in super().compute().items()}


class OtherPrimary(DepthErrors):
    primary = "RelSq"


def _mixes_in_training(self: Head, levels: list[Tensor]) -> Tensor:
    prediction = Head.forward(self, levels)
    return prediction - prediction.mean() if self.training else prediction


def _counts_over_the_batch(self: Task, prediction: Tensor, target: Tensor) -> Tensor:
    valid = target > 0
    squares = torch.where(valid, (to_size(prediction, target.shape[-2:]) - target) ** 2, 0)
    return squares.flatten(1).sum(dim=1) / valid.sum().clamp(min=1)


def _divides_by_nothing(self: Task, prediction: Tensor, target: Tensor) -> Tensor:
    valid = (target > 0).float()
    return (valid * (to_size(prediction, target.shape[-2:]) - target) ** 2).sum((1, 2)) / valid.sum((1, 2))


def _trains_unknown_as_zero(self: Task, prediction: Tensor, target: Tensor) -> Tensor:
    return ((to_size(prediction, target.shape[-2:]) - target) ** 2).mean((1, 2))


def _unconnected_without_labels(self: Task, prediction: Tensor, target: Tensor) -> Tensor:
    return Plain.loss(self, prediction, target) if (target > 0).any() else torch.zeros(len(target))


def _pulls_to_zero(self: Task, prediction: Tensor, target: Tensor) -> Tensor:
    shrinking = prediction.flatten(1).mean(dim=1)
    return Plain.loss(self, prediction, target) + shrinking - shrinking.detach()


def _by_boolean_index(self: Task, prediction: Tensor, target: Tensor) -> Tensor:
    prediction = to_size(prediction, target.shape[-2:])
    rows = [((p - t)[t > 0] ** 2).sum() / (t > 0).sum().clamp(min=1) for p, t in zip(prediction, target, strict=True)]
    return torch.stack(rows)


def _in_place(self: Head, levels: list[Tensor]) -> Tensor:
    for level in levels:
        level.data.clamp_(min=0)
    return Head.forward(self, levels)


def _unseeded(self: Head, levels: list[Tensor]) -> Tensor:
    return Head.forward(self, levels) * float(np.random.rand())


def _draws_on_the_image(self: Task, image: np.ndarray, prediction: Tensor) -> np.ndarray:
    image[0] = 255
    return image


def _overflows(self: Task, image: np.ndarray, prediction: Tensor) -> np.ndarray:
    np.zeros(4)[int(prediction.max()) // 1000]
    return image.copy()


BROKEN = [
    (broken(annotation=None), "says what it needs.*annotation is None"),
    (broken(annotation=dict), "says what it needs.*annotation is <class 'dict'>"),
    (broken(taps="res2"), "says what it needs.*give a list of trunk levels"),
    (broken(taps=()), "says what it needs.*give a list of trunk levels"),
    (KeywordsOfAnyName, "is a keyword.*'options' is variadic keyword"),
    (broken_head(lambda self, levels: Head.forward(self, levels).mean()), r"one row per image.*returns shape \(\)"),
    (broken_head(lambda self, levels: Head.forward(self, levels)[:1]), r"one row per image.*In eval mode.*\(1, 64, 96\) for 3"),
    (broken_head(lambda self, levels: Head.forward(self, levels)[int(self.training) :]), "one row per image.*In training mode"),
    (broken_head(lambda self, levels: []), "one row per image.*returns no tensor"),
    (broken_head(lambda self, levels: 1 / 0), "one row per image.*ZeroDivisionError"),
    (broken(loss=lambda self, p, t: Plain.loss(self, p, t).mean()), r"one finite number per image.*It is \(\) torch.float32"),
    (broken(loss=lambda self, p, t: 0.5), "one finite number per image.*It is float"),
    (broken(loss=lambda self, p, t: Plain.loss(self, p.detach(), t)), "connected to the head.*detached"),
    (broken(loss=lambda self, p, t: Plain.loss(self, p, t) + torch.nan), "one finite number per image.*nan"),
    (UnusedParameter, "reaches every parameter.*'spare' has no gradient"),
    (UnusedLevel, "every level it asks for.*'res3' has no gradient; leave it out"),
    (broken(loss=lambda self, p, t: (Plain.loss(self, p, t) * 0).sqrt()), "every parameter.*not finite"),
    (broken(loss=_divides_by_nothing), "without a valid pixel.*The loss is .nan"),
    (broken(loss=_trains_unknown_as_zero), "without a valid pixel gives a loss of exactly 0"),
    (broken(loss=_unconnected_without_labels), "without a valid pixel.*not connected"),
    (broken(loss=_pulls_to_zero), "without a valid pixel.*gradient of 'score.0.weight' is not 0"),
    (
        broken_head(lambda self, levels: Head.forward(self, [levels[0] - levels[0].mean(), levels[1]])),
        "eval mode.*mixes images",
    ),
    (broken(loss=_counts_over_the_batch), "same loss alone.*the loss mixes images"),
    (broken_head(_mixes_in_training), "same loss alone.*couples_images = True"),
    (broken_head(_unseeded), "same seed.*losses differ|mixes images"),
    (broken_head(_in_place), "left as they are.*written to"),
    (broken(loss=lambda self, p, t: valid_mean((p - t) ** 2, t > 0)), "need not be multiples of a stride.*RuntimeError"),
    (broken(loss=_by_boolean_index), "fake tensors.*cannot be measured"),
    (broken(draw=lambda self, image, p: image / 2), "A picture is.*drawn as .* float64"),
    (broken(draw=lambda self, image, p: image[:-1]), r"A picture is.*\(52, 75, 3\) is drawn as \(51, 75, 3\)"),
    (Narrowing, "predicts from what is narrow.*It does not: forward"),
    (broken(draw=_draws_on_the_image), "A picture is.*wrote to the image"),
    (broken(draw=_overflows), "whatever the prediction.*IndexError"),
    (broken(metric=lambda self: OtherPrimary()), "primary score.*its primary is 'RelSq'"),
    (broken(metric=lambda self: PerfectOnNothing()), "nan, not 0.*Before any update it is 0.0"),
]


def test_a_plain_task_passes() -> None:
    """The task that all others here differ from."""
    check_task(Plain())


@pytest.mark.parametrize(("task", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_a_broken_task_is_found(task: type[Task], message: str) -> None:
    """The error names the task, the property and what was seen."""
    with pytest.raises(TaskError, match=f"(?s)^task '{task.__name__}' breaks the property .*({message})"):
        check_task(task())


def test_a_metric_that_averages_averages_is_found() -> None:
    """Images with another number of labelled pixels make the difference."""
    with pytest.raises(TaskError, match=r"two halves merged.*AbsRel is .* for the whole"):
        check_task(broken(metric=lambda self: MeanOfMeans())())


def test_a_task_that_cannot_be_sent_is_found() -> None:
    """A function without a name is the usual reason."""
    task = Plain()
    task.rule = lambda depth: depth  # type: ignore[attr-defined]
    with pytest.raises(TaskError, match="sent to other processes"):
        check_task(task)


@pytest.mark.parametrize("task", [BatchNormed, Dropped])
def test_batch_norm_and_dropout_are_no_mistake(task: type[Task]) -> None:
    """Coupling that the engine knows of and randomness under a seed are allowed."""
    check_task(task())


def test_a_head_may_declare_that_it_couples_images() -> None:
    """Then the engine never splits its rows."""
    check_task(Declared())


def test_a_parameter_may_be_declared_to_have_no_gradient() -> None:
    """By its name in the head."""
    check_task(UnusedParameter(), without_gradient=["spare"])


class Heat(Depth):
    """A kind of our own that derives from one of ours."""

    key = "heat"


class Warm(Plain):
    annotation = Heat


class Weather(Annotation):
    """A kind of our own: one number for the whole image."""

    key = "weather"

    @classmethod
    def check(cls, value: Any, size: tuple[int, int]) -> None:
        assert value.shape == (1,)

    @classmethod
    def warp(cls, value: Any, warp: Warp) -> Any:
        return value

    @classmethod
    def collate(cls, values: list[Any]) -> Any:
        return torch.stack(values)

    @classmethod
    def draw(cls, image: np.ndarray, value: Any) -> np.ndarray:
        return image.copy()


class Offset(DepthErrors):
    def update(self, prediction: Tensor, target: Tensor) -> None:
        super().update(prediction[:, None, None], target[:, :, None])


class Forecast(Plain):
    """One number for every image, from the mean of the levels."""

    annotation = Weather

    class head(Head):
        def forward(self, levels: list[Tensor]) -> Tensor:
            return super().forward(levels).mean(dim=(1, 2))

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target[:, 0]) ** 2

    def metric(self) -> Metric:
        return Offset()

    def draw(self, image: np.ndarray, prediction: Tensor) -> np.ndarray:
        return image.copy()


def test_a_kind_that_derives_from_ours_has_its_examples() -> None:
    """So a plugin need not make any."""
    check_task(Warm())


def test_a_kind_of_ones_own_needs_an_example() -> None:
    """The message says how to give one; with it, the same properties are checked."""
    with pytest.raises(TaskError, match=r"no example of the kind Weather; pass check_task\(task, example=...\)"):
        check_task(Forecast())
    check_task(Forecast(), example=lambda generator, size: 1 + torch.rand(1, generator=generator))


def test_levels_may_be_given() -> None:
    """For taps whose strides matter to the head, which is told of them."""

    class Picky(Plain):
        taps = ("conv3_3", "fc7")

        def make_head(self, levels: list[Level]) -> nn.Module:
            assert levels == [Level(5, 4), Level(7, 8)]
            return super().make_head(levels)

        def __reduce__(self) -> Any:
            return Plain, (), {"taps": self.taps}

    check_task(Picky(), levels={"conv3_3": Level(5, 4), "fc7": Level(7, 8)})


def test_random_numbers_are_left_as_they_were() -> None:
    """A check between two draws does not change the second."""
    torch.manual_seed(7)
    check_task(Plain())
    after = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(3))
