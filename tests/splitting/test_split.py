"""Modules cut into stages: the same bits as the whole, at both granularities, under plain calls and under the engine."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tests.families import FAMILIES, Asserts, Basic, Block, DenseNet, DropPath, Odd, Packed, ResNet, ViT, images
from ubertrain.engine.branch import Branch
from ubertrain.engine.engine import Engine
from ubertrain.engine.graph import Graph
from ubertrain.engine.labels import Labels
from ubertrain.engine.meter import LiveBytes
from ubertrain.errors import ScheduleError
from ubertrain.measuring.rehearse import rehearse
from ubertrain.planning.every_k import every_k
from ubertrain.splitting.split import split
from ubertrain.trunks.resnet import ResNet50

BOTH = pytest.mark.parametrize("finer", [False, True], ids=["whole", "finer"])
EACH = pytest.mark.parametrize("name", FAMILIES)


def build(name: str) -> nn.Module:
    """A family's network, always with the same weights."""
    torch.manual_seed(7)
    return FAMILIES[name][0]()


def chained(stages: dict[str, nn.Module], value: Any) -> dict[str, Any]:
    """What each stage returns when each is called with what the one before returned."""
    outputs = {}
    for name, stage in stages.items():
        value = outputs[name] = stage(value)
    return outputs


def last(stages: dict[str, nn.Module], value: Any) -> Any:
    """What the last stage returns."""
    return list(chained(stages, value).values())[-1]


def equal(left: Any, right: Any) -> bool:
    """Whether two pytrees hold the same bits in the same places."""
    (ours, structure), (theirs, other) = pytree.tree_flatten(left), pytree.tree_flatten(right)
    if structure != other:
        return False
    return all(
        torch.equal(a, b) if isinstance(a, Tensor) and b is not None else a is b for a, b in zip(ours, theirs, strict=True)
    )


def state_after(module: nn.Module, run: Any) -> tuple[Any, list[Tensor | None], list[Tensor], Tensor]:
    """Output, gradients, buffers and random numbers after one step of `run`."""
    torch.manual_seed(1)
    output = run(images())
    sum(leaf.square().sum() for leaf in pytree.tree_leaves(output)).backward()
    return output, [p.grad for p in module.parameters()], list(module.buffers()), torch.get_rng_state()


@BOTH
@EACH
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_the_stages_do_what_the_module_does(name: str, finer: bool, training: bool) -> None:
    """Output, gradients, buffers and random numbers of the stages in order are those of the module, bit for bit."""
    whole, cut = build(name), build(name)
    stages = split(cut, finer=finer)
    whole.train(training)
    for stage in stages.values():
        stage.train(training)
    expected, found = state_after(whole, whole), state_after(cut, lambda x: last(stages, x))
    assert equal(expected, found)


def hooked(module: nn.Module, taps: tuple[str, ...], value: Any) -> dict[str, Tensor]:
    """What the tapped submodules return while the module runs; of a list, its last member."""
    outputs: dict[str, Tensor] = {}
    for tap in taps:
        part = module.get_submodule(tap)
        while isinstance(part, (nn.ModuleList, nn.Sequential)):
            part = part[-1]
        part.register_forward_hook(lambda _m, _args, output, tap=tap: outputs.__setitem__(tap, output.clone()))
    module(value)
    return outputs


@BOTH
@EACH
def test_taps_lead_to_their_modules_outputs(name: str, finer: bool) -> None:
    """The graph finds each tap, and what it finds is the module's output, first where several values cross."""
    taps = FAMILIES[name][1]
    stages = split(build(name).eval(), taps, finer=finer)
    x = images()
    outputs = chained(stages, x)
    expected = hooked(build(name).eval(), taps, x)
    graph = Graph(stages, {f"t{i}": Branch(nn.Identity(), [tap], F.mse_loss) for i, tap in enumerate(taps)})
    for i, tap in enumerate(taps):
        found = outputs[graph.taps[f"t{i}"][0]]
        assert torch.equal(found[0] if isinstance(found, tuple) else found, expected[tap])


