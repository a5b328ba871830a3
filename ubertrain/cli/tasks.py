"""`ubertrain tasks`."""

from typing import Annotated, Any

import typer

from ubertrain.cli.options import Json


def tasks(
    trunks: Annotated[bool, typer.Option("--trunks", help="List the trunks instead.")] = False,
    sets: Annotated[bool, typer.Option("--sets", help="List the types of data sets instead.")] = False,
    json: Json = False,
) -> None:
    """List the tasks: which annotation each needs, and the keys it takes in a configuration."""
    from ubertrain.cli.output import print_json, print_table
    from ubertrain.data.readers import READERS
    from ubertrain.registry import TASKS, TRUNKS, Registry

    registry: Registry[Any] = TRUNKS if trunks else READERS if sets else TASKS
    rows: list[dict[str, Any]] = []
    for name in registry.names():
        cls: Any = registry.get(name)
        keys = {key: _default(parameter) for key, parameter in registry.keywords(name).items()}
        row = {"name": name, "about": (cls.__doc__ or "").strip().partition("\n")[0], "keys": keys}
        rows.append(row if trunks or sets else {**row, "annotation": cls.annotation.key})
    if json:
        print_json(rows)
        return
    columns = [column for column in ("name", "annotation", "about", "keys") if column in rows[0]]
    shown = [{**row, "keys": "  ".join(f"{key}={value}" for key, value in row["keys"].items())} for row in rows]
    print_table(f"{registry.kind}s", columns, [[row[column] for column in columns] for row in shown])


def _default(parameter: Any) -> str:
    return "required" if parameter.default is parameter.empty else repr(parameter.default)
