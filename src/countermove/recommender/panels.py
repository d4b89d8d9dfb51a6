"""This arena's parts of the page: pictures, journeys through the lists and through the embedding, squeezes by level.

Shown are the first seed that was played, and of the cold items the first few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch import Tensor

from countermove.game.arena import Panel
from countermove.game.cell import Setting
from countermove.game.panels import guarded, table
from countermove.pixels.address import data_address
from countermove.pixels.rounding import to_float, to_uint8
from countermove.pixels.squeezes import squeeze_uint8
from countermove.recommender.play import PICTURES, read_ranker

if TYPE_CHECKING:
    from countermove.game.results import Results, Row
    from countermove.game.store import RunFolder
    from countermove.recommender.arena import Recommender

SAMPLES = 8
SHOWN_REPLIES = 1
AMPLIFIED = 8
MAPPED = 400
"""Items of the catalogue on a map."""
SIDE, MARGIN = 320, 28
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


def panels(arena: Recommender, run: RunFolder, results: Results) -> Sequence[Panel]:
    """Return what the audit has something to show for."""
    made: list[Panel] = []
    for data in results.axis("data"):
        made += [_journeys(results, data), *_levels(arena, results, data)]
        made += guarded(f"The shop: {data}", lambda d=data: [_shop(arena, d)])
        for model in results.axis("model"):
            made += guarded(f"Where an item goes: {model}", lambda d=data, m=model: _map(arena, run, results, d, m))
        for row in _crafted(run, results, data):
            made += guarded(f"Pictures: {row.setting.move}", lambda r=row: [_gallery(arena, run, results, r)])
    return [panel for panel in made if panel.html or panel.summary]


def _first(results: Results, data: str, move: str, countermove: str, model: str) -> Row | None:
    """Return the finished cell of the first seed."""
    row = results.row(Setting(results.config.arena, data, move, countermove, model, results.config.seeds[0]))
    return row if row is not None and row.ok else None


def _crafted(run: RunFolder, results: Results, data: str) -> Iterator[Row]:
    """Yield one finished row for each promoted set of pictures; promotions that know a ranker have one a ranker."""
    seen = set()
    for move in results.axis("move"):
        for model in results.axis("model"):
            row = _first(results, data, move, "none", model)
            key = None if row is None else row.record["needs"].get("move")
            if row is not None and key not in seen and key is not None and run.has_artifact(key):
                seen.add(key)
                yield row


def _journeys(results: Results, data: str) -> Panel:
    """Return how far up items went, as quantiles over cold items of their mean place over users."""
    lines = []
    for move in results.axis("move"):
        for model in results.axis("model"):
            row = _first(results, data, move, "none", model)
            if move == "none" or row is None:
                continue
            before, after = np.array(row.record["tables"]["mean_ranks"]).T
            better = float((after < before).mean())
            told = " ".join(f"{q:.0f}" for q in np.quantile(before, QUANTILES))
            now = " ".join(f"{q:.0f}" for q in np.quantile(after, QUANTILES))
            lines.append([move, model, told, now, f"{better:.0%}", f"{row.metrics['users_reached']:.0%}"])
    if not lines:
        return Panel(title="", html="")
    head = ["promotion", "ranker", "places before", "places after", "items that rose", "users reached"]
    return Panel(
        title="Journeys through the lists" + (f" on {data}" if len(results.axis("data")) > 1 else ""),
        html=table(head, lines),
        summary="A cold item's mean place over all users, 0 is the top: the 10, 25, 50, 75 and 90 % quantiles over "
        "items, without a countermove, first seed. Users reached: who has at least one of the items in the top five.",
    )


def _shop(arena: Recommender, data: str) -> Panel:
    """Return what was counted while the data were read."""
    shop = arena.shop(data)
    counted = {**shop.statistics, "train interactions": len(shop.train), "cold items": len(shop.cold)}
    lines = [[name, f"{count:,}"] for name, count in counted.items()]
    hook = shop.items[int(shop.popularity.argmax())]
    return Panel(
        title=f"The shop: {data}",
        html=table(["what", "count"], lines),
        summary=f"The most popular item, which promotions take as their hook unless told otherwise, is {hook}.",
    )


def _levels(arena: Recommender, results: Results, data: str) -> Iterator[Panel]:
    """Yield which squeezes bring promoted items down to where cooperative ones stand untouched (thesis Table 2.8)."""
    squeezes = [c for c in results.axis("countermove") if arena.plan(c).new]
    if not squeezes:
        return
    lines = []
    for move in results.axis("move"):
        for model in results.axis("model"):
            honest = _mean(results, data, "none", "none", model, "hr_before")
            rates = [_mean(results, data, move, squeeze, model, "hr_after") for squeeze in squeezes]
            if move == "none" or honest is None:
                continue
            shown = ["-" if r is None else f"{r:.4f}{' *' if r <= honest else ''}" for r in rates]
            lines.append([move, model, f"{honest:.4f}", *shown])
    yield Panel(
        title="Squeezes by level" + (f" on {data}" if len(results.axis("data")) > 1 else ""),
        html=table(["promotion", "ranker", "cooperative", *squeezes], lines),
        summary="HR@5 of promoted items, mean over seeds. A star: at or below the cooperative items' HR@5 without any "
        "squeeze, which is how the thesis calls a defence successful.",
    )


def _mean(results: Results, data: str, move: str, countermove: str, model: str, metric: str) -> float | None:
    rows = [
        results.row(Setting(results.config.arena, data, move, countermove, model, seed))
        for seed in results.config.seeds
    ]
    values = [row.metrics[metric] for row in rows if row is not None and row.ok]
    return fmean(values) if values else None


def _map(arena: Recommender, run: RunFolder, results: Results, data: str, model: str) -> Iterator[Panel]:
    """Yield where the first cold item goes among the others' embedded pictures (thesis Fig. 2.4)."""
    base = _first(results, data, "none", "none", model)
    if base is None or not run.has_artifact(base.record["needs"]["ranker"]):
        return
    shop = arena.shop(data)
    ranker = read_ranker(arena, base.setting, "none", run.artifact(base.record["needs"]["ranker"]))
    stops = [("cooperative", shop.pictures[shop.cold[:1]])]
    for move in results.axis("move"):
        row = _first(results, data, move, "none", model)
        key = None if row is None else row.record["needs"].get("move")
        if key is not None and run.has_artifact(key):
            stops.append((move, load_file(run.artifact(key) / PICTURES)["pictures"][:1]))
    if len(stops) < 2:
        return
    hook = int(shop.popularity.argmax())
    order = torch.randperm(len(shop.warm), generator=torch.Generator().manual_seed(0))[:MAPPED]
    journey = ranker.embed_uint8(torch.cat([picture for _, picture in stops]), device=arena.rules.device)
    others = shop.further[shop.further_of == shop.cold[0]]
    if len(others):  # an item stands where the mean of its pictures is
        beside = ranker.embed_uint8(others, device=arena.rules.device).sum(0)
        journey = (journey + beside) / (1 + len(others))
    points = torch.cat([ranker.catalogue[shop.warm[order]], ranker.catalogue[hook : hook + 1], journey])
    yield Panel(
        title=f"Where an item goes: {model}" + (f" on {data}" if len(results.axis("data")) > 1 else ""),
        html=_drawn(_flat(points), [name for name, _ in stops], f"Map of embedded pictures, {model}"),
        summary=f"t-SNE of {len(order)} items' embedded pictures (gray), the most popular one (H), and item "
        f"{shop.items[int(shop.cold[0])]}: cooperative (1) and promoted. Distances across a t-SNE map mean little.",
    )


