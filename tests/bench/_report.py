"""What the README shows, made from the JSON that a run has written: a table, and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ._measure import BACKENDS, peer

PLOTS = Path(__file__).parent / "plots"


def table(path: Path) -> str:
    """Write the table in Markdown: a line for each figure, a column for each loop."""
    lines: dict[str, dict[str, str]] = {}
    for result in json.loads(path.read_text())["results"]:
        line = lines.setdefault(result["what"], {})
        value = f"{result['value']:.3g}" + ("" if result["unit"] == "x" else f" {result['unit']}")
        line[result["backend"]] = value if result["met"] else f"**{value}**"
        for word, sign in (("at_most", "≤"), ("at_least", "≥")):
            if result[word] is not None:
                line.setdefault(word, f"{sign} ")
                line[word] += f"{result[word]:g} " * (f"{result[word]:g}" not in line[word])
    head = "| | asyncio | uvloop | trio | target |\n|---|---|---|---|---|\n"
    return head + "\n".join(
        f"| {what} | {' | '.join(line.get(loop, '') for loop in BACKENDS)} "
        f"| {(line.get('at_most') or line.get('at_least') or '').rstrip()} |"
        for what, line in lines.items()
    )


def draw(path: Path) -> list[Path]:
    """Draw each curve that the file has points of; return where the pictures are."""
    matplotlib = peer("matplotlib")
    matplotlib.use("svg")
    # So that a picture changes only if its figures do.
    matplotlib.rcParams.update({"svg.hashsalt": "aiopde", "font.size": 9, "svg.fonttype": "none"})
    curves: dict[str, dict[str, Any]] = json.loads(path.read_text())["curves"]
    PLOTS.mkdir(exist_ok=True)
    return [_draw(name, curve) for name, curve in curves.items()]


def _draw(name: str, curve: dict[str, Any]) -> Path:
    figure, axes = peer("matplotlib.pyplot").subplots(figsize=(4.6, 2.8), layout="constrained")
    for label, points in curve["lines"].items():
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
    axes.set(xscale="log", yscale="log", xlabel=curve["over"], ylabel=curve["unit"])
    axes.set_title(curve["title"])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    path = PLOTS / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    return path
