"""This arena's parts of the page: the collections, how queries rank, queries and what they find.

Shown are the first seed that was played, and the first few queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from statistics import fmean
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from countermove.game.arena import Panel
from countermove.game.cell import Setting
from countermove.game.panels import guarded, table
from countermove.pixels.address import data_address
from countermove.pixels.rounding import to_float, to_uint8
from countermove.retrieval.artifacts import query_ids, read_pictures
from countermove.retrieval.collection import Collection, cropped, judged_by

if TYPE_CHECKING:
    from countermove.game.results import Results, Row
    from countermove.game.store import RunFolder
    from countermove.retrieval.arena import Retrieval

SAMPLES, RESULTS, SIDE = 6, 5, 96
READ = {
    "map_before": "mAP, untouched",
    "map_after": "mAP, changed",
    "precision_1_before": "P@1, untouched",
    "precision_1_after": "P@1, changed",
    "ssim": "SSIM",
    "ssim_gray": "SSIM, gray",
    "ssim_jpeg": "SSIM after JPEG 75",
}


def panels(arena: Retrieval, run: RunFolder, results: Results) -> Sequence[Panel]:
    """Return what the audit has something to show for."""
    made: list[Panel] = []
    for data in results.axis("data"):
        on = f" on {data}" if len(results.axis("data")) > 1 else ""
        made += guarded(f"The collection: {data}", lambda d=data: [_set(arena, d)])
        made.append(_ranks(results, data, on))
        for row in _changed(run, results, data):
            made += guarded(f"Queries: {row.setting.move}", lambda r=row: [_gallery(arena, run, r)])
    return [panel for panel in made if panel.html or panel.summary]


def _set(arena: Retrieval, data: str) -> Panel:
    found = arena.collection(data)
    _, wanted = judged_by(found)
    counted = [
        ("pictures to search", f"{len(found.indexed):,}"),
        ("queries", f"{len(found.queries):,}"),
        ("with a box", f"{sum(box is not None for box in found.boxes):,}"),
        ("right answers a query", f"{fmean(len(one.positive) for one in wanted):.1f}"),
        ("pictures that backbones learn from", f"{len(found.public):,}"),
    ]
    return Panel(
        title=f"The collection: {data}",
        html=table(["what", "count"], [list(line) for line in counted])
        + (f"<p>{escape(found.warning)}</p>" if found.warning else ""),
        summary="Pictures that backbones are trained on are neither searched nor queries.",
    )


def _ranks(results: Results, data: str, on: str) -> Panel:
    """Return what queries find, untouched and changed, means over seeds."""
    further = [name for row in results.rows for name in row.metrics if name.startswith(("map_before_", "map_after_"))]
    shown = {**READ, **{name: name.replace("map_", "mAP, ").replace("_", ", ") for name in further}}
    lines = []
    for move in results.axis("move"):
        for countermove in results.axis("countermove"):
            for model in results.axis("model"):
                settings = [
                    Setting(results.config.arena, data, move, countermove, model, seed) for seed in results.config.seeds
                ]
                rows = [row for row in map(results.row, settings) if row is not None and row.ok]
                if not rows:
                    continue
                means = [[row.metrics[name] for row in rows if name in row.metrics] for name in shown]
                lines.append([move, countermove, model, *(f"{fmean(v):.3f}" if v else "" for v in means)])
    if not lines:
        return Panel(title="", html="")
    chance = fmean(row.metrics["map_chance"] for row in results.rows if row.ok and row.setting.data == data)
    return Panel(
        title="What queries find" + on,
        html=table(["query", "countermove", "engine", *shown.values()], lines),
        summary=f"Means over seeds. A random order reaches a mean average precision of {chance:.3f}.",
    )


def _changed(run: RunFolder, results: Results, data: str) -> Iterator[Row]:
    """Yield one finished row of the first seed for each move."""
    for move in results.axis("move"):
        for model in results.axis("model"):
            first = Setting(results.config.arena, data, move, "none", model, results.config.seeds[0])
            row = results.row(first)
            if row is not None and row.ok and run.has_artifact(row.record["needs"].get("move", "")):
                yield row
                break


def _gallery(arena: Retrieval, run: RunFolder, row: Row) -> Panel:
    """Return the first queries, untouched and changed, with what each finds first; right answers are framed."""
    collection = arena.collection(row.setting.data)
    moved = read_pictures(run.artifact(row.record["needs"]["move"]))
    number = {name: at for at, name in enumerate(query_ids(collection))}
    figures = []
    for line, name in enumerate(row.record["units"]["ids"][:SAMPLES]):
        at = number[name]
        clean = cropped(collection.pictures[int(collection.queries[at])], collection.boxes[at])
        before, after = row.record["tables"]["average_precision"][line]
        parts = []
        for what, query, first in (("untouched", clean, "first_before"), ("changed", moved[at], "first_after")):
            found = [int(column) for column in row.record["tables"][first][line][:RESULTS]]
            parts.append(_image(query, what, "query") + "".join(_answer(collection, at, column) for column in found))
        figures.append(
            f'<figure class="sample" data-label="{escape(name, quote=True)}">{"<br>".join(parts)}<figcaption>'
            f"{escape(name)}: average precision {before:.2f}, changed {after:.2f}</figcaption></figure>"
        )
    return Panel(
        title=f"Queries: {row.setting.move}",
        html=f'<div class="gallery">{"".join(figures)}</div>',
        summary=f"A query and what {row.setting.model} finds first, before and after; right answers are framed.",
    )


def _answer(collection: Collection, query: int, column: int) -> str:
    row = int(collection.indexed[column])
    wanted = judged_by(collection)[1][query]
    right = bool((wanted.positive == row).any())
    return _image(collection.pictures[row], collection.ids[row], "added" if right else "own")


def _image(picture: Tensor, name: str, kind: str) -> str:
    return f'<img class="{kind}" alt="{escape(name, quote=True)}" src="{data_address(thumbnail(picture))}">'


def thumbnail(picture: Tensor) -> Tensor:
    """Return a picture uint8 [3, H, W] with its longer side at most 96."""
    scale = SIDE / max(picture.shape[1:])
    if scale >= 1:
        return picture
    size = [max(1, round(scale * side)) for side in picture.shape[1:]]
    return to_uint8(F.interpolate(to_float(picture[None]), size=size, mode="bilinear", antialias=True))[0]