class Pooled(nn.Module):
    """A head with one factor, on the first tensor of each level."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, levels: list[Any]) -> Tensor:
        firsts = [pytree.tree_leaves(level)[0] for level in levels]
        return self.factor * sum(first.flatten(1).square().mean(1) for first in firsts)


def graph_of(name: str, finer: bool) -> Graph:
    """A task on the last tap and one on all taps."""
    taps = FAMILIES[name][1]
    loss = nn.L1Loss(reduction="none")
    branches = {"top": Branch(Pooled(), taps[-1:], loss), "all": Branch(Pooled(), taps, loss, weight=0.5)}
    return Graph(split(build(name), taps, finer=finer), branches)


TARGETS = {"top": torch.zeros(2), "all": Labels(torch.ones(1), [1])}


DEEP = [pytest.param(name, marks=pytest.mark.slow) if name in ("own_vgg16", "own_efficientnet") else name for name in FAMILIES]


@BOTH
@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("k", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(5, marks=pytest.mark.slow)])
def test_the_engine_trains_the_stages_as_plain_autograd_does(name: str, finer: bool, k: int) -> None:
    """Losses, gradients, buffers and random numbers agree with plain autograd, bit for bit; the rehearsed peak is the real."""
    plain, ours = graph_of(name, finer), graph_of(name, finer)
    x = images()
    torch.manual_seed(1)
    losses = plain.losses(x, TARGETS)
    sum(losses.values()).backward()
    expected = torch.get_rng_state()
    schedule = every_k(ours.stage_names, tuple(ours.branches), k)
    peak = rehearse(ours, schedule, x, TARGETS)
    torch.manual_seed(1)
    with LiveBytes() as meter:
        found = Engine(ours, schedule).forward_backward(x, TARGETS)
    assert equal({task: loss.detach() for task, loss in losses.items()}, found)
    assert torch.equal(expected, torch.get_rng_state())
    assert equal([p.grad for p in plain.parameters()], [p.grad for p in ours.parameters()])
    assert equal(list(plain.buffers()), list(ours.buffers()))
    assert meter.peak == peak


@EACH
def test_finer_refines(name: str) -> None:
    """Cutting finer gives more stages, and keeps every place where one tensor crosses."""
    taps = FAMILIES[name][1]
    x = images()
    whole, finer = (chained(split(build(name).eval(), taps, finer=how), x) for how in (False, True))
    assert len(finer) > len(whole)
    kept = [value for value in finer.values() if isinstance(value, Tensor)]
    for value in whole.values():
        assert not isinstance(value, Tensor) or any(v.shape == value.shape and torch.equal(v, value) for v in kept)


NAMES = [
    ("resnet_basic", False, "conv1 layer1.0 layer1.1 layer2.0 layer2.1"),
    (
        "resnet_basic",
        True,
        "conv1 bn1 layer1.0.conv1 layer1.0.conv2 layer1.0.bn2 layer1.1.conv1 layer1.1.conv2 layer1.1.bn2 layer2.0.conv1 "
        "layer2.0.conv2 layer2.0.downsample layer2.1.conv1 layer2.1.conv2 layer2.1.bn2",
    ),
    ("densenet_dropout", False, "stem block1 transition.2 norm"),
    ("inception", False, "stem mixed.0.three mixed.1 mixed.2"),
    (
        "vit_packed",
        False,
        "patch_embed blocks.0.attn.inner blocks.0.mlp blocks.1.attn.inner blocks.1.mlp blocks.2.attn.inner blocks.2.mlp",
    ),
    (
        "own_vgg16",
        False,
        "features.0 features.5 features.7 features.10 features.14 features.17 features.20 features.24 features.27 "
        "features.30 features.34 features.37 features.42",
    ),
    ("odd", False, "act shared.0 shared.1 split"),
]


@pytest.mark.parametrize(("name", "finer", "expected"), NAMES)
def test_stages_are_cut_and_named(name: str, finer: bool, expected: str) -> None:
    """Blocks stay whole under their paths; pieces are named after the products or layers in them."""
    assert " ".join(split(build(name), FAMILIES[name][1], finer=finer)) == expected


@pytest.mark.parametrize(("finer", "stages"), [(False, 17), (True, 66)])
def test_a_resnet_50_is_cut_by_blocks_and_by_convolutions(finer: bool, stages: int) -> None:
    """Stem and 16 blocks; with `finer` the 48 convolutions of the blocks, a stage that closes each, two stems."""
    assert len(split(ResNet50(width=0.125), ["layer4"], finer=finer)) == stages


@BOTH
@EACH
def test_layers_parameters_and_buffers_are_the_modules_own(name: str, finer: bool) -> None:
    """The stages hold no tensor of their own but constants that were made in the forward pass."""
    module = build(name)
    stages = nn.ModuleList(split(module, finer=finer).values())
    own = {id(p) for p in module.parameters()}
    assert {id(p) for p in stages.parameters()} <= own
    constants = 1 if name == "odd" else 0
    assert len({id(b) for b in stages.buffers()} - {id(b) for b in module.buffers()}) == constants


def test_a_whole_block_keeps_its_names_in_a_state() -> None:
    """In the graph's state the parameters of a stage that is one block stand under the paths they have in the module."""
    graph = Graph(split(ResNet(Basic), ["layer2"]), {"a": Branch(Pooled(), ["layer2"], nn.L1Loss(reduction="none"))})
    assert "trunk.layer1.0.conv1.weight" in graph.state_dict()


