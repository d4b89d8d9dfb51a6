"""This arena's parts of the page: the profiles, how surely accuracies are known, what detectors found, what was added.

Shown are the first seed that was played, and of the movers the first few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from scipy.stats import binomtest
from torch import Tensor

from countermove.game.arena import Panel
from countermove.game.cell import Setting
from countermove.game.panels import guarded, table
from countermove.pixels.address import data_address
from countermove.profiles.artifacts import stored_additions
from countermove.profiles.dataset import Profiles as ProfileSet
from countermove.profiles.dataset import as_float
from countermove.profiles.pivot import Additions, extended

if TYPE_CHECKING:
    from countermove.game.results import Results, Row
    from countermove.game.store import RunFolder
    from countermove.profiles.arena import Profiles

SAMPLES = 3
DETECTED = ("detection_auc", "onset_error", "addition_auc", "flagged")
READ = {
    "auc": "AUC",
    "clean_auc": "AUC, unpivoted",
    "strong_accuracy": "accuracy, strong profiles",
    "attention_on_additions": "weight on additions",
    "ssim": "SSIM of additions",
    "snr": "SNR of additions, dB",
}
_BANDS, _WINDOW, _HOP = 64, 512, 256


def panels(arena: Profiles, run: RunFolder, results: Results) -> Sequence[Panel]:
    """Return what the audit has something to show for."""
    made: list[Panel] = []
    for data in results.axis("data"):
        on = f" on {data}" if len(results.axis("data")) > 1 else ""
        made += guarded(f"The profiles: {data}", lambda d=data: [_set(arena, d)])
        made += [_accuracies(results, data, on), _detected(results, data, on)]
        for row in _pivoted(run, results, data):
            made += guarded(f"Profiles: {row.setting.move}", lambda r=row: [_gallery(arena, run, r)])
    return [panel for panel in made if panel.html or panel.summary]


def _set(arena: Profiles, data: str) -> Panel:
    found = arena.profiles(data)
    lengths = [len(bag) for bag in found.bags]
    counted = [
        *((f"{split} profiles", f"{len(getattr(found, split)):,}") for split in ("train", "validation", "test")),
        ("owners, each in one split", f"{len(set(found.owners)):,}"),
        ("owners of test profiles", f"{len({found.owners[row] for row in found.test.tolist()}):,}"),
        ("items of a profile", f"{min(lengths)} to {max(lengths)}" if min(lengths) < max(lengths) else f"{lengths[0]}"),
        ("values of the attribute", ", ".join(found.classes)),
        ("guessing reaches", f"{found.chance:.2f}"),
        ("items that may be added", f"{len(found.background):,}"),
        ("items that extractors learn from", f"{len(found.public):,}"),
    ]
    return Panel(
        title=f"The profiles: {data}",
        html=table(["what", "count"], [list(line) for line in counted])
        + (f"<p>{escape(found.warning)}</p>" if found.warning else ""),
        summary="Where an owner has several test profiles, these are not independent: intervals over profiles are then "
        "too narrow for a statement about people.",
    )


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of so many."""
    found = binomtest(round(share * count), count).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def _accuracies(results: Results, data: str, on: str) -> Panel:
    """Return accuracies with their intervals, and what else was measured of the reading, means over seeds."""
    shown = {key: head for key, head in READ.items() if any(key in row.metrics for row in results.rows)}
    lines = []
    for key, rows in _grouped(results, data):
        count = len(rows[0].record["units"]["ids"])
        line = list(key)
        for name in ("accuracy", "clean_accuracy"):
            mean = fmean(row.metrics[name] for row in rows)
            low, high = wilson(mean, count)
            line.append(f"{mean:.2f} [{low:.2f}, {high:.2f}]")
        for name in shown:
            values = [row.metrics[name] for row in rows if name in row.metrics]
            line.append(f"{fmean(values):.2f}" if values else "")
        lines.append(line)
    if not lines:
        return Panel(title="", html="")
    head = ["pivot", "countermove", "profiler", "accuracy", "accuracy, unpivoted", *shown.values()]
    return Panel(
        title="How profiles are read" + on,
        html=table(head, lines),
        summary="Means over seeds, with Wilson's 95 % interval for that mean and the number of test profiles; all "
        "seeds read the same ones. Strong profiles are the 30 % whose value is read most surely while nobody moves.",
    )


