"""A head with a CRF: when it works, where, what it changes in a graph that has it, and that it helps."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rooms import write_config, write_rooms
from ubertrain.engine.branch import Branch
from ubertrain.engine.engine import Engine
from ubertrain.engine.graph import Graph
from ubertrain.engine.level import IMAGE, Level
from ubertrain.engine.meter import LiveBytes
from ubertrain.errors import ConfigError, TaskError
from ubertrain.measuring.fit import fit
from ubertrain.measuring.rehearse import rehearse
from ubertrain.ops.crf import DenseCRF
from ubertrain.planning.schedule import Schedule
from ubertrain.registry import TASKS
from ubertrain.tasks.crf_head import CRF, CRFHead, NarrowCRFHead
from ubertrain.tasks.segmentation import Segmentation
from ubertrain.testing import check_task
from ubertrain.training.build import make_model, make_readers
from ubertrain.training.config import load

LEVELS = [Level(8, 4), Level(12, 8)]
KEYWORDS: list[dict[str, Any]] = [
    {"crf": {"at": "grid", "iterations": 2}},
    {"crf": {"mode": "train", "iterations": 2}},
    {"crf": {"iterations": 1}},
    {"crf": {"mode": "train", "compatibility": "learned", "iterations": 2}, "head": "fcn8"},
    {"crf": {"at": "grid", "iterations": 2}, "head": "ubernet"},
]


def _segmentation(**keywords: Any) -> Segmentation:
    """As YAML makes it."""
    task = TASKS.make("segmentation", "test", classes=3, **{"taps": ["res2", "res3"], "width": 8, **keywords})
    assert isinstance(task, Segmentation)
    return task


def _levels(size: tuple[int, int] = (34, 41)) -> list[Tensor]:
    """Of random images, the images last."""
    shapes = [(2, channels, -(-size[0] // stride), -(-size[1] // stride)) for channels, stride in LEVELS]
    return [*(torch.randn(shape) for shape in shapes), torch.rand(2, 3, *size)]


def _heads(**crf: Any) -> tuple[nn.Module, nn.Module]:
    """A head and the same with a CRF, with the same parameters."""
    plain, sharp = _segmentation().make_head(LEVELS), _segmentation(crf=crf).make_head([*LEVELS, Level(3, 1)])
    sharp.load_state_dict(plain.state_dict(), strict=not crf.get("mode"))
    return plain, sharp


@pytest.mark.parametrize("keywords", KEYWORDS, ids=str)
def test_a_segmentation_with_it_keeps_the_contract(keywords: dict[str, Any]) -> None:
    """Of tasks, as `check_task` states it."""
    keywords = {"taps": None, "width": None, **keywords} if "head" in keywords else keywords
    given = {key: value for key, value in keywords.items() if value is not None}
    vgg = {"conv1_2": 1, "conv2_2": 2, "conv3_3": 4, "conv4_3": 8, "conv5_3": 8, "fc7": 8}
    levels = {tap: Level(8 + 4 * place, stride) for place, (tap, stride) in enumerate(vgg.items())}
    task = TASKS.make("segmentation", "test", classes=3, **given)
    check_task(task, levels=levels)


def test_the_image_is_added_to_the_taps() -> None:
    """As the last one, once."""
    assert _segmentation(crf={}).taps == ("res2", "res3", IMAGE)
    assert _segmentation(crf={}, taps=[IMAGE, "res2"]).taps == ("res2", IMAGE)
    assert _segmentation().taps == ("res2", "res3")


def test_at_inference_it_works_on_pixels_of_the_image() -> None:
    """What the head answers, cut to the image, and the image's bytes go through it."""
    plain, sharp = _heads(iterations=4, appearance_rgb=20.0)
    levels = _levels()
    crf = DenseCRF(3, iterations=4, appearance_rgb=20.0)
    with torch.no_grad():
        scores = plain.eval()(levels[:-1])[..., :34, :41]
        torch.testing.assert_close(sharp.eval()(levels), crf(scores, 255 * levels[-1]))


def test_at_inference_training_does_not_see_it() -> None:
    """Bit for bit the head without it."""
    plain, sharp = _heads()
    levels = _levels()
    assert torch.equal(sharp.train()(levels).values, plain.train()(levels[:-1]).values)


