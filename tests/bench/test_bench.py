"""The benchmarks run: what they compare computes the same, their meters agree, and results are written."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ubertrain as ut
from ubertrain.planning.every_k import every_k
from ubertrain.planning.keep_all import keep_all

BENCH = Path(__file__).parents[2] / "bench"
PEERS = (
    "recompute each stage and branch",
    "recompute sqrt(L) segments and branches",
    "per task",
    "per task, recompute each stage",
    "per task, recompute sqrt(L) segments",
    "TorchJD mtl_backward",
)


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts import what stands beside them; at the end of the path, for bench/tasks.py is no package of tasks."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCH)])


def script(name: str) -> ModuleType:
    """A module of bench/."""
    return importlib.import_module(name)


class Sum(nn.Module):
    """A head that adds up scores of several levels of one size."""

    def __init__(self, *channels: int) -> None:
        super().__init__()
        self.scores = nn.ModuleList(nn.Conv2d(count, 2, 1) for count in channels)

    def forward(self, levels: list[Tensor]) -> Tensor:
        return sum(score(level).mean((2, 3)) for score, level in zip(self.scores, levels, strict=True)).tanh()


def small() -> tuple[ut.Graph, Tensor, dict[str, Tensor]]:
    """Five stages with batch norm, three tasks on one and on several taps, in double precision."""
    widths = (4, 6, 6, 8, 4)
    trunk = {
        f"s{i}": nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.Tanh())
        for i, (before, after) in enumerate(zip((3, *widths), widths, strict=False))
    }
    branches = {
        "low": ut.Branch(Sum(6), ["s1"], lambda p, t: (p - t).square().mean(1)),
        "all": ut.Branch(Sum(4, 6, 4), ["s0", "s2", "s4"], lambda p, t: (p - t).square().mean(1), weight=0.3),
        "top": ut.Branch(Sum(4), ["s4"], lambda p, t: (p - t).abs().mean(1)),
    }
    targets = {task: torch.rand(3, 2).double() for task in branches}
    return ut.Graph(trunk, branches).double(), torch.rand(3, 3, 8, 8).double(), targets


def test_all_peers_are_compared() -> None:
    """The list here is the one that the benchmark runs."""
    assert ("plain autograd", *PEERS) == tuple(script("peers").PEERS)


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_computes_the_gradients_of_plain_autograd(name: str) -> None:
    """Every method leaves the same gradients, so that its memory and time are those of the same work."""
    if name.startswith("TorchJD"):
        pytest.importorskip("torchjd", reason="pip install 'ubertrain[bench]'")
    peers, measuring, case = script("peers").PEERS, script("measuring"), small()
    peers["plain autograd"](*case)
    reference = measuring.outcome(case[0])
    case[0].zero_grad(set_to_none=True)
    peers[name](*case)
    difference = measuring.difference(measuring.outcome(case[0]), reference)
    assert difference["worst_error"] < 1e-12, difference


def test_a_wrong_gradient_is_seen() -> None:
    """The column of a method that drops a task's gradient would say so."""
    measuring, (graph, images, targets) = script("measuring"), small()
    script("peers").plain(graph, images, targets)
    reference = measuring.outcome(graph)
    graph.zero_grad(set_to_none=True)
    script("peers").plain(graph, images, targets | {"top": targets["low"]})
    difference = measuring.difference(measuring.outcome(graph), reference)
    assert difference["worst_error"] > 1e-3
    assert not difference["bitwise"]