def _flat(points: Tensor) -> np.ndarray:
    """Return points in the plane, [N, 2] in [0, 1]; the same points give the same plane."""
    array = points.double().numpy()
    if len(array) > 30:
        if array.shape[1] > 50:
            array = PCA(50, random_state=0).fit_transform(array)
        array = TSNE(2, init="pca", random_state=0, perplexity=min(30, len(array) // 4)).fit_transform(array)
    else:
        array = PCA(2, random_state=0).fit_transform(array)
    low, high = array.min(0), array.max(0)
    return (array - low) / np.where(high > low, high - low, 1)


def _drawn(points: np.ndarray, stops: Sequence[str], title: str) -> str:
    """Return the map as a drawing: the catalogue's dots, H, and the numbered stops of a journey."""

    def at(i: int) -> tuple[str, str]:
        x, y = MARGIN + points[i] * (SIDE - 2 * MARGIN)
        return f"{x:.1f}", f"{y:.1f}"

    others = len(points) - len(stops) - 1
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="2" fill="#9aa" />' for x, y in map(at, range(others)))
    hook = "{} {}".format(*at(others))
    marks = f'<text x="{hook.split()[0]}" y="{hook.split()[1]}" fill="#b30" font-weight="bold">H</text>'
    for number in range(len(stops)):
        x, y = at(others + 1 + number)
        marks += f'<circle cx="{x}" cy="{y}" r="8" fill="#06c" /><text x="{x}" y="{y}" dy="4" fill="#fff" '
        marks += f'font-size="11" text-anchor="middle">{number + 1}</text>'
    key = "".join(f"<li>{escape(name)}</li>" for name in stops)
    drawing = f'<svg viewBox="0 0 {SIDE} {SIDE}" width="{SIDE}" role="img"><title>{escape(title)}</title>{dots}{marks}'
    return f"<figure>{drawing}</svg><figcaption><ol>{key}</ol></figcaption></figure>"


def _gallery(arena: Recommender, run: RunFolder, results: Results, row: Row) -> Panel:
    """Return cold items' pictures, promoted, their difference, and what squeezes leave of it."""
    shop, setting = arena.shop(row.setting.data), row.setting
    clean = shop.pictures[shop.cold[:SAMPLES]]
    moved = load_file(run.artifact(row.record["needs"]["move"]) / PICTURES)["pictures"][:SAMPLES]
    difference = to_float(moved) - to_float(clean)
    frames: list[tuple[str, Tensor]] = [("cooperative", clean), ("promoted", moved)]
    frames.append((f"difference x {AMPLIFIED}", to_uint8((0.5 + AMPLIFIED * difference).clamp(0, 1))))
    squeezes = [c for c in results.axis("countermove") if arena.plan(c).new][:SHOWN_REPLIES]
    frames += [(f"after {c}", squeeze_uint8(moved, *arena.plan(c).new)) for c in squeezes]
    ranks = row.record["tables"]["mean_ranks"]
    figures = []
    for i in range(len(clean)):
        name = f"item {shop.items[int(shop.cold[i])]}"
        images = "".join(f'<img alt="{escape(what)}" src="{data_address(p[i])}">' for what, p in frames)
        damage = float(difference[i].norm())
        figures.append(
            f'<figure class="sample" data-damage="{damage:.4f}" data-label="{escape(name, quote=True)}">{images}'
            f"<figcaption>{escape(name)}: mean place {ranks[i][0]:.0f} to {ranks[i][1]:.0f}; largest change "
            f"{float(difference[i].abs().max()) * 255:.0f}/255</figcaption></figure>"
        )
    several = len(results.axis("model")) > 1
    return Panel(
        title=f"Pictures: {setting.move}" + (f" against {setting.model}" if several else ""),
        html=f'<div class="gallery" data-sortable>{"".join(figures)}</div>',
        summary="Cooperative, promoted, their difference around gray, and what squeezes make of the promoted picture.",
    )
