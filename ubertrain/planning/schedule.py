"""A schedule is data: which spans of the trunk are recomputed, how nested, and how each branch is run.

Text form, which round-trips:

    stem [res2.0] (res2.1 res2.2) ((res3.0 res3.1) res3.2) res4.0 | segmentation rows=2, depth late, normals narrow

A name outside parentheses is a stage whose activations are kept. Of a stage in brackets only the outputs of convolutions and
matrix products are kept, and what is cheap is run again. Parentheses are a span: of all that happens inside, only the span's
input is kept, and the inside is run again during backpropagation. A span inside a span is recomputed once more while the outer
one is. After the bar stand the branches in the order of their declaration; they run last to first, each on its labelled rows,
`rows=k` at most k of them at a time, `late` not at the top but just before its tap's stage is back-propagated. Of the levels of
a `narrow` branch only what its head's `narrow` makes of them is held until it runs; that is made again, with its backward, just
before the tap's stage is back-propagated. `rows=k` before the trunk runs the whole step for k images at a time.

A head of several stages may be written as a list of them, which says of each what a trunk's says:

    stem res2 | segmentation rows=2: (0 1) [2] score, depth late
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ubertrain.errors import ScheduleError

_NAME = re.compile(r"[^\s()\[\]|,=]+")
_TOKEN = re.compile(r"\[[^\[\]()]*\]|[()]|[^\s()\[\]]+|\S")
_ROWS = re.compile(r"\s*rows=(\d+)(?=\s)")
_TASK = re.compile(r"[^\s()\[\]|,=]*[^\s()\[\]|,=:]")
_BRANCH = re.compile(rf"\s*({_TASK.pattern})(?:\s+rows=(\d+))?(\s+late)?(\s+narrow)?\s*(?::\s+(\S.*))?", re.DOTALL)
_RESERVED = "a space or one of ( ) [ ] | , ="


@dataclass(frozen=True)
class Products:
    """A stage of which only the outputs of convolutions and matrix products are kept; the rest is recomputed from them.

    Inside a span that is being recomputed the last stage keeps everything, whatever is written: its backward follows at once.
    """

    stage: str

    def __str__(self) -> str:
        return f"[{self.stage}]"


@dataclass(frozen=True)
class Span:
    """Consecutive stages and spans that are recomputed together from the span's input."""

    items: tuple[Item, ...]

    def __str__(self) -> str:
        return f"({_join(self.items)})"


Item = str | Products | Span
"""A stage that is kept, by name; one of which only products are kept; or a span that is recomputed."""


@dataclass(frozen=True)
class BranchRun:
    """How one branch runs.

    Attributes:
        task: its name.
        rows: labelled images at a time; None means all at once.
        late: just before its only tap's stage is back-propagated, instead of before the trunk's whole backward. The tap is then
            neither held until the top nor its gradient from there on.
        narrow: through what its head's `narrow` makes of each level (see `Branch`). The taps are neither held until the top nor
            their gradients from there on, but what is narrow, and its gradients, are.
        head: which stages of its head are kept and which recomputed, for a head that is an `nn.Sequential`; all of them in
            order. Nothing means that the head runs as one, and keeps what ordinary autograd keeps.
    """

    task: str
    rows: int | None = None
    late: bool = False
    narrow: bool = False
    head: tuple[Item, ...] = ()

    def __post_init__(self) -> None:
        if not _TASK.fullmatch(self.task):
            raise ScheduleError(f"branch name {self.task!r} is empty, ends with a colon or holds {_RESERVED}")
        if self.rows is not None and self.rows < 1:
            raise ScheduleError(f"branch {self.task!r}: rows={self.rows} must be at least 1")
        if self.narrow and (self.late or self.rows is not None):
            raise ScheduleError(f"branch {self.task!r}: a narrow branch runs all rows at once, and not late; got {self}")
        if self.narrow and self.head:
            raise ScheduleError(f"branch {self.task!r}: of a narrow branch no stages can be chosen; got {self}")

    def __str__(self) -> str:
        rows = "" if self.rows is None else f" rows={self.rows}"
        head = f": {_join(self.head)}" if self.head else ""
        return self.task + rows + (" late" if self.late else "") + (" narrow" if self.narrow else "") + head

    @property
    def at_top(self) -> bool:
        """Whether the taps are read before the trunk's backward, and nothing of them is read in it."""
        return not (self.late or self.narrow)