@pytest.mark.parametrize(
    "name",
    [
        "resnet50_heads",
        "resnet50_aspp",
        "vgg16bn_heads",
        "vgg16_ubernet",
        "resnet50_ubernet",
        "vit_b16",
        "resnet50_trunk",
        "vit_b16_trunk",
    ],
)
def test_a_workload_takes_a_step(name: str) -> None:
    """Its graph runs at a tiny size, and spans need less memory and more work than plain autograd."""
    measuring = script("measuring")
    with torch.device("meta"):
        case = script("workloads").WORKLOADS[name].build(2, 32)
    schedule = every_k(case[0].stage_names, tuple(case[0].branches), 4)
    plain = measuring.fake_needs(script("peers").plain, *case)
    spans = measuring.fake_needs(measuring.with_schedule(schedule), *case)
    assert spans.peak_bytes < plain.peak_bytes
    assert plain.flops < spans.flops < 1.5 * plain.flops


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("name", ["resnet50_ubernet", "vgg16_ubernet", "vit_b16"])
def test_the_allocator_agrees_with_our_meter(name: str, kept: bool) -> None:
    """What torch's allocator had out for tensors at its peak is what `LiveBytes` counts, whatever kernels take besides."""
    measuring, case = script("measuring"), script("workloads").WORKLOADS[name].build(2, 64)
    names = case[0].stage_names, tuple(case[0].branches)
    step = measuring.with_schedule(keep_all(*names) if kept else every_k(*names, 3))
    counted = measuring.needs(lambda: step(*case)).peak_bytes
    case[0].zero_grad(set_to_none=True)
    held = script("allocator").allocated(case[0], lambda: step(*case), torch.device("cpu"))
    assert held.tensors == pytest.approx(counted, rel=0.005)
    assert held.all >= held.tensors


def test_masked_losses_are_the_objective_of_labelled_rows() -> None:
    """Where heads couple no images, both ways to use partial labels give the same gradients."""
    labels, measuring, (graph, images, targets) = script("labels"), script("measuring"), small()
    case = graph.eval(), images, targets
    masked = labels.masked(case)
    script("peers").plain(*masked)
    reference = measuring.outcome(graph)
    graph.zero_grad(set_to_none=True)
    script("peers").plain(*labels.one_label_each(case))
    assert measuring.difference(measuring.outcome(graph), reference)["worst_error"] < 1e-12


def test_a_long_uniform_chain_is_the_measured_one() -> None:
    """The chain that depth.py makes of four stages is what measuring all of its stages gives."""
    depth = script("depth")
    made, measured = depth.chain_of(7), script("ours").Fitter.of(*depth.build(7), "flops").chain
    assert (made.stages, made.branches, made.plain_peak) == (measured.stages, measured.branches, measured.plain_peak)
    assert made.plain_work == pytest.approx(measured.plain_work, rel=1e-4)


def test_results_of_other_workloads_stay(tmp_path: Path) -> None:
    """A run that measures one workload replaces its figures and keeps the others'."""
    save = script("reporting").save
    save(tmp_path, "x", {"a": {"rows": [1]}, "b": {"rows": [2]}})
    save(tmp_path, "x", {"b": {"rows": [3]}})
    written = json.loads((tmp_path / "x.json").read_text())
    assert {key: value["rows"] for key, value in written.items()} == {"a": [1], "b": [3]}
    assert written["b"]["machine"]["torch"] == torch.__version__


def run(name: str, out: Path) -> Any:
    """What a script writes when it is run quickly."""
    command = [sys.executable, str(BENCH / f"{name}.py"), "--quick", "--out", str(out)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads((out / f"{name}.json").read_text())


@pytest.mark.parametrize(
    "name",
    ["banded", "tasks", *(pytest.param(name, marks=pytest.mark.slow) for name in ("crf", "depth", "labels", "overhead"))],
)
def test_a_script_writes_its_results(name: str, tmp_path: Path) -> None:
    """`--quick` runs, and leaves figures with the machine they are from in the folder it is given."""
    for value in run(name, tmp_path).values():
        assert value["rows"]
        assert value["machine"]["commit"]


@pytest.mark.slow
def test_the_front_is_drawn(tmp_path: Path) -> None:
    """`pareto.py --quick` compares all methods, says that ours are bitwise plain autograd's, and draws."""
    pytest.importorskip("torchjd", reason="pip install 'ubertrain[bench]'")
    (value,) = run("pareto", tmp_path).values()
    assert {row["method"] for row in value["rows"]} > {"plain autograd", *PEERS, "ubertrain smallest"}
    assert all(row["bitwise"] and row["buffers_equal"] for row in value["rows"] if row["ours"])
    assert all(row["peak_bytes"] <= row["budget"] for row in value["rows"] if row["ours"])
    assert (tmp_path / "pareto-resnet50_heads-cpu.png").read_bytes().startswith(b"\x89PNG")
