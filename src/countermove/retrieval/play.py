"""The work of a cell: the collection is searched with every query, as it is and changed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from countermove.game.cell import Cost, Desk, Outcome, Task, Units
from countermove.learning.scoring import warm_up
from countermove.pixels.jpeg import jpeg
from countermove.pixels.rounding import to_float
from countermove.pixels.squeezes import gray
from countermove.pixels.ssim import ssim
from countermove.retrieval.artifacts import (
    collection_of,
    describer_of,
    query_ids,
    read_index,
    read_pictures,
    read_purifier,
)
from countermove.retrieval.collection import Collection, Wanted, cropped, judged_by
from countermove.retrieval.engine import Index
from countermove.retrieval.evaluation import evaluate, ranking
from countermove.retrieval.indexes.neural import NeuralIndex
from countermove.retrieval.plan import Plan, through
from countermove.retrieval.purifying import PurifyingNetwork, purify
from countermove.retrieval.scoring import averaged, expanded, found_first, views_of

if TYPE_CHECKING:
    from countermove.retrieval.arena import Retrieval

SMALLEST_SSIM = 11
SHOWN = 5
SENT = 75
"""JPEG quality at which pictures are mostly sent."""


def set_threads(threads: int) -> None:
    """Let torch use as many threads as the keys say."""
    torch.set_num_threads(threads)


def play_cell(arena: Retrieval, task: Task, desk: Desk) -> Outcome:
    """Search with every query, as it is and changed."""
    warm_up(arena.rules.device)
    collection, plan = collection_of(arena, task), arena.plan(task.payload["countermove"]["spelling"])
    move, leak = task.need("move"), task.need("leak")
    began = time.perf_counter()
    indexes = [read_index(arena, need, desk) for need in task.needs if need.kind == "index"]
    purifier = read_purifier(desk, task.need("purifier"))
    held = Held.of(arena, task, desk, plan, purifier)
    if leak is not None:
        for index in indexes:
            _replaced(index, held)
    clean = [
        cropped(collection.pictures[row], box)
        for row, box in zip(collection.queries.tolist(), collection.boxes, strict=True)
    ]
    moved = clean if move is None else read_pictures(desk.artifact(move))
    names, seed = query_ids(collection), task.payload["seed"]

    def searched(pictures: Sequence[Tensor]) -> Tensor:
        pairs = zip(pictures, names, strict=True)
        arrived = [_arrived(one, name, plan, purifier, seed, arena.rules.device) for one, name in pairs]
        return answered(arrived, indexes, held, plan)

    before = searched(clean)
    after = before if move is None else searched(moved)
    seconds = time.perf_counter() - began
    protocol, wanted = judged_by(collection)
    found = [evaluate(scores, wanted, collection.indexed) for scores in (before, after)]
    judged = (~found[0].ap.isnan()).nonzero().flatten()
    describers = [describer_of(arena, need, desk) for need in task.needs if need.kind == "index"]
    kept = sum(_size(one) for one in describers) + _size(purifier)
    looks = 1 if plan.views is None else len(views_of(clean[0], plan.views))
    searches = len(clean) * len(indexes) * (looks + (0 if plan.expansion is None else plan.expansion.top))
    metrics = {
        "map_before": float(found[0].ap[judged].mean()),
        "map_after": float(found[1].ap[judged].mean()),
        **_likeness(clean, moved),
        **{f"precision_{k}_before": float(found[0].precision[k][judged].mean()) for k in found[0].precision},
        **{f"precision_{k}_after": float(found[1].precision[k][judged].mean()) for k in found[1].precision},
        "map_chance": map_chance(wanted, collection),
    }
    for other, names_of in collection.wanted.items():
        if other == protocol:
            continue
        pair = [evaluate(scores, names_of, collection.indexed).ap for scores in (before, after)]
        metrics |= {f"map_before_{other}": float(pair[0].nanmean()), f"map_after_{other}": float(pair[1].nanmean())}
    return Outcome(
        metrics=metrics,
        units=Units(ids=[names[at] for at in judged.tolist()], outcome=found[1].ap[judged].tolist()),
        chance=None,
        cost=Cost(
            seconds=seconds,
            samples=searches,
            parameters_changed=_size(purifier),
            bytes_stored=4 * kept + sum(_bytes(desk, need) for need in task.needs if need.kind == "index"),
        ),
        tables={
            "average_precision": torch.stack([found[0].ap[judged], found[1].ap[judged]], dim=1).tolist(),
            "first_before": ranking(before)[judged, :SHOWN].tolist(),
            "first_after": ranking(after)[judged, :SHOWN].tolist(),
        },
    )


def answered(queries: Sequence[Tensor], indexes: Sequence[Index], held: Held, plan: Plan) -> Tensor:
    """Return the scores [Q, M] of queries, joined over views, first results and engines."""
    views = [views_of(query, plan.views) if plan.views else [query] for query in queries]
    flat = [view for one in views for view in one]
    owner = torch.repeat_interleave(torch.arange(len(queries)), torch.tensor([len(one) for one in views]))
    found: list[Tensor] = []
    for index in indexes:
        scores = index.scores(flat).double().cpu()
        mean = torch.zeros(len(queries), scores.shape[1], dtype=torch.float64).index_add_(0, owner, scores)
        mean = mean / torch.bincount(owner, minlength=len(queries))[:, None]
        found.append(mean if plan.expansion is None else _expanded(mean, index, held, plan))
    return found[0] if len(found) == 1 else averaged(found)


def _expanded(scores: Tensor, index: Index, held: Held, plan: Plan) -> Tensor:
    """Return the scores with those of the first results as queries added; each found picture is searched for once."""
    assert plan.expansion is not None, "asked for"
    rows, weights = found_first(scores, plan.expansion, cosines=isinstance(index, NeuralIndex))
    every, places = rows.unique(return_inverse=True)
    pictures = [held.picture(int(held.collection.indexed[row])) for row in every.tolist()]
    again = index.scores(pictures).double().cpu()
    return expanded(scores, again[places], weights)


@dataclass(frozen=True, kw_only=True)
class Held:
    """What an owner has indexed: pictures, some of them leaked, after what is done to all of them.

    leaked: changed pictures by row of the collection.
    """

    collection: Collection
    plan: Plan
    leaked: Mapping[int, Tensor]
    purifier: PurifyingNetwork | None
    seed: int
    device: str

    @classmethod
    def of(cls, arena: Retrieval, task: Task, desk: Desk, plan: Plan, purifier: PurifyingNetwork | None) -> Held:
        """Read what was leaked."""
        need, leaked = task.need("leak"), dict[int, Tensor]()
        if need is not None:
            rows = load_file(desk.artifact(need) / "rows.safetensors")["rows"]
            leaked = dict(zip(rows.tolist(), read_pictures(desk.artifact(need)), strict=True))
        indexed = plan.purification is not None and plan.purification.indexed
        return cls(
            collection=collection_of(arena, task),
            plan=plan,
            leaked=leaked,
            purifier=purifier if indexed else None,
            seed=task.payload["seed"],
            device=arena.rules.device,
        )

    def picture(self, row: int) -> Tensor:
        """Return a picture as it is indexed."""
        picture = self.leaked.get(row, self.collection.pictures[row])
        picture = through(self.plan.indexed, picture, self.collection.ids[row], self.seed)
        return picture if self.purifier is None else purify(picture, network=self.purifier, device=self.device)


def _replaced(index: Index, held: Held) -> None:
    """Put leaked pictures into an index in the place of the untouched ones.

    `remove` and `add` would change the order of columns, so all behind the first one are taken out and put back.
    """
    rows = held.collection.indexed.tolist()
    first = next((at for at, row in enumerate(rows) if row in held.leaked), len(rows))
    index.remove(range(first, len(rows)))
    index.add([held.picture(row) for row in rows[first:]])


def _arrived(
    picture: Tensor, name: str, plan: Plan, purifier: PurifyingNetwork | None, seed: int, device: str
) -> Tensor:
    picture = through(plan.edits, picture, name, seed)
    return picture if purifier is None else purify(picture, network=purifier, device=device)


def _likeness(clean: Sequence[Tensor], moved: Sequence[Tensor]) -> dict[str, float]:
    """Return mean SSIM of RGB, of gray, and after JPEG, of queries that are large enough for it."""
    pairs = [
        (to_float(b[None]), to_float(a[None]))
        for a, b in zip(clean, moved, strict=True)
        if min(a.shape[1:]) >= SMALLEST_SSIM
    ]
    if not pairs:
        return {}
    rgb = torch.cat([ssim(b, a) for b, a in pairs]).mean()
    one = torch.cat([ssim(gray(b), gray(a)) for b, a in pairs]).mean()
    sent = torch.cat([ssim(jpeg(b, quality=SENT), a) for b, a in pairs]).mean()
    return {"ssim": float(rgb), "ssim_gray": float(one), "ssim_jpeg": float(sent)}


def map_chance(wanted: Sequence[Wanted], collection: Collection, draws: int = 50) -> float:
    """Return the mean average precision of random orders, over so many of them."""
    source = torch.Generator().manual_seed(0)
    shape = (len(wanted), len(collection.indexed))
    found = [evaluate(torch.rand(shape, generator=source), wanted, collection.indexed).ap for _ in range(draws)]
    return float(torch.stack(found).nanmean())


def _bytes(desk: Desk, index: Task) -> int:
    return sum(file.stat().st_size for file in desk.artifact(index).iterdir())


def _size(module: nn.Module | None) -> int:
    return 0 if module is None else sum(parameter.numel() for parameter in module.parameters())
