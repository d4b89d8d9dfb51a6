"""Image searches on disk: the index, what it learned, and the facts by which it is known again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from countermove.errors import DataError, RunError
from countermove.nets.weights import load_weights, save_weights
from countermove.pixels.decode import words
from countermove.retrieval.backbone import Describer, read_backbone
from countermove.retrieval.engine import Index
from countermove.retrieval.indexes.neural import Neural, NeuralEngine, NeuralIndex, Sight
from countermove.retrieval.seeing import SHRINKING
from countermove.retrieval.trained import nothing, rooms
from countermove.retrieval.whitening import Whitening

FACTS, BACKBONE, WHITENING = "search.json", "backbone.safetensors", "whitening.safetensors"
FORMAT = 1


def save_learned(index: Index, held: Path) -> None:
    """Write the weights and the whitening of a neural index beside it; weights from elsewhere stay where they are."""
    if not isinstance(index, NeuralIndex):
        return
    engine = index.engine
    if read_backbone(engine.settings.backbone, "engine neural")[1].stored:
        save_weights(engine.network.network, held / BACKBONE)
    white = engine.network.whitening
    if white is not None:
        parts = {"mean": white.mean, "projection": white.projection}
        save_file({name: part.cpu().contiguous() for name, part in parts.items()}, held / WHITENING)


def opened_neural(method: Neural, held: Path, facts: dict[str, Any], device: str) -> NeuralIndex:
    """Return a neural index on the weights that lie beside it, or on the same ones from elsewhere."""
    backbone: Any = read_backbone(method.backbone, "engine neural")[1]
    if backbone.stored:
        backbone = replace(backbone, side=facts["side"])
    describer: Describer = backbone.blank(nothing(), seed=facts["seed"])
    if backbone.stored:
        load_weights(describer, held / BACKBONE)
    sight = Sight(describer.eval(), method.scales, method.longest)
    if method.whitening != "none":
        try:
            parts = load_file(held / WHITENING)
            sight.whitening = Whitening(parts["mean"], parts["projection"])
        except (OSError, SafetensorError, KeyError) as error:
            raise DataError(f"{held / WHITENING} is broken: {error}. Build the index again") from None
    return NeuralEngine(method, sight, device=device).load(held)


def seeing(longest: int) -> dict[str, Any]:
    """Return how pictures are read and shown: what descriptors depend on beside the engine."""
    return {"longest": longest, "shrinking": SHRINKING, "rooms": rooms()}


def earlier_saves(folder: Path) -> list[Path]:
    """Return what an earlier save holds.

    Raises:
        RunError: when the folder has other things, or cannot be used.
    """
    try:
        there = list(folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise RunError(f"{folder} cannot be used: {words(error)}. Choose another folder") from None
    if there and not (folder / FACTS).is_file():
        raise RunError(f"{folder} holds {there[0].name} and no index; choose a new folder")
    return [path for path in there if path.is_dir() and path.name.startswith("index-") and not path.is_symlink()]


def read_search(folder: Path) -> dict[str, Any]:
    """Return the facts of a save.

    Raises:
        DataError: when there is none, it is broken, or has another format.
    """
    try:
        facts = json.loads((folder / FACTS).read_bytes())
    except OSError as error:
        raise DataError(f"{folder} holds no index ({FACTS}: {words(error)})") from None
    except ValueError:
        facts = None
    form = facts.get("format") if isinstance(facts, dict) else None
    if form not in (None, FORMAT):
        raise DataError(f"{folder / FACTS} has the format {form!r}; this version reads {FORMAT}. Build the index again")
    if not isinstance(facts, dict) or form is None or not _whole(facts):
        raise DataError(f"{folder / FACTS} is broken. Build the index again")
    return {**facts, "longest": facts["seeing"]["longest"]}


def _whole(facts: dict[str, Any]) -> bool:
    """Whether everything is there and of its kind."""
    kinds: dict[str, type | tuple[type, ...]] = {"engine": str, "pictures": str, "seeing": dict, "held": str}
    kinds |= {"data": (str, type(None)), "seed": int, "side": int, "ids": list}
    if not all(isinstance(facts.get(name, ...), kind) for name, kind in kinds.items()):
        return False
    names, longest, held = facts["ids"], facts["seeing"].get("longest"), facts["held"]
    plain = all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    return plain and isinstance(longest, int) and held.startswith("index-") and Path(held).name == held
