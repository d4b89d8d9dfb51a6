"""This arena's tables on the page: confusion, moved test pictures, detection and automatic identification.

Each is left out where an audit holds nothing for it. Numbers are means over seeds, unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from countermove.game.arena import Panel
from countermove.game.panels import table
from countermove.unlearnable.detection import dataset_auc

if TYPE_CHECKING:
    from countermove.game.results import Results, Row
    from countermove.unlearnable.arena import Unlearnable

ON_TEST = "accuracy_moved_test"
ON_TEST_COLUMNS = {
    "accuracy": "clean",
    ON_TEST: "moved",
    "trigger_success": "another class's move",
    "accuracy_first_test": "first part",
    "accuracy_second_test": "second part",
}
CHOSE = "chose_"
DETECTION = ("detection_precision", "detection_recall", "detection_auc")
MOST_CLASSES = 20


def table_panels(arena: Unlearnable, results: Results) -> Sequence[Panel]:
    """Return the tables that the audit has numbers for."""
    found = [*_confusions(arena, results), _on_test(results), _detection(results), _identification(results)]
    return [panel for panel in found if panel is not None]


def _confusions(arena: Unlearnable, results: Results) -> Iterable[Panel]:
    """Yield a confusion matrix for every move that was put on some classes only; first seed, countermove none."""
    for row in results.rows:
        first = row.setting.seed == results.config.seeds[0] and row.setting.countermove == "none"
        if not (row.ok and first and row.record["units"]["counted"] is not None):
            continue
        counts = row.record.get("tables", {}).get("confusion", [])
        if not 0 < len(counts) <= MOST_CLASSES:
            continue
        data = arena.data(row.setting.data, row.setting.seed)
        touched = {data.classes[k] for k in data.train.labels[data.moved].unique().tolist()}
        names = [f"{name} (moved)" if name in touched else name for name in data.classes]
        lines = [
            [name, *(f"{count / max(1, sum(line)):.2f}" for count in line)]
            for name, line in zip(names, counts, strict=True)
        ]
        yield Panel(
            title=f"Confusion: {row.setting.move} on {row.setting.data}, {row.setting.model}",
            html=table(["true class", *data.classes], lines),
            summary="Share of the clean test pictures of each class (rows) that are named as each class (columns).",
        )


def _on_test(results: Results) -> Panel | None:
    """Return how well models name test pictures that carry the move themselves."""
    rows = [row for row in results.rows if ON_TEST in row.metrics]
    shown = {name: head for name, head in ON_TEST_COLUMNS.items() if any(name in row.metrics for row in rows)}
    lines = [
        [*key, *(_shown([row.metrics[name] for row in group if name in row.metrics]) for name in shown)]
        for key, group in _grouped(rows).items()
    ]
    return _panel(
        "Test pictures that carry the move",
        ["move", "countermove", *shown.values()],
        lines,
        "Accuracy on clean test pictures, and on the same with the move on them: a model that names these rightly, and "
        "clean ones not, has learned the move. Another class's move: how often the model names that class, as a "
        "backdoor's trigger would make it. First and second part: of a combined move, each alone.",
    )


def _detection(results: Results) -> Panel | None:
    """Return how well detectors tell moved pictures, and moved data sets, from others."""
    lines = []
    for countermove in results.axis("countermove"):
        rows = [r for r in results.rows if r.setting.countermove == countermove and "detection_score" in r.metrics]
        if not rows:
            continue
        scores = [row.metrics["detection_score"] for row in rows]
        moved = [row.setting.move != "none" for row in rows]
        area = dataset_auc(scores, moved) if len(set(moved)) == 2 else None
        for move in results.axis("move"):
            mine = [row for row in rows if row.setting.move == move]
            if mine:
                known = [_shown([row.metrics[name] for row in mine if name in row.metrics]) for name in DETECTION]
                held = _shown([row.metrics["detected"] for row in mine])
                lines.append([countermove, move, held, *known, "-" if area is None else f"{area:.2f}"])
    return _panel(
        "Detection",
        ["detector", "move", "held for moved", "precision", "recall", "AUC of pictures", "AUC of data sets"],
        lines,
        "Held for moved: share of the seeds in which the data set was. The AUC of data sets is over all moves and "
        "seeds of the detector; a dash where a number is not defined, as the AUC of pictures where all are moved.",
    )


def _identification(results: Results) -> Panel | None:
    """Return what automatic identification chose and how often that was the best of what it chooses from."""
    lines = []
    rows = [row for row in results.rows if any(name.startswith(CHOSE) for name in row.metrics)]
    for (move, countermove), group in _grouped(rows).items():
        names = [max(_choices(row), key=lambda name, row=row: _choices(row)[name]) for row in group]
        judged = [_was_best(results, row, name) for row, name in zip(group, names, strict=True)]
        known = [value for value in judged if value is not None]
        chosen = ", ".join(f"{name} ({names.count(name)})" for name in dict.fromkeys(names))
        lines.append([move, countermove, chosen, f"{sum(known)} of {len(known)}" if known else "-"])
    return _panel(
        "Automatic identification",
        ["move", "countermove", "chosen (times)", "as good as the best"],
        lines,
        "Right: no squeeze that it chooses from and that this audit played reached an accuracy more than 0.02 higher "
        "with the same seed and model.",
    )


def _choices(row: Row) -> Mapping[str, float]:
    """Return one-hot choices by the name of the squeeze."""
    return {
        name.removeprefix(CHOSE).replace("_", "+"): value
        for name, value in row.metrics.items()
        if name.startswith(CHOSE)
    }


def _was_best(results: Results, row: Row, chosen: str, slack: float = 0.02) -> bool | None:
    """Say whether a choice was as good as any that was played; None where the choice itself was not played."""
    played = {
        other.setting.countermove: other.metrics["accuracy"]
        for other in results.rows
        if other.ok
        and other.setting.countermove in _choices(row)
        and (other.setting.data, other.setting.move, other.setting.model, other.setting.seed)
        == (row.setting.data, row.setting.move, row.setting.model, row.setting.seed)
    }
    return played[chosen] >= max(played.values()) - slack if chosen in played else None


def _grouped(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.setting.move, row.setting.countermove), []).append(row)
    return groups


def _shown(values: Sequence[float]) -> str:
    return f"{fmean(values):.2f}" if values else "-"


def _panel(title: str, head: Sequence[str], lines: Sequence[Sequence[str]], summary: str) -> Panel | None:
    return Panel(title=title, html=table(head, lines), summary=summary) if lines else None
