"""Stereo self-supervision: its loss by loops in float64, its head, and that it learns disparity without any."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ubertrain.annotation import Warp
from ubertrain.annotation.stereo import Stereo, stereo_value
from ubertrain.data.scenes import Scenes
from ubertrain.engine.branch import Branch
from ubertrain.engine.graph import Graph
from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError
from ubertrain.registry import TASKS, TRUNKS
from ubertrain.tasks.stereo_depth import StereoDepth
from ubertrain.tasks.stereo_losses import Weights, pair_loss, pyramid
from ubertrain.testing import check_task

LEVELS = [Level(8, 4), Level(12, 8), Level(12, 16)]


@pytest.mark.parametrize(
    "keywords", [{}, {"scale": 0.5}, {"judge": "AbsRel"}, {"taps": ["res2"]}, {"taps": ["res3", "res5"], "width": 4}]
)
def test_it_keeps_the_contract(keywords: dict[str, Any]) -> None:
    """With and without calibration and truth, on several levels or one."""
    check_task(TASKS.make("stereo_depth", "test", **{"width": 16, **keywords}))


def _views(height: int, width: int, side: float, valid_from: int = 0) -> dict[str, Tensor]:
    """A pair of noise, of which the first columns are padding."""
    own, other = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
    value = stereo_value(own, other, side=side)
    value["valid"][:, :valid_from] = False
    return value


class _ByLoops:
    """The loss of one image, written as the paper has it: one pixel, one term at a time."""

    def __init__(self, own: np.ndarray, other: np.ndarray, valid: np.ndarray, side: float, width: float) -> None:
        self.own, self.other, self.valid, self.side, self.width = own, other, valid, side, width

    def at(self, plane: np.ndarray, y: int, x: float) -> Any:
        x = min(max(x, 0.0), plane.shape[-1] - 1.0)
        left = min(int(x), plane.shape[-1] - 2)
        return (1 - (x - left)) * plane[..., y, left] + (x - left) * plane[..., y, left + 1]

    def scale(self, own_d: np.ndarray, other_d: np.ndarray, s: int) -> float:
        directions = (self.own, self.other, own_d, other_d, -self.side), (self.other, self.own, other_d, own_d, self.side)
        return sum(self.direction(*direction, s) for direction in directions)

    def direction(
        self, view: np.ndarray, source: np.ndarray, mine: np.ndarray, theirs: np.ndarray, sign: float, s: int
    ) -> float:
        height, width = self.valid.shape
        made, seen, differences, disagreements = np.zeros_like(view), np.zeros((height, width), bool), [], []
        for y, x in np.ndindex(height, width):
            place = x + sign * mine[y, x] * self.width
            made[:, y, x] = self.at(source, y, place)
            seen[y, x] = self.valid[y, x] and self.at(self.valid.astype(float), y, place) > 0.999
            if seen[y, x]:
                differences.append(np.abs(view[:, y, x] - made[:, y, x]).mean())
                disagreements.append(abs(mine[y, x] - self.at(theirs, y, place)))
        structures = []
        for y, x in np.ndindex(height - 2, width - 2):
            window = (slice(y, y + 3), slice(x, x + 3))
            if seen[window].all():
                structures.append(np.mean([_ssim_distance(view[c][window], made[c][window]) for c in range(3)]))
        rough = 0.0
        for down, right in ((0, 1), (1, 0)):
            changes = [
                abs(mine[y + down, x + right] - mine[y, x])
                * math.exp(-np.abs(view[:, y + down, x + right] - view[:, y, x]).mean())
                for y, x in np.ndindex(height - down, width - right)
                if self.valid[y, x] and self.valid[y + down, x + right]
            ]
            rough += np.mean(changes)
        structure = np.mean(structures) if structures else 0.0
        return 0.85 * structure + 0.15 * np.mean(differences) + 0.1 / 2**s * rough + np.mean(disagreements)


def _ssim_distance(p: np.ndarray, q: np.ndarray) -> float:
    above = (2 * p.mean() * q.mean() + 1e-4) * (2 * ((p - p.mean()) * (q - q.mean())).mean() + 9e-4)
    below = (p.mean() ** 2 + q.mean() ** 2 + 1e-4) * (p.var() + q.var() + 9e-4)
    return float(np.clip((1 - above / below) / 2, 0, 1))


@pytest.mark.parametrize(("side", "padding"), [(1.0, 0), (-1.0, 0), (1.0, 4)])
def test_the_loss_is_godards(side: float, padding: int) -> None:
    """Both directions, two scales, with and without padding."""
    target = Stereo.collate([_views(8, 12, side, padding)])
    answers = [torch.rand(1, 3, 8, 12, dtype=torch.float64) * 0.2, torch.rand(1, 3, 4, 6, dtype=torch.float64) * 0.2]
    expected = 0.0
    for s, answer in enumerate(answers):
        block = 2**s
        own, other, valid = (_blocks(target[name][0].double().numpy() / high, block)
                             for name, high in (("own", 255), ("other", 255), ("valid", 1)))  # fmt: skip
        loops = _ByLoops(own, other, valid > 0.999, side, 12 / block)
        expected += loops.scale(answer[0, 0].numpy(), answer[0, 1 if side > 0 else 2].numpy(), s)
    assert StereoDepth().loss(answers, target).item() == pytest.approx(expected)


def _blocks(values: np.ndarray, side: int) -> np.ndarray:
    """Means over blocks of `side` x `side`."""
    *before, height, width = values.shape
    return values.reshape(*before, height // side, side, width // side, side).mean(axis=(-3, -1))


def test_gradients_equal_finite_differences() -> None:
    """In float64, away from where the interpolation bends."""
    target = Stereo.collate([_views(6, 8, 1.0), _views(6, 8, -1.0)])
    answer = 0.05 + 0.1 * torch.rand(2, 3, 6, 8, dtype=torch.float64)
    answer.requires_grad_()
    assert torch.autograd.gradcheck(lambda values: StereoDepth().loss([values], target), answer, eps=1e-7, atol=1e-4)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_the_true_disparity_costs_least(side: float) -> None:
    """Of a textured surface that is shifted by 6 of 60 columns: less than any that is off by a pixel or more."""
    wide = torch.rand(3, 24, 66)
    wide = torch.nn.functional.avg_pool2d(wide, 3, 1, 1)
    left, right = ((255 * part).to(torch.uint8).contiguous() for part in (wide[..., :60], wide[..., 6:]))
    own, other = (left, right) if side > 0 else (right, left)
    views = pyramid(Stereo.collate([stereo_value(own, other, side=side)]), 1, torch.float32)

    def loss(pixels: float) -> float:
        disparity = torch.full((1, 24, 60), pixels / 60)
        return pair_loss([(disparity, disparity)], views, Weights()).item()

    assert loss(6) < 0.5 * min(loss(pixels) for pixels in (2.0, 4.0, 5.0, 7.0, 8.0, 12.0))


def test_padding_has_no_effect_and_nothing_but_padding_costs_nothing() -> None:
    """Bitwise, on the loss and on its gradient."""
    target = Stereo.collate([_views(16, 24, 1.0, 10), _views(16, 24, 1.0, 24)])
    answers = [0.1 * torch.rand(2, 3, 16, 24), 0.1 * torch.rand(2, 3, 8, 12)]
    results = []
    for noise in (0.0, 0.1):
        changed = [answer.clone() for answer in answers]
        changed[0][..., :10] += noise
        changed[1][..., :5] += noise
        loss = StereoDepth().loss([answer.requires_grad_() for answer in changed], target)
        loss.sum().backward()
        results.append((loss, changed[0].grad, changed[1].grad))
    assert all(torch.equal(first, second) for first, second in zip(*results, strict=True))
    loss, fine, coarse = results[0]
    assert loss[0] > 0 and loss[1] == 0
    assert fine[0].any() and not fine[0, ..., :10].any() and not coarse[0, ..., :5].any()
    assert not fine[1].any() and not coarse[1].any()


def test_four_scales_down_to_the_images_own_pixels() -> None:
    """Each half as large as the one before; in eval mode the finest one, for the image."""
    head = StereoDepth(width=16, scale=0.3).make_head(LEVELS)
    levels = [torch.randn(2, level.channels, 64 // level.stride, 96 // level.stride) for level in LEVELS]
    sizes = [tuple(answer.shape) for answer in head(levels)]
    assert sizes == [(2, 3, 64, 96), (2, 3, 32, 48), (2, 3, 16, 24), (2, 3, 8, 12)]
    answer = head.eval()(levels)
    assert answer["disparity"].shape == (2, 64, 96)
    torch.testing.assert_close(answer["depth"], 0.3 / answer["disparity"])


@pytest.mark.parametrize("start", [0.02, 0.15])
def test_a_new_head_answers_its_start(start: float) -> None:
    """Up to a fifth."""
    head = StereoDepth(start=start).make_head(LEVELS).eval()
    answer = head([torch.randn(1, level.channels, 64 // level.stride, 96 // level.stride) for level in LEVELS])
    assert (answer["disparity"] / start).log().abs().max().item() < 0.2


@pytest.mark.parametrize(
    "keywords",
    [{"start": 0.0}, {"start": 0.4}, {"limit": 1.5}, {"similarity": 1.2}, {"smoothness": -1.0}, {"scale": 0.0}, {"width": 0}],
)
def test_options_out_of_range_are_refused(keywords: dict[str, Any]) -> None:
    """When the task is made."""
    with pytest.raises(ConfigError, match="stereo_depth: "):
        StereoDepth(**keywords)


def test_a_stride_of_three_does_not_fit_in() -> None:
    """Since resolution doubles from step to step."""
    with pytest.raises(ConfigError, match="a stride of 12 does not fit in"):
        StereoDepth().make_head([Level(8, 4), Level(8, 12)])


def test_the_picture_shows_near_and_far() -> None:
    """Of the image's size, in different colours."""
    picture = StereoDepth().draw(np.zeros((3, 5, 3), np.uint8), {"disparity": torch.linspace(0.01, 0.2, 8).expand(4, 8)})
    assert picture.shape == (3, 5, 3) and (picture[:, 0] != picture[:, 4]).any()