@EACH
def test_splitting_leaves_the_module_as_it_was(name: str) -> None:
    """Attributes, modes and random numbers are the same before and after."""

    def condition() -> list[Any]:
        return [[(path, m.training, sorted(vars(m))) for path, m in module.named_modules()], torch.get_rng_state().tolist()]

    module = build(name)
    next(module.children()).eval()
    before = condition()
    split(module, finer=True)
    assert condition() == before


@BOTH
@pytest.mark.parametrize("name", ["resnet_basic", "vit", "odd"])
def test_copies_and_pickles_do_the_same(name: str, finer: bool) -> None:
    """A deep copy and a pickled stage return the same bits, from tensors of their own."""
    stages = {key: stage.eval() for key, stage in split(build(name), finer=finer).items()}
    file = io.BytesIO()
    torch.save(stages, file)
    file.seek(0)
    x = images()
    expected = last(stages, x.clone())
    for other in (copy.deepcopy(stages), pickle.loads(pickle.dumps(stages)), torch.load(file, weights_only=False)):
        assert equal(last(other, x.clone()), expected)
        for stage, twin in zip(stages.values(), other.values(), strict=True):
            assert not {id(p) for p in stage.parameters()} & {id(p) for p in twin.parameters()}


def test_a_frozen_block_stays_in_evaluation_mode() -> None:
    """What the module's own `train` keeps in evaluation mode stays there in the stages, the rest follows."""
    stages = split(ResNet50(width=0.125, frozen=["res2"]), ["layer2"], finer=True)
    for stage in stages.values():
        stage.train()
    norms = {
        name: [part.training for part in stage.modules() if isinstance(part, nn.BatchNorm2d)] for name, stage in stages.items()
    }
    assert {mode for name, modes in norms.items() for mode in modes if name.startswith("layer1")} == {False}
    assert {mode for name, modes in norms.items() for mode in modes if name.startswith("layer2")} == {True}


def leaf_kinds(stages: dict[str, nn.Module]) -> set[type]:
    """The classes of the modules in the stages."""
    return {type(part) for stage in stages.values() for part in stage.modules()}


def test_code_that_depends_on_the_mode_is_kept_whole() -> None:
    """A module that reads self.training is one operation, so that it follows train() and eval()."""
    assert DropPath in leaf_kinds(split(ViT(lambda: Packed(8, 2)), finer=True))
    assert any(kind.__name__ == "DenseLayer" for kind in leaf_kinds(split(DenseNet(0.2))))
    assert not any(kind.__name__ == "DenseLayer" for kind in leaf_kinds(split(DenseNet(0.0))))


class NoGradient(nn.Module):
    """Runs its layer without gradients, which torch.fx does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.conv(x) + x


class Draws(NoGradient):
    """Draws a random number that torch.fx would take for a constant."""

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * torch.rand(())


@pytest.mark.parametrize("kind", [NoGradient, Draws])
def test_what_tracing_would_get_wrong_is_kept_whole(kind: type[nn.Module]) -> None:
    """Switched gradients and numbers drawn while tracing stay inside of their module; outermost, they are refused."""
    net = nn.Sequential(nn.Conv2d(3, 3, 1), kind(), nn.Conv2d(3, 3, 1))
    stages = split(net)
    assert kind in leaf_kinds(stages)
    assert equal(state_after(net, net)[1], (net.zero_grad(), state_after(net, lambda x: last(stages, x)))[1][1])
    with pytest.raises(ScheduleError, match=f"{kind.__name__} itself cannot be traced truthfully"):
        split(kind())


def test_chosen_leaves_are_kept_whole() -> None:
    """Classes and paths in `leaves` are one operation each."""
    net = ResNet(Basic)
    assert Basic in leaf_kinds(split(net, leaves=[Basic], finer=True))
    stages = split(net, ["layer2"], leaves=["layer1"], finer=True)
    assert [name for name in stages if name.startswith("layer1")] == ["layer1"]


class Decides(nn.Module):
    """Looks at its values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            x = x + 1
        return self.conv(x)


def test_a_module_that_cannot_be_traced_is_named_with_its_line_and_a_way_out() -> None:
    """The error holds the path, the line, a leaf that would help, and the manual way; that leaf does help."""
    net = nn.Sequential(nn.Conv2d(3, 3, 1), Decides(), nn.Conv2d(3, 3, 1))
    with pytest.raises(ScheduleError) as caught:
        split(net)
    for part in ("module '1' (Decides)", "test_split.py:", "if x.sum() > 0:", "leaves=['1']", "leaves=[Decides]", "ut.Graph"):
        assert part in str(caught.value)
    assert len(split(net, leaves=[Decides])) == 3
    with pytest.raises(ScheduleError, match=r"Decides itself cannot be traced.*its children.*\(conv\)"):
        split(Decides())


