"""Cost against size, as pictures for the README: made from the JSON that a run has written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ._measure import peer

PLOTS = Path(__file__).parent / "plots"


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
    axes.set(xscale="log", xlabel=curve["over"], ylabel=curve["unit"], title=curve["title"])
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    path = PLOTS / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    return path
