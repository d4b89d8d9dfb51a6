"""Every method of this arena, one line each. Listing them imports none."""

from __future__ import annotations

from countermove.game.methods import Methods
from countermove.nets.registry import MODELS
from countermove.unlearnable.data import DATA

_POISONS = "countermove.unlearnable.poisons"
_COUNTERMEASURES = "countermove.unlearnable.countermeasures"

MOVES = {
    "none": f"{_POISONS}.none:NoPoison",
    "error-minimizing": f"{_POISONS}.error_minimizing:ErrorMinimizing",
    "error-maximizing": f"{_POISONS}.error_maximizing:ErrorMaximizing",
    "random": f"{_POISONS}.random_noise:RandomNoise",
    "regions": f"{_POISONS}.regions:Regions",
    "linear-separable": f"{_POISONS}.linear_separable:LinearSeparable",
    "precomputed": f"{_POISONS}.precomputed:Precomputed",
}

COUNTERMOVES = {
    "none": f"{_COUNTERMEASURES}.none:NoCountermeasure",
    "gray": f"{_COUNTERMEASURES}.gray:Gray",
    "jpeg": f"{_COUNTERMEASURES}.jpeg:Jpeg",
    "bit-depth": f"{_COUNTERMEASURES}.bit_depth:BitDepth",
    "median": f"{_COUNTERMEASURES}.median:Median",
    "mean": f"{_COUNTERMEASURES}.mean:Mean",
    "gaussian": f"{_COUNTERMEASURES}.gaussian:Gaussian",
    "cutout": f"{_COUNTERMEASURES}.cutout:Cutout",
    "cutmix": f"{_COUNTERMEASURES}.cutmix:CutMix",
    "mixup": f"{_COUNTERMEASURES}.mixup:MixUp",
    "left-out": f"{_COUNTERMEASURES}.left_out:LeftOut",
}

METHODS = Methods("unlearnable", {"move": MOVES, "countermove": COUNTERMOVES, "model": MODELS, "data": DATA})