def test_assertions_do_not_stop_the_trace() -> None:
    """A module that asserts something of its input is split, without the assertion."""
    net = nn.Sequential(Asserts(), Asserts())
    assert list(split(net)) == ["0.conv", "1.conv"]


def test_modules_with_hooks_are_kept_whole() -> None:
    """Hooks of a submodule are called by the stages as by the module; hooks of the module itself are refused."""
    net, calls = ResNet(Basic), []
    net.layer1[0].register_forward_hook(lambda *_: calls.append("layer1.0"))
    last(split(net, finer=True), images())
    assert calls == ["layer1.0"]
    net.register_forward_hook(lambda *_: None)
    with pytest.raises(ScheduleError, match="ResNet has hooks"):
        split(net)


class TwoInputs(nn.Module):
    """Cannot be called with one value."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Optional(nn.Module):
    """Takes a second value or none."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.conv(x) if mask is None else self.conv(x) * mask


def test_a_module_is_called_with_one_value() -> None:
    """Further parameters keep their defaults; without defaults the module is refused."""
    net = Optional()
    x = images()
    assert torch.equal(last(split(net), x), net(x))
    with pytest.raises(ScheduleError, match="TwoInputs itself cannot be traced.*missing 1 required positional argument"):
        split(TwoInputs())


MISTAKES = [
    (["layer3"], {}, "unknown tap 'layer3'; did you mean 'layer"),
    (["layer1"], {"leaves": ["layer7"]}, "unknown leaf 'layer7'"),
    (["layer1.0.conv1"], {"leaves": ["layer1"]}, "tap 'layer1.0.conv1' is inside 'layer1', which is kept whole"),
    (["layer1.0.bn2", "fc"], {}, "tap 'layer1.0.bn2' is overwritten in place by .* of 'layer1.0'"),
]


@pytest.mark.parametrize(("taps", "keywords", "message"), MISTAKES)
def test_mistakes_are_explained(taps: list[str], keywords: dict[str, Any], message: str) -> None:
    """An unknown name, a tap inside a module kept whole and one that is overwritten say so."""
    with pytest.raises(ScheduleError, match=message):
        split(ResNet(Basic), taps, **keywords)


class Uncalled(nn.Module):
    """Has a layer that its forward does not call."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


def test_a_tap_that_is_not_called_is_refused() -> None:
    """A module that the forward pass never reaches has no output to tap."""
    with pytest.raises(ScheduleError, match="'unused' is not called"):
        split(Uncalled(), ["unused"])


CONVOLUTION = nn.Conv2d(3, 3, 1)
OVERWRITTEN = [
    nn.Sequential(CONVOLUTION, nn.ReLU(True), CONVOLUTION),
    nn.Sequential(CONVOLUTION, nn.Dropout(0.0), nn.ReLU(True), CONVOLUTION),
]


@pytest.mark.parametrize("net", OVERWRITTEN, ids=["direct", "alias"])
def test_nothing_is_cut_between_a_value_and_what_overwrites_it(net: nn.Module) -> None:
    """A product whose result is overwritten, also through an alias, is in the same stage as what overwrites it."""
    first, second = split(net, finer=True).values()
    assert nn.ReLU in leaf_kinds({"first": first})
    assert nn.ReLU not in leaf_kinds({"second": second})


def test_no_stage_writes_into_its_input() -> None:
    """Over all families, at the finer granularity, what enters a stage is unchanged after it."""
    for name in FAMILIES:
        value: Any = images()
        for stage in split(build(name), FAMILIES[name][1], finer=True).values():
            leaves = [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]
            before = [leaf._version for leaf in leaves]
            value = stage(value)
            assert [leaf._version for leaf in leaves] == before


def test_several_taps_on_one_value_are_all_found() -> None:
    """Nested paths share a stage; others get an empty stage of their own, which hands on the value."""
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1)), nn.Conv2d(3, 3, 1))
    net.add_module("same", nn.Sequential())
    stages = split(net, ["0", "0.0", "1", "same"])
    outputs = chained(stages, images())
    assert list(stages) == ["0.0", "1", "same"]
    assert outputs["1"] is outputs["same"]


def test_a_block_is_the_same_under_any_attention() -> None:
    """The families' own products: a stage per attention and one per perceptron, whichever way attention is written."""
    block = nn.Sequential(Block(8, Packed(8, 2)))
    assert list(split(block)) == ["0.attn.inner", "0.mlp"]


def test_the_odd_network_carries_a_size_over_cuts() -> None:
    """A number that a later stage needs crosses the cut beside the tensor."""
    states = chained(split(Odd()), images())
    assert any(isinstance(part, int) for state in states.values() if isinstance(state, tuple) for part in state)
