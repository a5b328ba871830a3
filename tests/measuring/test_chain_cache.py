"""A step is measured once: in memory, on disk, and again as soon as anything about it is different."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.zoo import Case, plain, squared, two_tasks
from ubertrain.engine.branch import Branch
from ubertrain.engine.graph import Graph
from ubertrain.engine.labels import Labels
from ubertrain.measuring import chain_cache
from ubertrain.measuring.chain_cache import forget, remembered
from ubertrain.measuring.fingerprint import fingerprint

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


class Pooled(nn.Module):
    """Means over pixels."""

    def forward(self, levels: list[Tensor]) -> Tensor:
        return levels[0].mean((2, 3))


def frozen(case: Case) -> None:
    """A stage does not learn."""
    case.graph.trunk["s0"].requires_grad_(False)


def replaced(case: Case) -> None:
    """Another activation."""
    case.graph.trunk["s0"][1] = nn.Tanh()


def unlabelled(case: Case) -> None:
    """A task has no labels."""
    del case.targets["low"]


def fewer_rows(case: Case) -> None:
    """A task has labels of fewer images."""
    case.targets["top"] = Labels(case.targets["top"][:2], [0, 1])


CHANGES: list[Callable[[Case], None]] = [frozen, replaced, unlabelled, fewer_rows]


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


class Repeats(nn.Module):
    """A head whose work is in a private number, or in a function that it holds."""

    def __init__(self, times: int, act: Callable[[Tensor], Tensor] = torch.relu) -> None:
        super().__init__()
        self._times = times
        self.act = act

    def forward(self, levels: list[Tensor]) -> Tensor:
        value = levels[0]
        for _ in range(self._times):
            value = self.act(value)
        return value.mean((2, 3))


def repeated(value: Tensor) -> Tensor:
    """Two operations where `torch.relu` is one."""
    return torch.relu(value) * 2


def of(head: nn.Module, loss: Callable[[Tensor, Tensor], Tensor] = squared) -> str:
    """The fingerprint of a step of one stage and this head."""
    graph = Graph({"s": nn.Conv2d(3, 2, 1)}, {"t": Branch(head, ["s"], loss)})
    return fingerprint(graph, torch.rand(2, 3, 4, 4), {"t": torch.rand(2, 2)}, cost="flops")


def test_what_the_source_does_not_show_counts() -> None:
    """Private numbers, held functions and closures change the operations, and so the name; nothing else does."""

    def summed(times: int) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda prediction, target: sum((squared(prediction, target) for _ in range(times)), torch.zeros(2))

    names = [of(Repeats(1)), of(Repeats(2)), of(Repeats(1, repeated)), of(Pooled(), summed(1)), of(Pooled(), summed(2))]
    assert len(set(names)) == len(names)
    assert of(Repeats(2)) == names[1]


def test_which_tensors_meet_counts() -> None:
    """The same operations on other tensors of the same shape are another step."""

    class Adds(nn.Module):
        def __init__(self, first: bool) -> None:
            super().__init__()
            self.first = first

        def forward(self, levels: list[Tensor]) -> Tensor:
            one, two = levels[0].tanh(), levels[0].tanh()
            return (one + (one if self.first else two)).mean((2, 3))

    assert of(Adds(True)) != of(Adds(False))


def test_a_graph_without_memory_has_a_fingerprint() -> None:
    """A graph on the meta device can be remembered."""
    made = case()
    assert fingerprint(made.graph.to("meta"), tuple(made.images.shape), made.targets, cost="flops")