@dataclass(frozen=True)
class Schedule:
    """What one training step keeps and what it recomputes.

    Attributes:
        trunk: stages and spans in the order of the forward pass.
        branches: the branches in the order of their declaration.
        rows: images at a time for the whole step; None means all at once.
    """

    trunk: tuple[Item, ...]
    branches: tuple[BranchRun, ...] = ()
    rows: int | None = None

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise ScheduleError(problem)

    def __str__(self) -> str:
        text = _join(self.trunk) if self.rows is None else f"rows={self.rows} {_join(self.trunk)}"
        return f"{text} | {', '.join(map(str, self.branches))}" if self.branches else text

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """The schedule that `text` describes; `Schedule.parse(str(schedule)) == schedule`.

        Raises:
            ScheduleError: unbalanced parentheses, an empty span, a malformed branch, a branch named twice.
        """
        trunk, bar, branches = text.partition("|")
        rows = _ROWS.match(trunk)
        items = _parse_items(trunk, text, rows.end() if rows else 0)
        runs = tuple(_parse_branches(branches, text, len(trunk) + 1)) if bar else ()
        return cls(items, runs, int(rows[1]) if rows else None)

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the trunk's stages in order, whether kept or recomputed."""
        return tuple(_leaves(self.trunk))

    def recomputed(self) -> dict[str, int]:
        """Stage -> how often it is run again during backpropagation.

        Once for its span and once more for every span around that, except where it stands in the last span of another: a
        recompute stops as soon as it has what it needs, here the inner span's input. What a stage in brackets runs again of
        itself is not counted.
        """
        return dict(_runs(self.trunk, again=0, in_span=False))


def _problems(schedule: Schedule) -> Iterator[str]:
    """What is wrong with the parts of a schedule, in words."""
    if not schedule.trunk:
        yield "a schedule needs at least one stage"
    if schedule.rows is not None and schedule.rows < 1:
        yield f"rows={schedule.rows} before the trunk must be at least 1"
    heads = (item for run in schedule.branches for item in _walk(run.head))
    for item in (*_walk(schedule.trunk), *heads):
        if isinstance(item, Span) and not item.items:
            yield "a span () holds no stage; write the stages it recomputes inside, like (res2.0 res2.1)"
        if isinstance(item, Products) and not _NAME.fullmatch(item.stage):
            yield f"brackets hold one stage each, like [res2.0] [res2.1]; got {item}"
        if isinstance(item, str) and not _NAME.fullmatch(item):
            yield f"stage name {item!r} is empty or holds {_RESERVED}"
    tasks = [run.task for run in schedule.branches]
    for task in sorted({task for task in tasks if tasks.count(task) > 1}):
        yield f"branch {task!r} is named {tasks.count(task)} times; name each branch once"


def _join(items: Sequence[Item]) -> str:
    """The text of a list of items; without recursion, for nests that are deep."""
    text, open_spans = "", [iter(items)]
    while open_spans:
        item = next(open_spans[-1], None)
        if item is None:
            open_spans.pop()
            text += ")" if open_spans else ""
            continue
        text += "" if text == "" or text.endswith("(") else " "
        if isinstance(item, Span):
            text += "("
            open_spans.append(iter(item.items))
        else:
            text += str(item)
    return text


def _walk(items: Sequence[Item]) -> Iterator[Item]:
    for item in items:
        yield item
        if isinstance(item, Span):
            yield from _walk(item.items)


def _leaves(items: Sequence[Item]) -> Iterator[str]:
    return (stage_of(item) for item in _walk(items) if not isinstance(item, Span))


def stage_of(item: str | Products) -> str:
    """The name of a stage that is no span."""
    return item.stage if isinstance(item, Products) else item


def _runs(items: Sequence[Item], again: int, in_span: bool) -> Iterator[tuple[str, int]]:
    """The stages of a list of items that is run `again` times, the last of them as a recompute of its own span if in one."""
    for place, item in enumerate(items):
        if isinstance(item, Span):
            reached = again - 1 if in_span and place == len(items) - 1 else again
            yield from _runs(item.items, reached + 1, in_span=True)
        else:
            yield stage_of(item), again


def _parse_items(text: str, whole: str, start: int) -> tuple[Item, ...]:
    """Items of a trunk text; an explicit stack of open spans, so that a fault can name its place."""
    open_spans: list[tuple[int, list[Item]]] = [(0, [])]
    for token in _TOKEN.finditer(text, start):
        if token[0] == "(":
            open_spans.append((token.start(), []))
        elif token[0] == ")" and len(open_spans) > 1:
            _, items = open_spans.pop()
            open_spans[-1][1].append(Span(tuple(items)))
        elif token[0] == ")":
            raise ScheduleError(f"this ) closes nothing:\n{_point(whole, token.start())}")
        elif token[0].startswith("[") and token[0].endswith("]"):
            open_spans[-1][1].append(Products(token[0][1:-1].strip()))
        else:
            open_spans[-1][1].append(token[0])
    if len(open_spans) > 1:
        raise ScheduleError(f"this ( is never closed:\n{_point(whole, open_spans[-1][0])}")
    return tuple(open_spans[0][1])


def _parse_branches(text: str, whole: str, start: int) -> Iterator[BranchRun]:
    """The branches of a text that stands at `start` of the whole."""
    for part in text.split(","):
        match = _BRANCH.fullmatch(part)
        if match is None:
            forms = "'task', 'task rows=2', 'task late', 'task narrow' or 'task: (0 1) 2'"
            raise ScheduleError(f"branch {part.strip()!r} in {whole!r} is not of the form {forms}")
        task, rows, late, narrow, head = match.groups()
        items = () if head is None else _parse_items(whole[: start + len(part)], whole, start + match.start(5))
        yield BranchRun(task, None if rows is None else int(rows), late is not None, narrow is not None, items)
        start += len(part) + 1


def _point(text: str, place: int) -> str:
    """`text` with a mark below the character at `place`."""
    return f"  {text}\n  {' ' * place}^"
