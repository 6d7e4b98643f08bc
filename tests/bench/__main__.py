"""
Measure, print a table, and exit with 1 where a target is missed::

    python -m tests.bench [NAME…] [--backend LOOP]… [--json FILE] [--short] [--list]
    python -m tests.bench --report FILE
    python -m tests.bench soak [--seconds N] [--backend LOOP]…

NAME is a row, or the module it is in. ``--short`` measures a little and forgives much: it shows
that the benchmarks still run. ``--report`` makes the README's table and its pictures of what
``--json`` has written. What is compared with is in the group ``bench`` of pyproject.toml.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import pkgutil
import platform
import sys
import time
from pathlib import Path
from typing import Final

import tests.bench

from ._measure import BACKENDS, FULL, SHORT, Effort, Result, Row, curves, rows
from ._report import draw, table
from ._soak import soak

_WIDTH: Final = 54


def main() -> int:
    options = _options()
    if options.report:
        return _report(options.report)
    if options.names == ["soak"]:
        return soak(options.seconds, options.backend or list(BACKENDS))
    chosen = _chosen(options.names)
    if options.list:
        for each in chosen:
            print(f"{each.measure.__module__.rpartition('.')[2]:10} {each.name}")
        return 0
    effort = SHORT if options.short else FULL
    results: list[Result] = []
    lacking: set[str] = set()
    began = time.perf_counter()
    print(f"{'':{_WIDTH}} {'loop':8} {'measured':>9}  {'middle half':16} target")
    for each in chosen:
        for backend in options.backend or each.backends:
            if backend in each.backends:
                results += _measure(each, backend, effort, lacking)
    missed = [result for result in results if not result.met]
    print(f"{len(results)} figures in {time.perf_counter() - began:.0f} s, {len(missed)} missed")
    if options.json:
        _write(options.json, results)
    return 1 if missed or lacking else 0


def _measure(row: Row, backend: str, effort: Effort, lacking: set[str]) -> list[Result]:
    """Measure one row, and print it; what is not installed is no reason to lose the others."""
    try:
        found = row.run(backend, effort)
    except ModuleNotFoundError as exc:
        if row.name not in lacking:
            print(f"{row.name}: {exc}; pip install --group bench (pip 25.1 or later)")
        lacking.add(row.name)
        return []
    for result in found:
        print(_line(result), flush=True)
    return found


def _report(path: Path) -> int:
    try:
        print(table(path))
        draw(path)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        sys.exit(f"--report wants a file that --json has written: {path}: {exc!r}")
    except ModuleNotFoundError as exc:
        sys.exit(f"no pictures were made: {exc}; pip install --group bench (pip 25.1 or later)")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--backend", action="append", choices=list(BACKENDS))
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--report", type=Path, metavar="FILE")
    parser.add_argument("--seconds", type=float, metavar="N", help="of soak, for each loop")
    options = parser.parse_args()
    if "soak" in options.names and len(options.names) > 1:
        parser.error("soak goes alone: it is no row, and runs for as long as --seconds says")
    if options.seconds is None:
        options.seconds = 600.0
    elif options.names != ["soak"]:
        parser.error("--seconds is for soak; a row takes as long as it takes, or --short")
    if not 0 < options.seconds < math.inf:
        parser.error(f"--seconds must be more than 0, not {options.seconds:g}")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json {options.json}: there is no directory {options.json.parent}")
    return options


def _chosen(names: list[str]) -> list[Row]:
    """Import the modules beside this one, and pick the rows that are wanted."""
    for module in pkgutil.iter_modules(tests.bench.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"tests.bench.{module.name}")
    if not names:
        return list(rows.values())
    found = [row for row in rows.values() if {row.name, _module(row)} & set(names)]
    unknown = set(names) - {row.name for row in found} - {_module(row) for row in found}
    if unknown:
        sys.exit(f"no such row: {', '.join(sorted(unknown))}; --list tells which there are")
    return found


def _module(row: Row) -> str:
    return row.measure.__module__.rpartition(".")[2]


def _line(result: Result) -> str:
    spread = f"{result.low:.3g} … {result.high:.3g}"
    verdict = "" if result.met else "  MISSED"
    value = f"{result.value:.3g} {result.unit}"
    what = f"{result.what:{_WIDTH}} {result.backend:8}"
    return f"{what} {value:>9}  {spread:16} {result.target}{verdict}"


def _write(path: Path, results: list[Result]) -> None:
    about = {
        "python": sys.version,
        "machine": platform.platform(),
        "processor": _processor(),
        "results": [result.as_json() for result in results],
        "curves": {name: vars(lines) for name, lines in curves.items()},
    }
    path.write_text(json.dumps(about, indent=1) + "\n")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    sys.exit(main())
