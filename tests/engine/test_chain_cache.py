"""A step is measured once: in memory, on disk, and again as soon as anything about it is different."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.zoo import Case, plain, squared, two_tasks
from ubertrain.engine import chain_cache
from ubertrain.engine.branch import Branch
from ubertrain.engine.chain_cache import fingerprint, forget, remembered
from ubertrain.engine.graph import Graph
from ubertrain.engine.labels import Labels

WIDTHS = (4, 4)


def case(width: int = 4) -> Case:
    """Two stages, three tasks."""
    torch.manual_seed(0)
    widths = (width, width)
    return two_tasks(plain(widths, lambda c: [nn.ReLU()]), widths)


def key(case: Case, **options: object) -> str:
    """The fingerprint of a case."""
    return fingerprint(case.graph, case.images, case.targets, **{"cost": "flops", **options})


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """An empty cache; the list grows by every measuring."""
    times: list[int] = []
    original = chain_cache.estimate

    def counted(*args: object, **kwargs: object) -> object:
        times.append(1)
        return original(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(chain_cache, "estimate", counted)
    monkeypatch.setenv(chain_cache.FOLDER, str(tmp_path))
    forget()
    return times


def ask(case: Case) -> object:
    """The remembered chain of a case."""
    return remembered(case.graph, case.images, case.targets, cost="flops")


def test_the_same_step_is_measured_once(measured: list[int]) -> None:
    """Another graph of the same make, with other weights, finds the chain in memory."""
    first = ask(case())
    assert ask(case()) is first
    assert len(measured) == 1


def test_a_new_process_finds_it_on_disk(measured: list[int]) -> None:
    """With the memory empty the file answers, with the same numbers."""
    first = ask(case())
    forget()
    assert ask(case()) == first
    assert len(measured) == 1


def test_a_damaged_file_is_measured_again(measured: list[int], tmp_path: Path) -> None:
    """Half a file counts as none."""
    first = ask(case())
    forget()
    (file,) = (tmp_path / "chains").glob("*.json")
    file.write_text(file.read_text()[:100])
    assert ask(case()) == first
    assert len(measured) == 2


def test_off_means_no_files(measured: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the cache off on disk nothing is written."""
    monkeypatch.setenv(chain_cache.FOLDER, "off")
    ask(case())
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_does_no_harm(
    measured: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The chain is measured and returned."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(chain_cache.FOLDER, str(tmp_path / "file"))
    assert ask(case()) is not None


def test_a_loss_without_source_is_measured_every_time(measured: list[int]) -> None:
    """A partial has no source to compare; it is not remembered."""
    graph = Graph({"s": nn.Conv2d(3, 2, 1)}, {"t": Branch(Pooled(), ["s"], functools.partial(squared))})
    for _ in range(2):
        remembered(graph, torch.rand(2, 3, 4, 4), {"t": torch.rand(2, 2)}, cost="flops")
    assert len(measured) == 2


class Pooled(nn.Module):
    """Means over pixels."""

    def forward(self, levels: list[Tensor]) -> Tensor:
        return levels[0].mean((2, 3))


def frozen(case: Case) -> None:
    """A stage does not learn."""
    case.graph.trunk["s0"].requires_grad_(False)


def evaluated(case: Case) -> None:
    """Batch norm and dropout would behave otherwise."""
    case.graph.eval()


def scaled(case: Case) -> None:
    """A head carries another number."""
    case.graph.heads["top"].scale = 2


def replaced(case: Case) -> None:
    """Another activation."""
    case.graph.trunk["s0"][1] = nn.Tanh()


def unlabelled(case: Case) -> None:
    """A task has no labels."""
    del case.targets["low"]


def fewer_rows(case: Case) -> None:
    """A task has labels of fewer images."""
    case.targets["top"] = Labels(case.targets["top"][:2], [0, 1])


def hooked(case: Case) -> None:
    """Somebody listens."""
    case.graph.trunk["s0"].register_forward_hook(lambda *unused: None)


CHANGES: list[Callable[[Case], None]] = [frozen, evaluated, scaled, replaced, unlabelled, fewer_rows, hooked]


@pytest.mark.parametrize("change", CHANGES)
def test_another_step_has_another_fingerprint(change: Callable[[Case], None]) -> None:
    """What changes a step's cost changes its name."""
    changed = case()
    change(changed)
    assert key(changed) != key(case())


def test_sizes_autocast_and_options_are_part_of_it() -> None:
    """Width, precision, cost and rounding each make another step."""
    with torch.autocast("cpu", torch.bfloat16):
        halved = key(case())
    names = [key(case()), key(case(8)), halved, key(case(), cost="auto"), key(case(), rounding=512)]
    assert len(set(names)) == len(names)


def test_the_closure_of_a_loss_counts() -> None:
    """Two losses of one source that close over different numbers are two."""

    def weighted(by: float) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda prediction, target: by * squared(prediction, target)

    graphs = [Graph({"s": nn.Conv2d(3, 2, 1)}, {"t": Branch(Pooled(), ["s"], weighted(by))}) for by in (1.0, 2.0, 1.0)]
    one, two, again = (fingerprint(graph, torch.rand(2, 3, 4, 4), {"t": torch.rand(2, 2)}) for graph in graphs)
    assert one == again != two
