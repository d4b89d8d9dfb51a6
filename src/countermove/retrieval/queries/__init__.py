"""Moves of the retrieval arena, one file each; by name, without importing them."""

_HERE = "countermove.retrieval.queries"

QUERIES = {
    "none": f"{_HERE}.none:NoChange",
    "noise": f"{_HERE}.noise:MatchedNoise",
    "pire": f"{_HERE}.pire:Pire",
    "pire-final": f"{_HERE}.pire_final:PireFinal",
    "universal": f"{_HERE}.universal:Universal",
    "targeted": f"{_HERE}.targeted:Targeted",
}
