"""Clean pictures that a trainer has besides what they received."""

from __future__ import annotations

import torch

from countermove.errors import DataError
from countermove.pixels.batch import Batch
from countermove.unlearnable.countermeasure import Plan
from countermove.unlearnable.data.sources import load_source, read_source


def own_pictures(plan: Plan, data: str, *, skip: int, take: int, owner: str) -> Batch:
    """Return a trainer's clean pictures, labelled as the received ones are.

    Args:
        plan: what was received.
        data: where the own pictures come from, spelled. Classes are matched by their names.
        skip: so many of its train pictures are passed over.
        take: so many of the following ones are taken, those of other classes left out.
        owner: who asks, for messages.

    Raises:
        DataError: when they do not fit the received ones, or there are fewer than two.
    """
    found = load_source(read_source(data, owner=owner))
    wanted = torch.tensor([plan.classes.index(name) if name in plan.classes else -1 for name in found.classes])
    rows = torch.arange(skip, min(skip + take, len(found.train)))
    rows = rows[wanted[found.train.labels[rows]] >= 0]
    if len(rows) < 2:
        raise DataError(
            f"{owner}: {data} has {len(found.train)} train pictures; after skip = {skip} fewer "
            f"than 2 are of the classes {', '.join(plan.classes[:10])}. Lower skip or name other data"
        )
    own = found.train.batch(rows)
    here, there = tuple(plan.received.pictures.shape[2:]), tuple(own.pictures.shape[2:])
    if here != there:
        raise DataError(f"{owner}: the received pictures are {here}, those of {data} {there} (H, W)")
    return Batch(pictures=own.pictures, labels=wanted[own.labels], ids=own.ids, classes=plan.classes)
