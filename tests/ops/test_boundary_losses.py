"""Losses of boundaries against their equations, pixel by pixel in float64."""

import math

import pytest
import torch
from torch import Tensor

from ubertrain.ops.boundary_losses import bag_loss, balanced_loss, class_boundary_loss, widened


def _case(rows: int = 3, *planes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, boundary pixels and others, some pixels neither; the last image has no boundary."""
    shape = (rows, *planes, 9, 11)
    kind = torch.rand(shape)
    yes, no = kind < 0.04, kind > 0.2
    no[-1] |= yes[-1]
    yes[-1] = False
    return torch.randn(shape, dtype=torch.float64, requires_grad=True), yes, no


def _by_bags(logits: Tensor, yes: Tensor, no: Tensor, radius: float) -> Tensor:
    """Kokkinos's loss of one image as it is written: -beta sum log max p - (1 - beta) sum log(1 - p), times its factor."""
    p, pixels = logits.sigmoid(), [(y, x) for y in range(logits.shape[0]) for x in range(logits.shape[1])]

    def near(a: tuple[int, int], b: tuple[int, int]) -> bool:
        return math.dist(a, b) <= radius

    marked = [j for j in pixels if yes[j]]
    free = [j for j in pixels if no[j] and not any(near(i, j) for i in marked)]
    missed = [-torch.stack([p[i] for i in pixels if near(i, j)]).max().log() for j in marked]
    invented = [-(1 - p[j]).log() for j in free]
    beta = len(free) / (len(free) + len(marked))
    if not marked:
        return torch.stack(invented).mean() / 2
    total = beta * torch.stack(missed).sum() + (1 - beta) * torch.stack(invented).sum()
    return total / (2 * beta * (1 - beta) * (len(free) + len(marked)))


@pytest.mark.parametrize("radius", [0, 1, 1.5, 2, 3])
def test_the_loss_of_bags_and_its_gradient_are_those_of_the_equation(radius: float) -> None:
    """In every image; with a radius of 0 it is the balanced one."""
    logits, yes, no = _case()
    loss = bag_loss(logits, yes, no, radius)
    wanted = torch.stack([_by_bags(*image, radius) for image in zip(logits, yes, no, strict=True)])
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=0)
    given, right = (torch.autograd.grad(values.sum(), logits, retain_graph=True)[0] for values in (loss, wanted))
    torch.testing.assert_close(given, right, rtol=1e-10, atol=1e-14)
    if radius == 0:
        assert torch.equal(loss, balanced_loss(logits, yes, no))


def test_a_bag_is_content_with_one_boundary() -> None:
    """A line predicted two pixels off costs nothing with a radius of two, and much without."""
    drawn, p = torch.zeros(1, 12, 12, dtype=torch.bool), torch.full((1, 12, 12), 0.001)
    drawn[:, 5], p[:, 7] = True, 0.999
    assert float(bag_loss(p.logit(), drawn, ~drawn, 2.0)) < 0.002
    assert float(bag_loss(p.logit(), drawn, ~drawn, 1.0)) > 2


@pytest.mark.parametrize("radius", [0, 1, 2, 2.5, 4.3])
def test_widening_takes_the_largest_within_a_disc(radius: float) -> None:
    """Against every shift of the map."""
    values = torch.randn(2, 13, 10)
    reach = int(radius)
    padded = torch.nn.functional.pad(values, (reach,) * 4, value=-torch.inf)
    shifts = [
        padded[:, reach + dy : reach + dy + 13, reach + dx : reach + dx + 10]
        for dy in range(-reach, reach + 1)
        for dx in range(-reach, reach + 1)
        if dy**2 + dx**2 <= radius**2
    ]
    assert torch.equal(widened(values, radius), torch.stack(shifts).amax(dim=0))


def test_classes_are_balanced_as_casenet_does() -> None:
    """Equation 1 with one beta for the image, up to the factor; gradients too."""
    logits, yes, no = _case(2, 4)
    yes, no = yes[:1], no[:1]
    image = logits[:1]
    p, edge = image.sigmoid(), yes.any(dim=1)
    pixels = int((yes | no).any(dim=1).sum())
    beta = 1 - float(edge.sum()) / pixels
    total = -(beta * p[yes].log().sum() + (1 - beta) * (1 - p[no]).log().sum())
    wanted = total / (2 * beta * (1 - beta) * pixels)
    loss = class_boundary_loss(image, yes, no)
    torch.testing.assert_close(loss[0], wanted, rtol=1e-12, atol=0)
    given, right = (torch.autograd.grad(value.sum(), logits, retain_graph=True)[0] for value in (loss, wanted))
    torch.testing.assert_close(given, right, rtol=1e-10, atol=1e-14)


def test_one_class_is_a_map_of_boundaries() -> None:
    """The two losses agree then."""
    logits, yes, no = _case()
    torch.testing.assert_close(class_boundary_loss(logits[:, None], yes[:, None], no[:, None]), balanced_loss(logits, yes, no))


@pytest.mark.parametrize("classes", [False, True])
def test_an_image_without_labels_costs_exactly_nothing(classes: bool) -> None:
    """And is connected to the logits with a gradient of 0."""
    logits, yes, no = _case(2, *([3] if classes else []))
    nothing = torch.zeros_like(yes)
    loss = class_boundary_loss(logits, nothing, nothing) if classes else bag_loss(logits, nothing, nothing, 2.0)
    assert loss.tolist() == [0, 0]
    loss.sum().backward()
    assert logits.grad is not None and not logits.grad.any()
