"""This arena's parts of the page: what the rates are of, the people, who is named from how many photos, photos.

Shown are the first seed that was played, and of the movers the first few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from countermove.faces.artifacts import PHOTOS
from countermove.game.arena import Panel
from countermove.game.cell import Setting
from countermove.game.panels import guarded, table
from countermove.pixels.address import data_address
from countermove.pixels.rounding import to_float, to_uint8
from countermove.pixels.squeezes import squeeze_uint8

if TYPE_CHECKING:
    from countermove.faces.arena import Faces
    from countermove.game.results import Results, Row
    from countermove.game.store import RunFolder

SAMPLES = 8
SHOWN_REPLIES = 1
AMPLIFIED = 8
HALF = 0.5
DETECTED = ("detector_auc", "detector_recall", "detector_false_alarms")

_SMALL = (
    "Extractors without weights from elsewhere are trained here, on a few thousand photos at most. Their rates are not "
    "those of the recognisers that search engines and governments use, and not the papers': a cloak that holds against "
    "them has shown nothing about those."
)


def panels(arena: Faces, run: RunFolder, results: Results) -> Sequence[Panel]:
    """Return what the audit has something to show for."""
    made: list[Panel] = []
    if any(arena.composed("model", model).method.features()[1].stored for model in results.axis("model")):
        made.append(Panel(title="Whose rates these are", html=f"<p>{escape(_SMALL)}</p>", summary=""))
    for data in results.axis("data"):
        on = f" on {data}" if len(results.axis("data")) > 1 else ""
        made += [_people(results, data, on), _detected(results, data, on)]
        made += guarded(f"The people: {data}", lambda d=data: [_set(arena, d)])
        for row in _crafted(run, results, data):
            made += guarded(f"Photos: {row.setting.move}", lambda r=row: [_gallery(arena, run, results, r)])
    return [panel for panel in made if panel.html or panel.summary]


def _people(results: Results, data: str, on: str) -> Panel:
    """Return how many movers are named from how many of their test photos, over all seeds."""
    lines = []
    for move in results.axis("move"):
        for countermove in results.axis("countermove"):
            for model in results.axis("model"):
                shares = _shares(results, data, move, countermove, model)
                if move == "none" or not len(shares):
                    continue
                told = [f"{float(np.mean(test)):.0%}" for test in (shares == 0, shares >= HALF, shares == 1)]
                middle = " ".join(f"{q:.2f}" for q in np.quantile(1 - shares, (0.1, 0.5, 0.9)))
                lines.append([move, countermove, model, *told, middle])
    if not lines:
        return Panel(title="", html="")
    head = [
        "cloak",
        "countermove",
        "recogniser",
        "never named",
        "named from half or more",
        "always named",
        "protection",
    ]
    return Panel(
        title="How many people are protected" + on,
        html=table(head, lines),
        summary="Shares of the movers, over all seeds: from none, from at least half, and from all of their clean test "
        "photos named rightly. Protection: its 10, 50 and 90 % quantiles over movers. A mean of 0.5 may be half of the "
        "people protected and half of them not at all.",
    )


def _shares(results: Results, data: str, move: str, countermove: str, model: str) -> np.ndarray:
    rows = [
        results.row(Setting(results.config.arena, data, move, countermove, model, seed))
        for seed in results.config.seeds
    ]
    return np.array([share for row in rows if row is not None and row.ok for share in row.record["units"]["outcome"]])


def _detected(results: Results, data: str, on: str) -> Panel:
    lines = []
    for move in results.axis("move"):
        for countermove in results.axis("countermove"):
            rows = [
                row
                for row in results.rows
                if (row.setting.data, row.setting.move, row.setting.countermove) == (data, move, countermove)
                and row.ok
                and DETECTED[0] in row.metrics
            ]
            if rows and move != "none":
                lines.append([move, countermove, *(f"{fmean(r.metrics[name] for r in rows):.3f}" for name in DETECTED)])
    if not lines:
        return Panel(title="", html="")
    return Panel(
        title="Telling cloaked from clean" + on,
        html=table(["cloak", "detector", "AUC", "cloaked photos found", "clean photos called cloaked"], lines),
        summary="Trained on photos of other people. A detector with known=[...] has seen those cloaks and no other.",
    )


def _set(arena: Faces, data: str) -> Panel:
    faces = arena.faces(data)
    counted = {
        "movers": len(faces.movers),
        "their published photos": len(faces.published),
        "their test photos": len(faces.tested),
        "people of the public": len(faces.person[faces.public].unique()),
        "their photos": len(faces.public),
    }
    return Panel(
        title=f"The people: {data}",
        html=table(["what", "count"], [[name, f"{count:,}"] for name, count in counted.items()])
        + "".join(f"<p>{escape(note)}</p>" for note in faces.notes),
        summary="Extractors are trained on the public alone; movers are in the gallery alone.",
    )


def _crafted(run: RunFolder, results: Results, data: str) -> Iterator[Row]:
    """Yield one finished row of the first seed for each cloak; those made on the trainer's extractor have several."""
    for move in results.axis("move"):
        for model in results.axis("model"):
            first = Setting(results.config.arena, data, move, "none", model, results.config.seeds[0])
            row = results.row(first)
            if row is not None and row.ok and run.has_artifact(row.record["needs"].get("move", "")):
                yield row
                break


def _gallery(arena: Faces, run: RunFolder, results: Results, row: Row) -> Panel:
    """Return movers' photos, cloaked, their difference, and what squeezes leave of it."""
    faces, setting = arena.faces(row.setting.data), row.setting
    stored = load_file(run.artifact(row.record["needs"]["move"]) / PHOTOS)["photos"]
    number = faces.number[faces.person[faces.published]]
    rows = torch.tensor([int((number == m).nonzero()[0]) for m in range(min(SAMPLES, len(faces.movers)))])
    clean, moved = faces.photos[faces.published[rows]], stored[rows]
    difference = to_float(moved) - to_float(clean)
    frames: list[tuple[str, Tensor]] = [("clean", clean), ("cloaked", moved)]
    frames.append((f"difference x {AMPLIFIED}", to_uint8((0.5 + AMPLIFIED * difference).clamp(0, 1))))
    squeezes = [c for c in results.axis("countermove") if arena.plan(c).gallery][:SHOWN_REPLIES]
    frames += [(f"after {c}", squeeze_uint8(moved, *arena.plan(c).gallery)) for c in squeezes]
    figures = []
    for i in range(len(rows)):
        name = faces.people[int(faces.movers[i])]
        before, after = row.record["tables"]["by_person"][i]
        images = "".join(f'<img alt="{escape(what)}" src="{data_address(p[i])}">' for what, p in frames)
        figures.append(
            f'<figure class="sample" data-damage="{float(difference[i].norm()):.4f}" '
            f'data-label="{escape(name, quote=True)}">{images}<figcaption>{escape(name)}: {before:.0%} of the test '
            f"photos named, {after:.0%} when cloaked; largest change {float(difference[i].abs().max()) * 255:.0f}/255"
            "</figcaption></figure>"
        )
    several = len(results.axis("model")) > 1
    return Panel(
        title=f"Photos: {setting.move}",
        html=f'<div class="gallery" data-sortable>{"".join(figures)}</div>',
        summary="Clean, cloaked, their difference around gray, and what squeezes make of the cloaked photo"
        + (f"; named by {setting.model}." if several else "."),
    )
