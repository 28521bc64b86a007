"""docs/results/NAME.png: success of every cell with its interval, and over gradient steps where it was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qt_ros.experiments.intervals import pooled
from qt_ros.experiments.markdown import label
from qt_ros.experiments.pages import ranking
from qt_ros.experiments.report import good_share, rows_of

BAR, ACCENT, LINE = "#9aa7b1", "#2f6f9f", "#b5651d"


def plot(document: dict[str, Any], path: Path) -> None:
    """Draw the document into a PNG file; nothing when it has no rows."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ranked = ranking(document)
    curves = [cell for cell in document["cells"] if len(_steps(document, cell)) > 1]
    if not ranked:
        return
    height = max(2.2, 0.34 * len(ranked) + 1.2)
    figure, axes = pyplot.subplots(
        1, 2 if curves else 1, figsize=(11 if curves else 7, height), squeeze=False, layout="constrained"
    )
    _bars(axes[0, 0], ranked, good_share(document))
    if curves:
        _curves(axes[0, 1], document, curves)
    figure.suptitle(document["title"])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    pyplot.close(figure)


def _steps(document: dict[str, Any], cell: dict[str, Any]) -> list[int]:
    return sorted({row["gradient_steps"] for row in rows_of(document, cell["method"], cell["variant"])})


def _bars(axes: Any, ranked: list[Any], share: float | None) -> None:
    names = [label(cell) for cell, _ in ranked]
    rates = [100 * rate.rate for _, rate in ranked]
    errors = [
        [100 * (rate.rate - rate.low) for _, rate in ranked],
        [100 * (rate.high - rate.rate) for _, rate in ranked],
    ]
    colours = [ACCENT if cell["method"] == "q_transformer" else BAR for cell, _ in ranked]
    axes.barh(names, rates, xerr=errors, color=colours, ecolor="black", capsize=3, height=0.7)
    if share is not None:
        axes.axvline(100 * share, color=LINE, linestyle="--", linewidth=1.2, label=f"good data: {share:.1%}")
        axes.legend(loc="lower right", frameon=False)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("success in test scenes, % (95% interval)")
    axes.spines[["top", "right"]].set_visible(False)


def _curves(axes: Any, document: dict[str, Any], curves: list[dict[str, Any]]) -> None:
    for cell in curves:
        found, steps = rows_of(document, cell["method"], cell["variant"]), _steps(document, cell)
        rates = [pooled([(r["successes"], r["episodes"]) for r in found if r["gradient_steps"] == s]) for s in steps]
        (line,) = axes.plot(steps, [100 * r.rate for r in rates], marker="o", label=label(cell))
        low, high = [100 * r.low for r in rates], [100 * r.high for r in rates]
        axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.15)
    axes.set_xlabel("gradient steps")
    axes.set_ylabel("success in test scenes, %")
    axes.set_ylim(0, 100)
    axes.set_xlim(left=0)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
