"""Every method of this arena, one line each. Listing them imports none."""

from __future__ import annotations

from countermove.game.methods import Methods
from countermove.tasks.data import DATA

_ADAPTATION = "countermove.finetuning.adaptation"

MOVES = {"none": "countermove.tasks.published:Published"}

COUNTERMOVES = {
    "none": "countermove.tasks.frozen:Frozen",
    "full": f"{_ADAPTATION}:Full",
    "critical-layers": f"{_ADAPTATION}:CriticalLayers",
    "mask": f"{_ADAPTATION}:Masked",
    "lora": f"{_ADAPTATION}:Lora",
    "bitfit": f"{_ADAPTATION}:BitFit",
}

MODELS = {
    "small-bert": "countermove.tasks.models.small_bert:SmallBert",
    "public-bert": "countermove.tasks.models.public_bert:PublicBert",
    "small-network": "countermove.tasks.models.small_network:SmallNetwork",
}

METHODS = Methods("tasks", {"move": MOVES, "countermove": COUNTERMOVES, "model": MODELS, "data": DATA})