@pytest.mark.parametrize("corners", [False, True])
def test_in_training_it_works_on_the_grid(corners: bool) -> None:
    """Of stride 8: positions in cells, colours of cells, one cell of smoothness."""
    task = _segmentation(head={"type": "aspp_sum", "corners": corners}, taps=["res3"], width=0, crf={"mode": "train"})
    head, image = task.make_head([LEVELS[1], Level(3, 1)]), torch.rand(2, 3, 41, 33)
    level = torch.randn(2, 12, 6, 5)
    blocks = [[image[..., y : y + 8, x : x + 8].mean(dim=(-2, -1)) for x in range(0, 33, 8)] for y in range(0, 41, 8)]
    means = torch.stack([torch.stack(row, dim=-1) for row in blocks], dim=-2)  # the last ones of the pixels that there are
    cells = image[..., ::8, ::8] if corners else means
    plain = _segmentation(head={"type": "aspp_sum", "corners": corners}, taps=["res3"], width=0).make_head([LEVELS[1]])
    plain.load_state_dict({name: value for name, value in head.state_dict().items() if not name.startswith("crf.")})
    crf = DenseCRF(3, appearance_xy=67 / 8)
    wanted = crf(plain([level]).values, 255 * cells)
    found = head([level, image])
    torch.testing.assert_close(found.values, wanted, rtol=0, atol=5e-3)  # a last digit of a colour moves it on the lattice
    torch.testing.assert_close(head.eval()([level, image]), found.pixels())


def test_what_learns_is_trained() -> None:
    """Weights of kernels and compatibility get gradients with the head's own parameters, in mode train only."""
    task = _segmentation(crf={"mode": "train", "compatibility": "learned", "iterations": 2})
    head, levels = task.make_head([*LEVELS, Level(3, 1)]), _levels()
    task.loss(head(levels), torch.randint(0, 3, (2, 34, 41))).sum().backward()
    learned = {name: parameter.grad for name, parameter in head.named_parameters() if name.startswith("crf.")}
    assert sorted(learned) == ["crf.compatibility", "crf.weights"]
    assert all(gradient is not None and gradient.any() for gradient in learned.values())


def test_without_learning_it_adds_no_state() -> None:
    """Names and parameters are those of the head, so that a run may be evaluated with it."""
    plain, sharp = _heads()
    assert list(sharp.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in sharp.named_parameters()] == [name for name, _ in plain.named_parameters()]


def test_it_follows_the_head_between_devices_and_modes() -> None:
    """Its constants are buffers, and the head keeps up with train and eval."""
    _, sharp = _heads()
    assert sharp.to("meta").crf.weights.is_meta
    assert isinstance(sharp, CRFHead)
    assert not sharp.eval()._inner[0].training and sharp.train()._inner[0].training


@pytest.mark.parametrize(("head", "narrow"), [("fusion", True), ("fcn8", True), ("aspp", False), ("ubernet", False)])
def test_it_runs_narrow_if_its_head_does(head: str, narrow: bool) -> None:
    """And says nothing of it otherwise."""
    recipe_levels = [Level(8, 8)] * {"fcn8": 3, "aspp": 1}.get(head, 2)
    task = Segmentation(classes=3, head=head, crf=CRF())
    assert isinstance(task.make_head([*recipe_levels, Level(3, 1)]), NarrowCRFHead) == narrow


def test_it_sharpens_blurred_scores() -> None:
    """Of two halves of different colours, with noise: nearly all pixels come right, where one in six was wrong."""
    truth = torch.zeros(1, 48, 48, dtype=torch.int64)
    truth[..., 24:] = 1
    image = torch.where(truth.bool()[:, None], 0.8, 0.2).expand(-1, 3, -1, -1) + 0.02 * torch.randn(1, 3, 48, 48)
    scores = F.one_hot(truth, 2).movedim(-1, 1).float() + torch.randn(1, 2, 48, 48) * 0.75
    sharp = CRF(appearance_xy=20.0, appearance_rgb=13.0).layer(2, 1)(scores, 255 * image.clamp(0, 1))
    wrong_before, wrong_after = ((each.argmax(dim=1) != truth).float().mean().item() for each in (scores, sharp))
    assert wrong_before > 0.15
    assert wrong_after < 0.01


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"crf": {"mod": "train"}}, "mod"),
        ({"crf": {"mode": "both"}}, "inference"),
        ({"crf": {"compatibility": "learned"}}, "compatibility: learned needs mode: train"),
        ({"crf": {"appearance_rgb": 0}}, "must be positive"),
        ({"crf": {"iterations": -1}}, "iterations >= 0"),
    ],
)
def test_what_makes_no_crf_is_refused(keywords: dict[str, Any], message: str) -> None:
    """When the task is made."""
    with pytest.raises(ConfigError, match=message):
        _segmentation(**keywords)


