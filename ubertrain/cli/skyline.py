"""A curve over time, drawn in characters."""

from collections.abc import Sequence

_BLOCKS = " ▁▂▃▄▅▆▇█"


def skyline(values: Sequence[float], *, width: int = 96, height: int = 8) -> list[str]:
    """Columns from left to right, as high as the values, the highest of them `height` lines.

    Several values to a column show their largest; fewer values than columns are as many columns wide as there is room for.

    Returns:
        `height` lines, the uppermost first; none if there are no values or all are 0.
    """
    columns = _columns(values, width)
    top = max(columns, default=0)
    if top <= 0:
        return []
    eighths = [round(8 * height * value / top) for value in columns]
    return ["".join(_BLOCKS[min(8, max(0, level - 8 * line))] for level in eighths) for line in reversed(range(height))]


def place_of(index: int, count: int, width: int = 96) -> int:
    """The column in which `skyline` shows value `index` of `count`."""
    return index * max(1, width // count) if count <= width else index * width // count


def _columns(values: Sequence[float], width: int) -> list[float]:
    count = len(values)
    if count <= width:
        return [value for value in values for _ in range(max(1, width // count))]
    groups: list[list[float]] = [[] for _ in range(width)]
    for index, value in enumerate(values):
        groups[index * width // count].append(value)
    return [max(group) for group in groups]
