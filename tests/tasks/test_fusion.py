"""The dense head: what fusing means, where pixels land, how it starts."""

import pytest
import torch
from torch import Tensor, nn

from ubertrain.engine.branches import coupling
from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError
from ubertrain.ops.pixels import enlarge
from ubertrain.tasks.fusion import FusionHead

LEVELS = [Level(6, 4), Level(8, 8), Level(10, 16)]
HEADS = [
    pytest.param({"width": width, "fusion": fusion}, id=f"{fusion}-{width}")
    for fusion in ("concat", "sum")
    for width in (0, 16)
]


def _features(rows: int = 2, size: tuple[int, int] = (32, 48), levels: list[Level] = LEVELS) -> list[Tensor]:
    return [torch.randn(rows, channels, -(-size[0] // stride), -(-size[1] // stride)) for channels, stride in levels]


def _randomised(head: nn.Module) -> nn.Module:
    for parameter in head.parameters():
        nn.init.normal_(parameter)
    return head


def test_a_negative_width_is_refused() -> None:
    """The message says what a width is."""
    with pytest.raises(ConfigError, match="number of features per pixel, or 0 for none; given is -3"):
        FusionHead([Level(8, 4)], 1, width=-3)


def test_concat_is_a_1x1_convolution_over_the_concatenated_levels() -> None:
    """Although the concatenation is never made."""
    head, levels = _randomised(FusionHead(LEVELS, 5, fusion="concat")), _features()
    scores = [enlarge(score(level), stride / 4) for score, level, (_, stride) in zip(head.score, levels, LEVELS, strict=True)]
    weight = torch.cat([mix.weight for mix in head.mix], dim=1)
    literal = torch.nn.functional.conv2d(torch.cat(scores, dim=1), weight)
    torch.testing.assert_close(head(levels), enlarge(literal, 4), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("fusion", "reduced"), [("concat", torch.mean), ("sum", torch.sum)])
def test_a_new_head_averages_or_adds(fusion: str, reduced) -> None:  # type: ignore[no-untyped-def]
    """UberNet's fusion starts as exact averaging; FCN's is a sum."""
    head, levels = FusionHead(LEVELS, 5, fusion=fusion), _features()
    for score in head.score:
        nn.init.normal_(score.weight)
    scores = [enlarge(score(level), stride / 4) for score, level, (_, stride) in zip(head.score, levels, LEVELS, strict=True)]
    torch.testing.assert_close(head(levels), enlarge(reduced(torch.stack(scores), dim=0), 4))


@pytest.mark.parametrize("options", HEADS)
def test_a_new_head_answers_its_start(options) -> None:  # type: ignore[no-untyped-def]
    """Exactly for levels of 0, nearly for others."""
    head = FusionHead(LEVELS, 2, start=[3.0, -1.0], **options)
    start = torch.tensor([3.0, -1.0]).view(1, 2, 1, 1)
    nothing = head([torch.zeros_like(level) for level in _features()])
    torch.testing.assert_close(nothing, start.expand_as(nothing))
    assert (head(_features()) - start).std().item() < 0.8


@pytest.mark.parametrize("options", HEADS)
def test_no_image_depends_on_the_others(options) -> None:  # type: ignore[no-untyped-def]
    """In training mode too, so that rows may be run in parts."""
    head, levels = FusionHead(LEVELS, 3, **options), _features(rows=3)
    alone = [head([level[row : row + 1] for level in levels]) for row in range(3)]
    torch.testing.assert_close(torch.cat(alone), head(levels), rtol=1e-5, atol=1e-6)
    assert coupling(head) is None


@pytest.mark.parametrize("size", [(32, 48), (33, 47), (5, 70), (16, 17)])
@pytest.mark.parametrize("options", HEADS)
def test_scores_cover_the_finest_level_times_its_stride(options, size: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    """Which is the image, rounded up."""
    scores = FusionHead(LEVELS, 3, **options)(_features(size=size))
    assert scores.shape == (2, 3, -(-size[0] // 4) * 4, -(-size[1] // 4) * 4)


@pytest.mark.parametrize("position", [(2, 1), (5, 7)])
@pytest.mark.parametrize("level", range(3))
def test_a_feature_lands_on_the_pixels_that_it_covers(level: int, position: tuple[int, int]) -> None:
    """The mean position of an impulse's scores is the middle of its block, though the coarse levels reach over the image."""
    head, features = FusionHead(LEVELS, 1), [torch.zeros_like(value) for value in _features(1, (130, 150))]
    nn.init.ones_(head.score[level].weight)
    row, column = position
    features[level][0, :, row, column] = 1
    scores = head(features)[0, 0].detach()
    mass = scores / scores.sum()
    y, x = (torch.arange(side) + 0.5 for side in scores.shape)
    stride = LEVELS[level].stride
    assert float((mass.sum(dim=1) * y).sum()) == pytest.approx((row + 0.5) * stride, abs=1e-2)
    assert float((mass.sum(dim=0) * x).sum()) == pytest.approx((column + 0.5) * stride, abs=1e-2)


def test_levels_may_come_in_any_order_and_share_a_stride() -> None:
    """As those of a dilated trunk do."""
    described = [Level(8, 8), Level(10, 8), Level(6, 4)]
    scores = FusionHead(described, 3, width=8)(_features(levels=described))
    assert scores.shape == (2, 3, 32, 48)


def test_with_a_width_levels_of_any_magnitude_contribute_alike() -> None:
    """Skip connections of VGG differ by orders of magnitude."""
    head, levels = FusionHead(LEVELS, 3, width=16), _features()
    scaled = [level * scale for level, scale in zip(levels, [300.0, 1.0, 20.0], strict=True)]
    torch.testing.assert_close(head(scaled), head(levels), rtol=1e-3, atol=1e-3)


def test_scores_have_32_bits_under_autocast() -> None:
    """They are enlarged and turned into predictions in full precision."""
    head = FusionHead(LEVELS, 1, width=8, answer=torch.exp)
    with torch.autocast("cpu", torch.bfloat16):
        assert head(_features()).dtype == torch.float32
        assert head.eval()(_features()).dtype == torch.float32


def test_only_eval_mode_answers() -> None:
    """Losses work on scores."""
    head, levels = FusionHead(LEVELS, 1, answer=torch.exp), _features()
    scores = head(levels)
    assert torch.equal(head.eval()(levels), scores.exp())


def test_rare_classes_are_learned_within_a_hundred_steps() -> None:
    """Not only after hundreds at which the commonest class is the answer everywhere."""
    head, levels = FusionHead(LEVELS, 4, width=16), _features(1)
    finest = levels[0][:, :3]
    truth = torch.where(finest.amax(dim=1) > 1.8, finest.argmax(dim=1) + 1, 0)  # nine cells of ten are of class 0
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    for _ in range(100):
        scores = head(levels)[..., 1::4, 1::4]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(scores, truth).backward()
        optimizer.step()
    found = (scores.argmax(dim=1) == truth)[truth > 0].float().mean().item()
    assert found > 0.2
