"""Every method of this arena, one line each. Listing them imports none."""

from __future__ import annotations

from countermove.game.methods import Methods
from countermove.profiles.data import DATA

_PIVOTS = "countermove.profiles.pivots"
_COUNTERMEASURES = "countermove.profiles.countermeasures"
_PROFILERS = "countermove.profiles.profilers"

MOVES = {
    "none": f"{_PIVOTS}.none:NoPivot",
    "random-noise": f"{_PIVOTS}.random_noise:RandomNoise",
    "random-items": f"{_PIVOTS}.random_items:RandomItems",
    "adv-n": f"{_PIVOTS}.adv_n:AdvN",
    "adv-pi": f"{_PIVOTS}.adv_pi:AdvPI",
    "nat-i": f"{_PIVOTS}.nat_i:NatI",
    "several": f"{_PIVOTS}.several:Several",
    "poisoned-training": f"{_PIVOTS}.poisoned_training:PoisonedTraining",
}

COUNTERMOVES = {
    "none": f"{_COUNTERMEASURES}.none:NoReply",
    "back-off": f"{_COUNTERMEASURES}.back_off:BackOff",
    "adversarial-training": f"{_COUNTERMEASURES}.adversarial_training:AdversarialTraining",
    "outliers": f"{_COUNTERMEASURES}.outliers:Outliers",
    "detector": f"{_COUNTERMEASURES}.detector:Detector",
    "self-training": f"{_COUNTERMEASURES}.self_training:SelfTrained",
    "jpeg": f"{_COUNTERMEASURES}.jpeg:Jpeg",
    "mu-law": f"{_COUNTERMEASURES}.mu_law:MuLaw",
    "low-pass": f"{_COUNTERMEASURES}.low_pass:LowPass",
}

MODELS = {
    "majority-vote": f"{_PROFILERS}.majority_vote:MajorityVote",
    "deep-sets": f"{_PROFILERS}.deep_sets:DeepSets",
    "set-transformer": f"{_PROFILERS}.set_transformer:SetTransformer",
    "att-mil": f"{_PROFILERS}.att_mil:AttMil",
    "gru": f"{_PROFILERS}.gru:Gru",
}

METHODS = Methods("profiles", {"move": MOVES, "countermove": COUNTERMOVES, "model": MODELS, "data": DATA})
