"""This arena's parts of the page: what every adaptation reaches and takes, and where networks moved."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from countermove.finetuning.picture import layer_bars
from countermove.game.arena import Panel
from countermove.game.panels import table
from countermove.tasks.play import MOVED

if TYPE_CHECKING:
    from countermove.game.results import Results, Row
    from countermove.game.store import RunFolder
    from countermove.tasks.arena import Tasks

RESAMPLES = 2000


def panels(arena: Tasks, run: RunFolder, results: Results) -> Sequence[Panel]:
    """Return a table of adaptations and one of distances for every task and network."""
    made: list[Panel] = []
    for data in results.axis("data"):
        for model in results.axis("model"):
            rows = [r for r in results.rows if r.ok and (r.setting.data, r.setting.model) == (data, model)]
            if rows:
                full = arena.full(model)
                made += [_adaptations(rows, data, model, full), _distances(rows, data, model, full)]
    return [panel for panel in made if panel.html]


def _adaptations(rows: Sequence[Row], data: str, model: str, whole: str) -> Panel:
    full = {row.setting.seed: row for row in rows if row.setting.countermove == whole}
    lines = []
    for reply in dict.fromkeys(row.setting.countermove for row in rows):
        mine = [row for row in rows if row.setting.countermove == reply]
        lines.append(
            [
                reply,
                f"{fmean(row.metrics['accuracy'] for row in mine):.2%}",
                "" if reply == whole else _gap(mine, full),
                _mean(mine, "matthews", "{:.3f}"),
                f"{_share(mine, 'parameters_changed', 'parameters'):.2%}",
                f"{fmean(_stored(row) for row in mine):,.0f}",
                f"{_share(mine, 'bytes_stored', 'bytes_full'):.2%}",
                _mean(mine, "sparsity", "{:.2%}"),
                f"{fmean(row.record['price']['seconds'] for row in mine):.0f}",
            ]
        )
    head = [
        "adaptation",
        "accuracy",
        "points to full",
        "Matthews",
        "numbers changed",
        "bytes stored",
        "of a full copy",
        "zeros in masks",
        "seconds",
    ]
    seeds = len({row.setting.seed for row in rows})
    return Panel(
        title=f"What every adaptation reaches and takes: {data}, {model}",
        html=table(head, lines),
        summary=(
            f"Means over {seeds} seed{'s' if seeds > 1 else ''}. Points to full: 95 % interval of the paired "
            "difference, test examples and seeds resampled. A full copy is all numbers of the network in 32 bits; "
            "bytes stored are those of the file that leads from the published network to the adapted one, output layer "
            "included."
        ),
    )


def _distances(rows: Sequence[Row], data: str, model: str, whole: str) -> Panel:
    full = [row for row in rows if row.setting.countermove == whole and row.record["tables"]]
    if not full:
        return Panel(title="", html="")
    lines, bars = [], []
    for name in full[0].record["tables"]:
        if name.startswith(MOVED):
            found = np.mean([row.record["tables"][name][0] for row in full], axis=0)
            numel, changed, angle, chance, gap, chance_gap = found
            bars.append((name.removeprefix(MOVED), float(angle), float(chance)))
            lines.append(
                [
                    name.removeprefix(MOVED),
                    f"{numel:,.0f}",
                    f"{changed:.1%}",
                    f"{angle:.4f}",
                    f"{chance:.3f}",
                    f"{gap:.5f}",
                    f"{chance_gap:.4f}",
                ]
            )
    head = ["layer", "numbers", "changed", "angle", "by chance", "mean L1", "by chance"]
    return Panel(
        title=f"Where full fine-tuning moved the network: {data}, {model}",
        html=layer_bars(bars, title=f"Angles after full fine-tuning on {data}, layer by layer") + table(head, lines),
        summary=(
            "Distances between the published and the fine-tuned weights, layer by layer; angles in parts of a half "
            "turn, in the picture on a logarithmic scale. By chance (the marks): to the same numbers in random order, "
            "where two unrelated networks would lie."
        ),
    )


def paired_gap(mine: NDArray[np.float64], full: NDArray[np.float64], *, seed: int = 0) -> tuple[float, float, float]:
    """Return the mean of mine minus full, and its 95 % interval; seeds and units are resampled together.

    Args:
        mine: outcomes, one row a seed, [S, N].
        full: of the same seeds and units.
        seed: of the resampling.
    """
    gap = mine - full
    source = np.random.default_rng(seed)
    seeds, units = gap.shape
    means = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        weights = source.multinomial(units, np.full(units, 1 / units)) / units
        means[i] = (gap @ weights)[source.integers(seeds, size=seeds)].mean()
    return float(gap.mean()), float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def _gap(mine: Sequence[Row], full: dict[int, Row]) -> str:
    pairs = [(row, full[row.setting.seed]) for row in mine if row.setting.seed in full]
    if not pairs:
        return ""
    here, there = (np.array([row.record["units"]["outcome"] for row in side]) for side in zip(*pairs, strict=True))
    mean, low, high = paired_gap(here, there)
    return f"{100 * mean:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"


def _mean(rows: Sequence[Row], metric: str, form: str) -> str:
    found = [row.metrics[metric] for row in rows if metric in row.metrics]
    return form.format(fmean(found)) if found else ""


def _stored(row: Row) -> float:
    return row.record["price"]["bytes_stored"]


def _share(rows: Sequence[Row], price: str, whole: str) -> float:
    return fmean(row.record["price"][price] / row.metrics[whole] for row in rows)
