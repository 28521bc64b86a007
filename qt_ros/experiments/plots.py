"""docs/results/NAME.png: success of every cell with its interval, over gradient steps or an amount where that was
measured, and skill by skill where there are several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qt_ros.experiments.markdown import label
from qt_ros.experiments.pages import ranking
from qt_ros.experiments.report import by_step, good_share, rate_of
from qt_ros.experiments.skills import amounts_of, skill_rate, skills_of

BAR, ACCENT, LINE = "#9aa7b1", "#2f6f9f", "#b5651d"


def plot(document: dict[str, Any], path: Path) -> None:
    """Draw the document into a PNG file; nothing when it has no rows."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ranked = ranking(document)
    curves = [cell for cell in document["cells"] if len(by_step(document, cell)) > 1]
    if not ranked:
        return
    amounts, skills = amounts_of(document), skills_of(document)
    panels = 1 + bool(curves) + bool(amounts) + bool(skills)
    height = max(2.2, 0.34 * len(ranked) + 1.2, 4.0 if skills or amounts else 0.0)
    figure, axes = pyplot.subplots(1, panels, figsize=(3 + 4 * panels, height), squeeze=False, layout="constrained")
    more = iter(axes[0, 1:])
    _bars(axes[0, 0], ranked, good_share(document))
    if amounts:
        _amounts(next(more), document["along"], amounts)
    if curves:
        _curves(next(more), document, curves)
    if skills:
        _skills(next(more), document, [cell for cell, _ in ranked], skills)
    figure.suptitle(document["title"])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    pyplot.close(figure)


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
        marks = by_step(document, cell)
        steps, rates = list(marks), [rate_of(rows) for rows in marks.values()]
        (line,) = axes.plot(steps, [100 * r.rate for r in rates], marker="o", label=label(cell))
        low, high = [100 * r.low for r in rates], [100 * r.high for r in rates]
        axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.15)
    axes.set_xlabel("gradient steps")
    axes.set_ylabel("success in test scenes, %")
    axes.set_ylim(0, 100)
    axes.set_xlim(left=0)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _amounts(axes: Any, along: str, amounts: dict[str, list[tuple[dict[str, Any], Any]]]) -> None:
    for method, cells in amounts.items():
        at, rates = [cell["amount"] for cell, _ in cells], [rate for _, rate in cells]
        (line,) = axes.plot(at, [100 * r.rate for r in rates], marker="o", label=method)
        low, high = [100 * r.low for r in rates], [100 * r.high for r in rates]
        axes.fill_between(at, low, high, color=line.get_color(), alpha=0.15)
    axes.set_xlabel(along)
    axes.set_ylabel("success in test scenes, %")
    axes.set_ylim(0, 100)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _skills(axes: Any, document: dict[str, Any], cells: list[dict[str, Any]], skills: list[str]) -> None:
    """A square for each cell and skill, with its percentage in it; cells from the best on, as the bars have them."""
    rates = [[skill_rate(document, cell, skill) for skill in skills] for cell in cells]
    shares = [[float("nan") if rate is None else 100 * rate.rate for rate in row] for row in rates]
    axes.imshow(shares, vmin=0, vmax=100, cmap="Blues", aspect="auto")
    for row, found in enumerate(shares):
        for column, share in enumerate(found):
            if share == share:
                colour = "white" if share > 60 else "black"
                axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(skills)), [skill.replace("_", "\n") for skill in skills], fontsize=7)
    axes.set_yticks(range(len(cells)), [label(cell) for cell in cells], fontsize=8)
    axes.set_title("success by skill, %", fontsize=10)
