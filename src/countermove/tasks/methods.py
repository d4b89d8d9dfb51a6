"""Every method of this arena, one line each. Listing them imports none."""

from __future__ import annotations

from countermove.finetuning.ways import WAYS
from countermove.game.methods import Methods
from countermove.tasks.data import DATA

MOVES = {"none": "countermove.tasks.published:Published"}

COUNTERMOVES = {"none": "countermove.tasks.frozen:Frozen", **WAYS}

MODELS = {
    "small-bert": "countermove.tasks.models.small_bert:SmallBert",
    "public-bert": "countermove.tasks.models.public_bert:PublicBert",
    "small-network": "countermove.tasks.models.small_network:SmallNetwork",
}

METHODS = Methods("tasks", {"move": MOVES, "countermove": COUNTERMOVES, "model": MODELS, "data": DATA})
