"""Every method of this arena, one line each. Listing them imports none."""

from __future__ import annotations

from countermove.game.methods import Methods
from countermove.retrieval.data import DATA

_QUERIES = "countermove.retrieval.queries"
_EDITS = "countermove.retrieval.edits"
_REPLIES = "countermove.retrieval.replies"
_INDEXES = "countermove.retrieval.indexes"

MOVES = {
    "none": f"{_QUERIES}.none:NoChange",
    "noise": f"{_QUERIES}.noise:MatchedNoise",
    "pire": f"{_QUERIES}.pire:Pire",
    "pire-final": f"{_QUERIES}.pire_final:PireFinal",
    "universal": f"{_QUERIES}.universal:Universal",
    "targeted": f"{_QUERIES}.targeted:Targeted",
    "rmd": f"{_QUERIES}.rmd:Rmd",
    "ls": f"{_QUERIES}.ls:Ls",
    "fmd": f"{_QUERIES}.fmd:Fmd",
    "rmd-ls": f"{_QUERIES}.rmd_ls:RmdLs",
    "ls-fmd": f"{_QUERIES}.ls_fmd:LsFmd",
    "rdg": f"{_QUERIES}.rdg:Rdg",
}

COUNTERMOVES = {
    "none": f"{_REPLIES}.none:NoReply",
    "resize": f"{_EDITS}.resize:Resize",
    "crop": f"{_EDITS}.crop:Crop",
    "jpeg": f"{_EDITS}.jpeg:Jpeg",
    "blur": f"{_EDITS}.blur:Blur",
    "recapture": f"{_EDITS}.recapture:Recapture",
    "multi-crop": f"{_REPLIES}.multi_crop:MultiCrop",
    "query-expansion": f"{_REPLIES}.query_expansion:QueryExpansion",
    "ensemble": f"{_REPLIES}.ensemble:Ensemble",
    "adapted": f"{_REPLIES}.adapted:Adapted",
    "purifier": f"{_REPLIES}.purifier:Purifier",
    "leaked": f"{_REPLIES}.leaked:Leaked",
}

MODELS = {
    "neural": f"{_INDEXES}.neural:Neural",
    "local": f"{_INDEXES}.local_features:LocalFeatures",
    "global": f"{_INDEXES}.global_features:GlobalFeatures",
}

METHODS = Methods("retrieval", {"move": MOVES, "countermove": COUNTERMOVES, "model": MODELS, "data": DATA})