def test_a_head_without_a_grid_has_none_to_work_on() -> None:
    """The message says what to do."""
    task = _segmentation(head={"type": "fcn16", "upsampling": "all"}, crf={"mode": "train"})
    with pytest.raises(ConfigError, match="use at: pixels"):
        task.make_head([*LEVELS, Level(3, 1)])


def test_the_image_alone_gives_no_scores() -> None:
    """There must be a tap for the head that the CRF follows."""
    task = _segmentation(crf={}, taps=["image"])
    with pytest.raises(ConfigError, match="give some, such as taps"):
        task.make_head([Level(3, 1)])


def test_the_last_level_must_be_the_image() -> None:
    """A level of features has no colours."""
    with pytest.raises(ConfigError, match="sees the image, Level\\(3, 1\\)"):
        _segmentation(crf={}).make_head(LEVELS)


def test_a_head_that_changes_its_grid_is_noticed() -> None:
    """Widths were divided by another stride."""
    head, levels = _segmentation(crf={"mode": "train"}).make_head([*LEVELS, Level(3, 1)]), _levels()
    assert isinstance(head, CRFHead)
    head.stride = 16
    with pytest.raises(TaskError, match="made for scores on a grid of stride 16"):
        head(levels)


def _graph(**crf: Any) -> Graph:
    """A trunk that begins with the images, and a second task that does not read them."""
    torch.manual_seed(5)
    stages = {IMAGE: nn.Identity(), "res2": nn.Conv2d(3, 8, 3, stride=4, padding=1), "res3": nn.Conv2d(8, 12, 3, 2, 1)}
    sharp, plain = _segmentation(crf=crf), _segmentation()
    return Graph(
        stages,
        {
            "sharp": Branch(sharp.make_head([*LEVELS, Level(3, 1)]), sharp.taps, sharp.loss),
            "plain": Branch(plain.make_head(LEVELS), plain.taps, plain.loss),
        },
    )


SCHEDULES = ["image res2 res3", "(image res2) res3", "image (res2 res3)", "(image res2 res3) | sharp rows=1, plain"]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("mode", ["inference", "train"])
def test_a_step_with_images_as_a_tap_is_exact(mode: str, schedule: str) -> None:
    """Gradients are those of plain autograd, whether the images' stage is recomputed or not, and the peak is rehearsed."""
    images, target = torch.rand(3, 3, 32, 40), torch.randint(0, 3, (3, 32, 40))
    targets = {"sharp": target, "plain": target}
    reference, graph = _graph(mode=mode, iterations=2), _graph(mode=mode, iterations=2)
    sum(reference.losses(images, targets).values()).backward()  # type: ignore[union-attr]
    with LiveBytes() as meter:
        Engine(graph, Schedule.parse(schedule)).forward_backward(images, targets)
    whole = "rows" not in schedule
    for (name, ours), theirs in zip(graph.named_parameters(), reference.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None, name
        close = torch.equal if whole else lambda a, b: torch.allclose(a, b, rtol=1e-4, atol=1e-6)
        assert close(ours.grad, theirs.grad), name
    assert rehearse(_graph(mode=mode, iterations=2), Schedule.parse(schedule), images, targets) == meter.peak


def test_a_budget_is_met_with_images_as_a_tap() -> None:
    """What fits is found and runs, to the byte."""
    images, target = torch.rand(4, 3, 64, 64), torch.randint(0, 3, (4, 64, 64))
    targets, graph = {"sharp": target, "plain": target}, _graph(mode="train", iterations=2)
    with LiveBytes() as whole:
        sum(graph.losses(images, targets).values()).backward()  # type: ignore[union-attr]
    graph.zero_grad()
    budget = int(0.8 * whole.peak)
    schedule = fit(graph, images, targets, budget=budget, cost="flops")
    with LiveBytes() as meter:
        Engine(graph, schedule).forward_backward(images, targets)
    assert meter.peak <= budget


def test_only_configurations_that_use_it_have_images_as_a_stage(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Others keep their plans; the state has the same names either way."""
    file = write_config(tmp_path, write_rooms(tmp_path / "data"))
    graphs = []
    for overrides in ([], ["tasks.segmentation.crf.mode=inference"]):
        config = load(file, overrides)
        graphs.append(make_model(config, make_readers(config, "train"), make_readers(config, "val")).graph)
    plain, sharp = graphs
    assert sharp.stage_names == (IMAGE, *plain.stage_names)
    assert sharp.taps["segmentation"] == (*plain.taps["segmentation"], IMAGE)
    assert list(sharp.state_dict()) == list(plain.state_dict())
