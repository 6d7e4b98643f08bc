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
import pkgutil
import platform
import sys
import time
from pathlib import Path
from typing import Final

import tests.bench

from ._measure import BACKENDS, FULL, SHORT, Result, Row, curves, rows
from ._report import draw, table
from ._soak import soak

_WIDTH: Final = 54


def main() -> int:
    options = _options()
    if options.report:
        print(table(options.report))
        draw(options.report)
        return 0
    if options.names == ["soak"]:
        return soak(options.seconds, options.backend or list(BACKENDS))
    chosen = _chosen(options.names)
    if options.list:
        for each in chosen:
            print(f"{each.measure.__module__.rpartition('.')[2]:10} {each.name}")
        return 0
    effort = SHORT if options.short else FULL
    results: list[Result] = []
    began = time.perf_counter()
    print(f"{'':{_WIDTH}} {'loop':8} {'measured':>9}  {'middle half':16} target")
    for each in chosen:
        for backend in options.backend or each.backends:
            if backend in each.backends:
                found = each.run(backend, effort)
                results += found
                for result in found:
                    print(_line(result), flush=True)
    missed = [result for result in results if not result.met]
    print(f"{len(results)} figures in {time.perf_counter() - began:.0f} s, {len(missed)} missed")
    if options.json:
        _write(options.json, results)
    return 1 if missed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--backend", action="append", choices=list(BACKENDS))
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--report", type=Path, metavar="FILE")
    parser.add_argument("--seconds", type=float, default=600)
    return parser.parse_args()


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