@pytest.mark.slow
def test_it_learns_disparity_without_any() -> None:
    """200 steps on 64 pairs of rendered rooms, flipped at random: on new rooms well below the best constant disparity."""
    size, task = (64, 96), StereoDepth(width=32, judge="AbsRel")
    trunk = TRUNKS.make("resnet18", "test", width=0.25)
    head = task.make_head([Level(trunk.taps[tap].channels, trunk.taps[tap].stride) for tap in task.taps])
    graph = Graph(trunk.stages(), {"stereo_depth": Branch(head, list(task.taps), losses=task.losses)})
    rooms, new = (
        [reader.read(index).annotations["stereo"] for index in range(len(reader))]
        for reader in (Scenes(64, size, 0, ["stereo"], baseline=0.25), Scenes(16, size, 1, ["stereo"], baseline=0.25))
    )
    optimizer = torch.optim.AdamW(graph.parameters(), lr=3e-3)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=200)
    for _ in range(200):
        chosen = [rooms[index] for index in torch.randint(0, 64, (8,)).tolist()]
        pairs = [Stereo.warp(pair, Warp.about(size, size, flip=bool(torch.rand(()) < 0.5))) for pair in chosen]
        for pair in pairs:  # nothing that is true may be of use
            pair["disparity"] = torch.full(size, torch.nan)
        target = Stereo.collate(pairs)
        optimizer.zero_grad()
        graph.losses(target["own"].float() / 255, {"stereo_depth": target})["stereo_depth"].backward()
        optimizer.step()
        rates.step()
    learned, baseline, target = task.metric(), task.metric(), Stereo.collate(new)
    constant = baseline.constant()
    constant.observe(Stereo.collate(rooms))
    baseline.update(constant.prediction(target), target)
    with torch.no_grad():
        learned.update(graph.eval()(target["own"].float() / 255)["stereo_depth"], target)
    scores, floor = learned.compute(), baseline.compute()
    assert scores["AbsRel"] < 0.7 * floor["AbsRel"]
    assert scores["D1_all"] < 0.4 * floor["D1_all"]
