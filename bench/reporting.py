"""What the benchmark scripts have in common: their options, and where results go."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import machine
from rich.console import Console
from rich.table import Table


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options of every script."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", action="store_true", help="print JSON instead of tables")
    made.add_argument("--quick", action="store_true", help="tiny sizes and one round: does it run?")
    made.add_argument("--out", type=Path, default=Path(__file__).with_name("results"), help="folder of the results")
    return made


def save(out: Path, name: str, results: dict[str, Any], *, device: str = "cpu") -> dict[str, Any]:
    """Write `<out>/<name>.json`: for every key of `results` the figures and the machine; other keys of the file stay.

    Returns:
        What is in the file for the given keys.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{name}.json"
    earlier = json.loads(file.read_text()) if file.exists() else {}
    where = machine.machine(device)
    report = {key: {"machine": where, **value} for key, value in results.items()}
    file.write_text(json.dumps(earlier | report, indent=1) + "\n")
    return report


def show(report: dict[str, Any], tables: list[Table], *, as_json: bool) -> None:
    """Print tables and the machine, or all as JSON."""
    if as_json:
        json.dump(report, sys.stdout)
        return
    console = Console(width=160)
    for table in tables:
        console.print(table)
    for where in {machine.line(value["machine"]) for value in report.values()}:
        console.print(where)


def mib(count: float | None) -> str:
    """Bytes as MiB."""
    return "" if count is None else f"{count / 2**20:.1f}"


def added(ratio: float | None) -> str:
    """What a ratio adds to 1, in percent."""
    return "" if ratio is None else f"{ratio - 1:+.1%}"