def _detected(results: Results, data: str, on: str) -> Panel:
    lines = []
    for key, rows in _grouped(results, data):
        found = [row for row in rows if DETECTED[0] in row.metrics]
        if found:
            means = [fmean(row.metrics[name] for row in found if name in row.metrics) for name in DETECTED[:2]]
            alone = [row.metrics[DETECTED[2]] for row in found if DETECTED[2] in row.metrics]
            flagged = fmean(row.metrics[DETECTED[3]] for row in found)
            lines.append([*key, *(f"{v:.2f}" for v in means), f"{fmean(alone):.2f}" if alone else "", f"{flagged:.2f}"])
    if not lines:
        return Panel(title="", html="")
    head = ["pivot", "detector", "profiler", "AUC, profiles", "off by items", "AUC, single items", "profiles flagged"]
    return Panel(
        title="Did a pivot take place, and when" + on,
        html=table(head, lines),
        summary="Trained on other people's profiles, with additions from another half of what may be added. A detector "
        "with known=[...] has seen those pivots and no other.",
    )


def _grouped(results: Results, data: str) -> Iterator[tuple[tuple[str, str, str], list[Row]]]:
    """Yield the finished rows of all seeds by move, countermove and model, in the order of the axes."""
    for move in results.axis("move"):
        for countermove in results.axis("countermove"):
            for model in results.axis("model"):
                settings = [
                    Setting(results.config.arena, data, move, countermove, model, seed) for seed in results.config.seeds
                ]
                rows = [row for row in map(results.row, settings) if row is not None and row.ok]
                if rows:
                    yield (move, countermove, model), rows


def _pivoted(run: RunFolder, results: Results, data: str) -> Iterator[Row]:
    """Yield one finished row of the first seed for each pivot."""
    for move in results.axis("move"):
        for model in results.axis("model"):
            first = Setting(results.config.arena, data, move, "none", model, results.config.seeds[0])
            row = results.row(first)
            if row is not None and row.ok and run.has_artifact(row.record["needs"].get("move", "")):
                yield row
                break


def _gallery(arena: Profiles, run: RunFolder, row: Row) -> Panel:
    """Return profiles of the first movers in the order of time, additions marked."""
    data, setting = arena.profiles(row.setting.data), row.setting
    additions = stored_additions(run.artifact(row.record["needs"]["move"]))
    if data.medium == "table":
        return Panel(title="", html="")
    figures = [
        _figure(data, additions, number, row.record["tables"]["probability"][number])
        for number in range(min(SAMPLES, len(data.test)))
    ]
    what = "Pictures" if data.medium == "picture" else "Spectrograms of clips, low frequencies below,"
    return Panel(
        title=f"Profiles: {setting.move}",
        html=f'<div class="gallery">{"".join(figures)}</div>',
        summary=f"{what} in the order of time, additions framed; read by {setting.model}.",
    )


def _figure(data: ProfileSet, additions: Additions, number: int, probability: Sequence[float]) -> str:
    profile = data.test[number : number + 1]
    mine = (additions.mover == number).nonzero().flatten()
    only = Additions(
        items=additions.items[mine],
        mover=torch.zeros_like(mine),
        source=additions.source[mine],
        when=additions.when[mine],
    )
    (bag,) = extended(data, profile, only)
    items = torch.cat([data.items, only.items])
    images = []
    for at in bag.tolist():
        added = at >= len(data.items)
        name = "addition" if added else data.ids[at]
        images.append(
            f'<img class="{"added" if added else "own"}" alt="{escape(name, quote=True)}" '
            f'src="{data_address(_seen(data, items[at]))}">'
        )
    value = data.classes[int(data.labels[profile])]
    told = f"{value}: read with {probability[0]:.2f}, with additions {probability[1]:.2f}"
    who = data.profile_ids[int(profile)]
    return (
        f'<figure class="sample" data-label="{escape(who, quote=True)}">{"".join(images)}'
        f"<figcaption>{escape(who)} ({escape(told)})</figcaption></figure>"
    )


def _seen(data: ProfileSet, item: Tensor) -> Tensor:
    """Return an item as a picture, uint8 [3, H, W]: itself, or its spectrogram."""
    return item if data.medium == "picture" else spectrogram(as_float(item[None], "speech")[0])


def spectrogram(wave: Tensor) -> Tensor:
    """Return a clip [T] as a gray picture of its loudness over time, 80 dB deep: uint8 [3, 64, frames]."""
    window = torch.hann_window(_WINDOW)
    padded = torch.nn.functional.pad(wave, (0, max(0, _WINDOW - len(wave))))
    found = torch.stft(padded, _WINDOW, _HOP, window=window, return_complex=True, center=False).abs()
    some = torch.nn.functional.adaptive_avg_pool2d(found[None, None], (_BANDS, found.shape[1]))[0, 0]
    decibels = 20 * (some / some.max().clamp(min=1e-9)).clamp(min=1e-4).log10()
    return (255 * (1 + decibels / 80)).round().to(torch.uint8).flip(0).expand(3, -1, -1)
