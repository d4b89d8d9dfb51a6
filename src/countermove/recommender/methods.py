"""Every method of this arena, one line each. Listing them imports none."""

from __future__ import annotations

from countermove.game.methods import Methods
from countermove.recommender.data import DATA

_PROMOTIONS = "countermove.recommender.promotions"
_DEFENCES = "countermove.recommender.defences"
_RANKERS = "countermove.recommender.rankers"

MOVES = {
    "none": f"{_PROMOTIONS}.none:NoPromotion",
    "insa": f"{_PROMOTIONS}.insa:Insa",
    "expa": f"{_PROMOTIONS}.expa:Expa",
    "c-sema": f"{_PROMOTIONS}.c_sema:CompositingSemantic",
    "n-sema": f"{_PROMOTIONS}.n_sema:NaturalSemantic",
    "taamr": f"{_PROMOTIONS}.taamr:Taamr",
}

COUNTERMOVES = {
    "none": f"{_DEFENCES}.none:NoDefence",
    "jpeg": f"{_DEFENCES}.jpeg:Jpeg",
    "bit-depth": f"{_DEFENCES}.bit_depth:BitDepth",
    "amr": f"{_DEFENCES}.amr:AdversarialRanking",
    "robust-features": f"{_DEFENCES}.robust_features:RobustFeatures",
    "gatekeeper": f"{_DEFENCES}.gatekeeper:Gatekeeper",
    "random-slot": f"{_DEFENCES}.random_slot:RandomSlot",
}

MODELS = {
    "alexrank": f"{_RANKERS}.alexrank:AlexRank",
    "vbpr": f"{_RANKERS}.vbpr:Vbpr",
    "dvbpr": f"{_RANKERS}.dvbpr:Dvbpr",
    "amr": f"{_RANKERS}.amr:Amr",
}

METHODS = Methods("recommender", {"move": MOVES, "countermove": COUNTERMOVES, "model": MODELS, "data": DATA})
