"""Backbones outside of runs: trained on a collection's public pictures once, and kept in the cache folder."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from countermove import learning, nets, pixels, retrieval
from countermove.errors import ConfigError, RunError, WeightsError
from countermove.game.cell import digest
from countermove.game.content import cache_folder
from countermove.game.methods import Composition
from countermove.learning.checkpoint import Checkpoint
from countermove.nets.weights import load_weights, save_weights
from countermove.pixels.decode import words
from countermove.retrieval.backbone import Describer, identity, read_backbone
from countermove.retrieval.collection import Collection, Wanted
from countermove.retrieval.methods import METHODS

Watch = Callable[[str, int, int], None]
"""Told what is being done, and how many pictures of how many are through with it."""

CACHE = "backbones"


def data_of(data: str | None) -> Composition | None:
    """Return the collection that was asked for, not yet opened.

    Raises:
        ConfigError: when it is unknown, or several.
    """
    if data is None:
        return None
    known = METHODS.compose("data", data)
    if len(known.parts) != 1:
        raise ConfigError(f"data {data!r} is refused: name one collection")
    return known


def rooms() -> dict[str, Any]:
    """Return the versions of what pictures and descriptors depend on."""
    return {
        "pixels": pixels.VERSION,
        "learning": learning.VERSION,
        "nets": nets.VERSION,
        "retrieval": retrieval.VERSION,
    }


def trained_describer(
    name: str,
    known: Composition | None,
    collection: Collection,
    *,
    seed: int,
    device: str = "cpu",
    watch: Watch = lambda *_: None,
) -> Describer:
    """Return a backbone that is ready.

    Args:
        name: canonically spelled.
        known: the collection as it is spelled; None where the backbone has weights from elsewhere.
        collection: the same, opened; see `nothing`.
        seed: of the training.
        device: where it is trained.
        watch: told about the training.

    Raises:
        ConfigError: when it cannot be trained on pictures.
        DataError, WeightsError: when the public pictures do not do, or weights cannot be read.
        RunError: when the cache cannot be written.
    """
    _, backbone = read_backbone(name, "backbone")
    if not backbone.stored:
        return backbone.blank(collection, seed=seed).eval()
    assert known is not None, "refused beforehand"
    recipe = getattr(backbone, "recipe", None)
    if recipe is None:
        backbone.fit(collection, seed=seed, device=device, checkpoint=None)  # says why not
        raise ConfigError(f"the backbone {name} is not trained on pictures; name another one, such as plain")
    key = digest({"rooms": rooms(), "backbone": identity(name), "data": known.identity(), "seed": seed})
    path = _cached(key)
    describer = backbone.blank(collection, seed=seed)
    with suppress(WeightsError):  # absent or broken: it is trained anew
        load_weights(describer, path)
        return describer.eval()
    shown, epochs = len(collection.public), recipe().epochs
    checkpoint = _Told(
        path.with_suffix(".training"), tell=lambda epoch: watch(f"training {name}", epoch * shown, epochs * shown)
    )
    checkpoint.tell(0)
    describer, _ = backbone.fit(collection, seed=seed, device=device, checkpoint=checkpoint)
    _keep(describer, path)
    checkpoint.path.unlink(missing_ok=True)
    return describer.eval()


def nothing() -> Collection:
    """Return a collection that teaches nothing: one black picture, for engines and backbones that learn nothing."""
    one, none = torch.tensor([0]), torch.zeros(0, dtype=torch.int64)
    return Collection(
        name="nothing",
        pictures=[torch.zeros(3, 64, 64, dtype=torch.uint8)],
        ids=("black",),
        indexed=one,
        queries=one,
        boxes=(None,),
        wanted={"": (Wanted(positive=one),)},
        public=none,
        public_labels=none,
    )


@dataclass
class _Told(Checkpoint):
    """A checkpoint that says after every epoch how many are done."""

    tell: Callable[[int], None] = field(default=lambda _: None)

    def save_if_due(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> bool:
        self.tell(len(facts["accuracy"]))
        return super().save_if_due(tensors, facts)


def _cached(key: str) -> Path:
    folder = cache_folder() / CACHE
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{folder} cannot be made: {words(error)}; backbones that were trained are kept there. Make it writable, "
            "or let COUNTERMOVE_CACHE name another folder"
        ) from None
    return folder / f"{key}.safetensors"


def _keep(describer: Describer, path: Path) -> None:
    """Write weights whole or not at all."""
    temporary = path.with_name(f".{path.stem[:16]}.{secrets.token_hex(8)}.tmp")
    try:
        save_weights(describer, temporary)
        temporary.replace(path)
    except (SafetensorError, OSError) as error:
        temporary.unlink(missing_ok=True)
        raise RunError(f"{path} cannot be written: {words(error)}; make room and run the same command again") from error
