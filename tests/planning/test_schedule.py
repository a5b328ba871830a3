"""Schedules as data: they print, parse and refuse what makes no sense."""

import pytest

from ubertrain.errors import ScheduleError
from ubertrain.planning.every_k import every_k
from ubertrain.planning.keep_all import keep_all
from ubertrain.planning.schedule import BranchRun, Schedule, Span

TEXTS = [
    "stem",
    "stem res2 | depth",
    "stem (res2.0 res2.1) ((res3.0 res3.1) res3.2) res4.0 | segmentation rows=2, depth",
    "(((a)))",
    "((a) b (c (d)))",
    "a (b) | t-1 rows=1, t_2, t.3 rows=12",
    "[a] ([b.0] c) [d] | t late, u rows=2 late, v",
    "rows=2 a (b) | t",
    "a (b) | t narrow, u late, v narrow",
    "a | t: (0 1) [2] score, u rows=2 late: ((0) 1), v",
    "a | t: late, u late: late narrow",
]


@pytest.mark.parametrize("text", TEXTS)
def test_what_prints_parses_to_the_same(text: str) -> None:
    """Text in normal form survives parsing and printing, and the schedule survives printing and parsing."""
    schedule = Schedule.parse(text)
    assert str(schedule) == text
    assert Schedule.parse(str(schedule)) == schedule


def test_spaces_do_not_matter() -> None:
    """Any white space separates; none is needed beside parentheses, the bar and commas."""
    assert Schedule.parse(" stem(a  b)\n c|x rows=2 ,y ") == Schedule.parse("stem (a b) c | x rows=2, y")


def test_parse_builds_the_nested_values() -> None:
    """Parentheses become spans, names stay names."""
    expected = Schedule(("s", Span(("a", Span(("b",))))), (BranchRun("t", 3), BranchRun("u")))
    assert Schedule.parse("s (a (b)) | t rows=3, u") == expected


BAD = [
    ("a (b", "never closed"),
    ("a b)", "closes nothing"),
    ("a () b", "holds no stage"),
    ("", "at least one stage"),
    ("| t", "at least one stage"),
    ("a | t rows=x", "'t rows=x'"),
    ("a | t rows=0", "at least 1"),
    ("a | t, t", "2 times"),
    ("a |", "not of the form"),
    ("a | t u", "not of the form"),
    ("a | t narrow late", "not of the form"),
    ("a | t late narrow", "a narrow branch runs all rows at once, and not late; got t late narrow"),
    ("a | t rows=2 narrow", "a narrow branch runs all rows at once"),
    ("a | t narrow: 0 (1)", "of a narrow branch no stages can be chosen"),
    ("a | t:", "not of the form"),
    ("a | t (0 1)", "not of the form"),
    ("a | u, t: 0 ()", "holds no stage"),
    ("a | u, t: 0 (1, v", "never closed"),
    ("a | t: [0 1]", "one stage each"),
    ("a [b c]", "one stage each"),
    ("a [b", "holds a space or one of"),
    ("a []", "one stage each"),
    ("[a (b)]", "holds a space or one of"),
    ("rows=0 a", "at least 1"),
    ("a rows=2", "holds a space or one of"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_nonsense_is_refused_with_its_place(text: str, message: str) -> None:
    """Malformed text raises ScheduleError that says what is wrong."""
    with pytest.raises(ScheduleError, match=message.replace("(", r"\(").replace("'", ".")):
        Schedule.parse(text)


@pytest.mark.parametrize("text", ["stem (a b c", "stem (a b) | t rows=2, u: 0 (1, v"])
def test_an_error_points_at_the_parenthesis(text: str) -> None:
    """The message shows the text with a mark below the fault."""
    with pytest.raises(ScheduleError) as error:
        Schedule.parse(text)
    _, shown, mark = str(error.value).splitlines()
    assert mark.index("^") - 2 == text.rindex("(") and shown[2:] == text


RECOMPUTED = [
    ("a b", {"a": 0, "b": 0}),
    ("s (a b)", {"s": 0, "a": 1, "b": 1}),
    ("((a) b)", {"a": 2, "b": 1}),
    ("(a (b c))", {"a": 1, "b": 1, "c": 1}),
    ("(a (b) c)", {"a": 1, "b": 2, "c": 1}),
    ("(((a) b) c)", {"a": 3, "b": 2, "c": 1}),
    ("((a (b)) c)", {"a": 2, "b": 2, "c": 1}),
]


@pytest.mark.parametrize(("text", "times"), RECOMPUTED)
def test_a_stage_is_recomputed_by_its_span_and_those_around(text: str, times: dict[str, int]) -> None:
    """A span that ends another is not reached by the outer recompute."""
    assert Schedule.parse(text).recomputed() == times


def test_keep_all_recomputes_nothing() -> None:
    """keep_all holds no span and runs every branch whole."""
    assert str(keep_all(["a", "b"], ["t", "u"])) == "a b | t, u"


CHEN = [
    (1, "(a) (b) (c) (d) (e) | t"),
    (2, "(a b) (c d) (e) | t"),
    (3, "(a b c) (d e) | t"),
    (5, "(a b c d e) | t"),
    (9, "(a b c d e) | t"),
]


@pytest.mark.parametrize(("k", "text"), CHEN)
def test_every_k_cuts_the_chain_into_equal_spans(k: int, text: str) -> None:
    """Spans hold k stages, the last what is left."""
    assert str(every_k("abcde", ["t"], k)) == text


def test_every_k_needs_a_positive_k() -> None:
    """k = 0 is refused."""
    with pytest.raises(ScheduleError, match="k=0"):
        every_k("abc", [], 0)
