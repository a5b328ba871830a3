"""Tables on stdout, remarks on stderr, or pure JSON."""

import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ubertrain.training.records import finite

WIDE = 200
"""Columns of a table that no terminal shows, e.g. in a file."""


def stdout() -> Console:
    """Where tables go."""
    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)


def stderr() -> Console:
    """Where progress and remarks go."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on stdout; a number that is not finite is null."""
    print(json.dumps(finite(value), indent=1))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table; columns of numbers are aligned to the right."""
    cells = [[number(cell) if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    table = Table(title=title, title_justify="left", title_style="bold", header_style="")
    for index, column in enumerate(columns):
        numbers = all(row[index][:1] in "+-0123456789" for row in cells)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    stdout().print(table)


def number(value: float) -> str:
    """Four significant digits; a dash for what is not known."""
    return "-" if math.isnan(value) else f"{value:.4g}"
