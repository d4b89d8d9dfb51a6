"""Every method of this arena, one line each. Listing them imports none."""

from __future__ import annotations

from countermove.faces.data import DATA
from countermove.game.methods import Methods

_CLOAKS = "countermove.faces.cloaks"
_TRAINERS = "countermove.faces.trainers"
_RECOGNISERS = "countermove.faces.recognisers"

MOVES = {
    "none": f"{_CLOAKS}.none:NoCloak",
    "random-noise": f"{_CLOAKS}.random_noise:RandomNoise",
    "pgd": f"{_CLOAKS}.pgd:Pgd",
    "fawkes-0.3": f"{_CLOAKS}.fawkes_targeted:FawkesTargeted",
    "fawkes": f"{_CLOAKS}.fawkes:Fawkes",
    "lowkey": f"{_CLOAKS}.lowkey:LowKey",
    "opom": f"{_CLOAKS}.opom:Opom",
    "in-turn": f"{_CLOAKS}.in_turn:InTurn",
}

COUNTERMOVES = {
    "none": f"{_TRAINERS}.none:NoReply",
    "adaptive": f"{_TRAINERS}.adaptive:Adaptive",
    "top-2": f"{_TRAINERS}.top_2:Top2",
    "confidence": f"{_TRAINERS}.confidence:Confidence",
    "leaked": f"{_TRAINERS}.leaked:Leaked",
    "growing": f"{_TRAINERS}.growing:GrowingGallery",
    "jpeg": f"{_TRAINERS}.jpeg:Jpeg",
    "resize": f"{_TRAINERS}.resize:Resize",
    "noise": f"{_TRAINERS}.noise:GaussianNoise",
    "purifier": f"{_TRAINERS}.purifier:Purifier",
    "detector": f"{_TRAINERS}.detector:Detector",
}

MODELS = {
    "nearest": f"{_RECOGNISERS}.nearest:Nearest",
    "linear": f"{_RECOGNISERS}.linear:Linear",
    "end-to-end": f"{_RECOGNISERS}.end_to_end:EndToEnd",
}

METHODS = Methods("faces", {"move": MOVES, "countermove": COUNTERMOVES, "model": MODELS, "data": DATA})
