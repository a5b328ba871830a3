from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ubertrain.engine.meter import LiveBytes
from ubertrain.errors import ConfigError, DataError, NonFiniteError
from ubertrain.ops import mean_field
from ubertrain.ops.crf import DenseCRF
from ubertrain.ops.crf_exact import exact_kernels, exact_mean_field


def pictures(rows: int, height: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Smooth random images."""
    coarse = torch.rand(rows, 3, 4, 4, dtype=dtype) * 255
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")


def crf(classes: int, **options: Any) -> DenseCRF:
    """With weights that leave the marginals undecided, and widths that fit small images."""
    fitting = {"appearance_weight": 1.2, "smoothness_weight": 0.7, "appearance_xy": 6.0, "appearance_rgb": 25.0}
    made = DenseCRF(classes, **(fitting | options)).double()
    if made.compatibility is not None:
        with torch.no_grad():
            made.compatibility += 0.3 * torch.randn(classes, classes)
    return made


@pytest.mark.parametrize("compatibility", ["potts", "learned"])
@pytest.mark.parametrize("iterations", [1, 5])
def test_iterations_are_the_equation(iterations: int, compatibility: str) -> None:
    """With this CRF's own kernels as dense matrices, the plain equation gives the same."""
    module = crf(3, iterations=iterations, compatibility=compatibility)
    logits, images = torch.randn(1, 3, 6, 7, dtype=torch.double), pictures(1, 6, 7, torch.double)
    built = mean_field.kernels(images, module.widths, True, logits)
    matrices = torch.stack([kernel.filter(torch.eye(42, dtype=torch.double)) for kernel in built])[:, None]
    expected = exact_mean_field(logits, matrices, module.weights, module.compatibility, iterations)
    torch.testing.assert_close(module(logits, images), expected)


@pytest.mark.parametrize(("normalisation", "weights"), [("symmetric", (3, 2)), ("none", (0.05, 0.2))])
def test_near_the_exact_form(normalisation: str, weights: tuple[float, float]) -> None:
    """Marginals on a smooth picture are near those with exact Gaussian kernels: closer by far than the logits' own."""
    module = crf(4, normalisation=normalisation, appearance_weight=weights[0], smoothness_weight=weights[1])
    coarse, images = torch.randn(2, 4, 5, 6, dtype=torch.double), pictures(2, 20, 24, torch.double)
    logits = torch.nn.functional.interpolate(coarse, size=(20, 24), mode="bilinear")
    exact = exact_kernels(images, module.widths, normalised=normalisation == "symmetric")
    expected = exact_mean_field(logits, exact, module.weights).exp()
    error = (module(logits, images).exp() - expected).abs().mean()
    assert error < 0.03
    assert error < 0.3 * (logits.softmax(dim=1) - expected).abs().mean()


@pytest.mark.parametrize("compatibility", ["potts", "learned"])
@pytest.mark.parametrize("iterations", [0, 1, 2, 5, 10])
def test_gradients(iterations: int, compatibility: str) -> None:
    """Those of logits, kernel weights and compatibility are right, whatever part of the iterations is computed again."""
    module = crf(3, iterations=iterations, compatibility=compatibility)
    images = pictures(1, 3, 3, torch.double)
    names = [name for name, _ in module.named_parameters()]

    def marginals(logits: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (logits, images))

    logits = torch.randn(1, 3, 3, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(marginals, (logits, *module.parameters()), fast_mode=iterations != 2)


def test_gradients_of_unnormalised_kernels() -> None:
    """As above, without normalisation and with a wide smoothness kernel."""
    module = crf(2, iterations=3, normalisation="none", smoothness_xy=2.5, appearance_weight=0.1, smoothness_weight=0.1)
    images = pictures(2, 3, 4, torch.double)
    logits = torch.randn(2, 2, 3, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda logits: module(logits, images), (logits,), fast_mode=True)


def test_a_training_step_changes_all_parameters() -> None:
    """A loss of the log-marginals reaches logits, weights and compatibility."""
    module = DenseCRF(3, compatibility="learned")
    logits = torch.randn(1, 3, 8, 8, requires_grad=True)
    torch.nn.functional.nll_loss(module(logits, pictures(1, 8, 8)), torch.randint(3, (1, 8, 8))).backward()
    for tensor in (logits, *module.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.abs().max() > 0


def test_rows_are_independent() -> None:
    """A batch is its images one by one."""
    module, logits, images = DenseCRF(5), torch.randn(3, 5, 16, 20), pictures(3, 16, 20)
    alone = [module(logits[i : i + 1], images[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(module(logits, images), torch.cat(alone), rtol=0, atol=1e-5)


def test_classes_are_alike() -> None:
    """Labels in another order give the same marginals in that order."""
    module, logits, images = crf(5), torch.randn(1, 5, 12, 12, dtype=torch.double), pictures(1, 12, 12, torch.double)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(module(logits[:, order], images), module(logits, images)[:, order])


def test_a_constant_per_pixel_changes_nothing() -> None:
    """Logits need not be normalised."""
    module, logits, images = crf(3), torch.randn(1, 3, 9, 9, dtype=torch.double), pictures(1, 9, 9, torch.double)
    shifted = logits + 5 * torch.randn(1, 1, 9, 9, dtype=torch.double)
    torch.testing.assert_close(module(shifted, images), module(logits, images))


@pytest.mark.parametrize("options", [{"iterations": 0}, {"appearance_weight": 0, "smoothness_weight": 0}])
def test_without_messages_it_is_log_softmax(options: dict[str, Any]) -> None:
    """No iterations, or no weights: the log-probabilities of the unaries."""
    logits = torch.randn(2, 4, 6, 5)
    torch.testing.assert_close(DenseCRF(4, **options)(logits, pictures(2, 6, 5)), logits.log_softmax(dim=1))


def test_marginals_sum_to_one() -> None:
    """Log-marginals are log-probabilities."""
    total = DenseCRF(6)(3 * torch.randn(1, 6, 15, 11), pictures(1, 15, 11)).exp().sum(dim=1)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_a_speck_disappears_and_an_edge_stays() -> None:
    """A wrong pixel within an object is corrected, and labels that spilled over an edge of the image withdraw to it."""
    images = torch.full((1, 3, 24, 24), 40.0)
    images[..., 12:] = 200
    labels = torch.zeros(24, 24, dtype=torch.long)
    labels[:, 12:] = 1
    rough = labels.clone()
    rough[5:12, 10:12] = 1
    rough[18, 4] = 1
    logits = torch.nn.functional.one_hot(rough, 2).permute(2, 0, 1)[None].float()
    assert torch.equal(DenseCRF(2)(logits, images).argmax(dim=1)[0], labels)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 3, 1, 1), (2, 1, 5, 4), (1, 2, 1, 7), (0, 3, 5, 4), (1, 2, 0, 4)])
def test_small_shapes(shape: tuple[int, ...]) -> None:
    """One pixel, one class, one line, no image, no pixels: marginals of that shape, with gradients."""
    rows, classes, height, width = shape
    logits = torch.randn(shape, requires_grad=True)
    marginals = DenseCRF(classes)(logits, torch.rand(rows, 3, height, width) * 255)
    marginals.sum().backward()
    assert marginals.shape == shape
    assert marginals.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lower_precision_goes_in_float32_comes_out(dtype: torch.dtype) -> None:
    """Logits of any float type, images of bytes, under autocast or not, give what their float32 values give."""
    logits, images = torch.randn(1, 3, 10, 12).to(dtype).requires_grad_(), pictures(1, 10, 12).byte()
    module = DenseCRF(3, compatibility="learned")
    with torch.autocast("cpu", torch.bfloat16):
        got = module(logits, images)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, module(logits.detach().float(), images.float()))
    got.sum().backward()
    assert logits.grad is not None
    assert logits.grad.dtype == dtype


def test_repeats_bit_for_bit() -> None:
    """Two runs give the same numbers and gradients."""

    def run() -> tuple[Tensor, Tensor]:
        torch.manual_seed(3)
        logits, images = torch.randn(1, 4, 30, 30, requires_grad=True), pictures(1, 30, 30)
        result = DenseCRF(4)(logits, images)
        return result, torch.autograd.grad(result.square().sum(), logits)[0]

    for first, second in zip(run(), run(), strict=True):
        assert torch.equal(first, second)


def test_bad_logits_are_named() -> None:
    """The error lists the rows whose logits are not finite."""
    logits, images = torch.zeros(3, 2, 4, 4), pictures(3, 4, 4)
    logits[1, 0, 2, 2], logits[2, 1, 0, 0] = float("nan"), float("inf")
    with pytest.raises(NonFiniteError, match=r"rows \[1, 2\]"):
        DenseCRF(2)(logits, images)


@pytest.mark.parametrize("value", [-1.0, 256.0, float("nan")])
def test_images_out_of_range(value: float) -> None:
    """Normalised or damaged images are refused with what to do."""
    images = pictures(1, 4, 4)
    images[0, 1, 2, 2] = value
    with pytest.raises(DataError, match=r"0\.\.255.*undo"):
        DenseCRF(2)(torch.zeros(1, 2, 4, 4), images)


@pytest.mark.parametrize(
    ("logits", "images"),
    [
        ((1, 3, 4, 4), (1, 3, 4, 4)),
        ((2, 4, 4), (1, 3, 4, 4)),
        ((1, 2, 4, 4), (1, 3, 8, 8)),
        ((1, 2, 4, 4), (2, 3, 4, 4)),
        ((1, 2, 4, 4), (1, 1, 4, 4)),
    ],
)
def test_shapes_that_do_not_match(logits: tuple[int, ...], images: tuple[int, ...]) -> None:
    """Another number of classes, another size, another number of images or channels: an error says what was given."""
    with pytest.raises(DataError, match="got"):
        DenseCRF(2)(torch.zeros(logits), torch.zeros(images))


@pytest.mark.parametrize(
    "options",
    [
        {"classes": 0}, {"iterations": -1}, {"appearance_xy": 0.0}, {"appearance_rgb": -3.0}, {"smoothness_xy": float("nan")},
        {"compatibility": "other"}, {"normalisation": "before"}, {"appearance_weight": float("nan")},
    ],
)  # fmt: skip
def test_options_out_of_range(options: dict[str, Any]) -> None:
    """A CRF that cannot work is refused when it is made."""
    with pytest.raises(ConfigError):
        DenseCRF(**({"classes": 2} | options))


@pytest.mark.parametrize("trained", [False, True])
def test_fake_tensors_pass_through(trained: bool) -> None:
    """Shapes are known without values, and a meter counts as much as for real tensors, forward and backward."""

    def peak(logits: Tensor, images: Tensor) -> int:
        module = DenseCRF(3)
        logits.requires_grad_(trained)
        with LiveBytes() as meter:
            result = module(logits, images)
            if trained:
                result.sum().backward()
        return meter.peak

    with FakeTensorMode():
        fake = peak(torch.empty(2, 3, 16, 20), torch.empty(2, 3, 16, 20))
    assert fake == peak(torch.randn(2, 3, 16, 20), pictures(2, 16, 20))


@pytest.mark.parametrize("smoothness_xy", [1.0, 3.0])
@pytest.mark.parametrize("classes", [2, 21])
def test_declared_memory_is_enough(classes: int, smoothness_xy: float) -> None:
    """What an operator really holds on a smooth picture is not more than it declares, and not less than half."""
    logits, images, widths = torch.randn(1, classes, 60, 80), pictures(1, 60, 80), (67.0, 12.0, smoothness_xy)
    weights, every = torch.tensor([4.0, 3.0]), 4

    def ratio(declared: LiveBytes, real: LiveBytes) -> float:
        return real.peak / declared.peak

    with LiveBytes() as declared:
        mean_field.mean_field(logits, images, weights, None, widths, 10, True, every)
    with LiveBytes() as real:
        result, kept = mean_field.forward(logits, images, weights, None, widths, 10, True, every)
    assert 0.5 < ratio(declared, real) <= 1
    with LiveBytes() as declared:
        mean_field.declare(logits, mean_field.BACKWARD_MAPS + every, widths)
    with LiveBytes() as real:
        mean_field.backward(result, result, kept, logits, images, weights, None, widths, 10, True, every)
    assert 0.5 < ratio(declared, real) <= 1


def test_memory_does_not_grow_with_iterations() -> None:
    """Without gradients not at all; with gradients as their square root."""
    logits, images, weights = torch.randn(1, 8, 40, 40), pictures(1, 40, 40), torch.tensor([4.0, 3.0])

    def peak(iterations: int) -> int:
        with LiveBytes() as meter:
            mean_field.forward(logits, images, weights, None, (67.0, 3.0, 1.0), iterations, True, 0)
        return meter.peak

    def kept(iterations: int) -> int:
        module = DenseCRF(8, iterations=iterations)
        with LiveBytes() as meter:
            result = module(logits.requires_grad_(), images)
            held = meter.live
        return held - result.nbytes

    assert peak(20) == peak(3)
    assert kept(25) == 4 * logits.nbytes
    assert kept(100) == 9 * logits.nbytes
