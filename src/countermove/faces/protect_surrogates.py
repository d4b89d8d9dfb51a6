"""The extractors that `protect` makes cloaks on: which they are, and their weights, trained once and kept.

Legend: N photos, S side of a crop.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from countermove import faces, learning, nets, pixels
from countermove.errors import ConfigError, RunError, WeightsError
from countermove.faces.alignment import TEMPLATE_SIDE
from countermove.faces.cloak import CloakContext, Ensemble
from countermove.faces.extractor import TARGET, Embedder, embed, identity, public_examples, read_extractor
from countermove.faces.gallery import Faces
from countermove.faces.methods import METHODS
from countermove.game.cell import digest
from countermove.game.content import cache_folder
from countermove.game.methods import Composition
from countermove.game.spelling import parse_value
from countermove.learning.checkpoint import Checkpoint
from countermove.nets.weights import load_weights, save_weights
from countermove.pixels.decode import words

Watch = Callable[[str, int, int], None]
"""Told what is being done, and how many pictures of how many are through with it."""

CACHE = "extractors"
_PAIRS_OF = 400
"""Photos whose pairs say how far people are apart."""


@dataclass(frozen=True, kw_only=True)
class Surrogates:
    """The extractors of a cloak, before anything is read or trained.

    composition: the cloak, made on them.
    names:       canonical spellings in the cloak's order; one may stand there twice.
    known:       the face set on whose public people small ones are trained; None where none was given.
    seed:        of their training and of the cloak.
    """

    composition: Composition
    names: tuple[str, ...]
    known: Composition | None
    seed: int
    device: str

    @classmethod
    def of(cls, composition: Composition, *, model: str | None, data: str | None, seed: int, device: str) -> Surrogates:
        """Put the model and the data that were asked for into a cloak.

        Raises:
            ConfigError: when they do not fit it, or one is missing.
        """
        if composition.is_none:
            raise ConfigError("none changes nothing, so it protects nobody; name a cloak, such as lowkey or fawkes")
        composition = with_model(composition, model)
        (part,) = composition.parts
        names = part.method.surrogates()
        if TARGET in names:
            raise ConfigError(
                f"{part.name!r} is made on the trainer's own extractor ({TARGET}), which nobody knows who protects "
                "photos; give another one, such as --model plain --data lfw"
            )
        trained = [name for name in dict.fromkeys(names) if read_extractor(name, part.name)[1].stored]
        if data is None and trained:
            raise ConfigError(
                f"{part.name!r} is made on small extractors that must be trained on faces first "
                f"({', '.join(trained)}); say on which: --data lfw, or another set of `countermove ls data --arena "
                "faces`. Or take a network with public weights: --model 'public(weights=facenet-vggface2)'"
            )
        if data is None and part.method.sees == "others":
            raise ConfigError(
                f"{part.name!r} makes people look like others; say where these are from: --data lfw, or another set "
                "of `countermove ls data --arena faces`"
            )
        if data is not None and not names:
            raise ConfigError(f"{part.name!r} uses no extractor and no other people; leave --data out")
        known = None if data is None else METHODS.compose("data", data)
        if known is not None and len(known.parts) != 1:
            raise ConfigError(f"data {data!r} is refused: name one face set")
        return cls(composition=composition, names=names, known=known, seed=seed, device=device)

    def identity(self) -> dict[str, Any]:
        """Return what the cloaks' bytes depend on beside the method's settings; files are hashed."""
        found: dict[str, Any] = {"extractors": [identity(name) for name in dict.fromkeys(self.names)]}
        return found if self.known is None else {**found, "data": self.known.identity()}

    def open(self, watch: Watch) -> Opened:
        """Read or train all of them.

        Raises:
            DataError, WeightsError: when the face set or weights from elsewhere cannot be read.
            RunError: when the cache cannot be written.
        """
        known: Faces | None = None if self.known is None else self.known.method()
        embedders = {name: self._embedder(name, known, watch) for name in dict.fromkeys(self.names)}
        sides = {name: int(getattr(e, "side", 0)) or (known.side if known else 0) for name, e in embedders.items()}
        side = max(sides.values(), default=TEMPLATE_SIDE)
        return Opened(
            by_name={name: e if sides[name] == side else Resized(e, sides[name]) for name, e in embedders.items()},
            names=self.names,
            networks=tuple(read_extractor(name, "protect")[1].network for name in self.names),
            known=known,
            side=side,
            seed=self.seed,
            device=self.device,
        )

    def _embedder(self, name: str, known: Faces | None, watch: Watch) -> Embedder:
        _, extractor = read_extractor(name, "protect")
        if not extractor.stored:
            # weights from elsewhere; nothing of a face set enters, so any will do
            return extractor.blank(_NOBODY if known is None else known, seed=self.seed).eval()
        assert known is not None, "refused beforehand"
        path = _cached(digest({**_rooms(), "extractor": identity(name), "data": self._data(), "seed": self.seed}))
        embedder = extractor.blank(known, seed=self.seed)
        with suppress(WeightsError):  # absent or broken: it is trained anew
            load_weights(embedder, path)
            return embedder.eval()
        shown = len(public_examples(known, getattr(extractor, "people", "all"))[0])
        checkpoint = _Told(
            path.with_suffix(".training"),
            tell=lambda epoch: watch(f"training {name}", epoch * shown, extractor.recipe().epochs * shown),
        )
        checkpoint.tell(0)
        embedder, _ = extractor.fit(known, seed=self.seed, device=self.device, checkpoint=checkpoint)
        _keep(embedder, path)
        checkpoint.path.unlink(missing_ok=True)
        return embedder.eval()

    def _data(self) -> dict[str, Any]:
        assert self.known is not None, "only asked where there are data"
        return self.known.identity()


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Extractors that are ready.

    side: S of the crops; an extractor of another side resizes them for itself.
    """

    by_name: dict[str, nn.Module]
    names: tuple[str, ...]
    networks: tuple[str, ...]
    known: Faces | None
    side: int
    seed: int
    device: str

    @cached_property
    def context(self) -> CloakContext:
        """Return what a cloak may use."""
        context = CloakContext(
            embedders=tuple(self.by_name[name] for name in self.names),
            names=self.networks,
            seed=self.seed,
            device=self.device,
        )
        if self.known is None:
            return context
        public = self.known.public
        return replace(
            context,
            others=self.known.photos[public],
            other_people=self.known.person[public],
            other_names=self.known.people,
        )

    @cached_property
    def gray_context(self) -> CloakContext:
        """Return the same with extractors that see no colours, so that cloaks for gray photos use none."""
        return replace(self.context, embedders=tuple(Colourless(embedder) for embedder in self.context.embedders))

    def features(self, crops: Tensor) -> Tensor:
        """Return the features of 8-bit crops by all extractors, side by side."""
        return embed(Ensemble(list(self.by_name.values())), crops, device=self.device)

    def distances(self, features: Tensor, reference: Tensor) -> Tensor:
        """Return squared distances, mean over extractors: 0 for the same face, 2 for nothing in common, at most 4."""
        return (features - reference).square().sum(1) / len(self.by_name)

    def apart(self) -> float | None:
        """Return the distance at which the extractors confuse as many photos of one person as of two.

        Of the movers of the face set, whom no small extractor was trained on. None without a face set.
        """
        if self.known is None or not self.by_name:
            return None
        rows = (self.known.number[self.known.person] >= 0).nonzero().flatten()
        rows = rows[torch.linspace(0, len(rows) - 1, min(len(rows), _PAIRS_OF)).long()]
        features, who = self.features(self.known.photos[rows]), self.known.person[rows]
        one, other = torch.triu_indices(len(rows), len(rows), 1)
        far = self.distances(features[one], features[other])
        return equal_error(far[who[one] == who[other]], far[who[one] != who[other]])


def equal_error(same: Tensor, different: Tensor) -> float | None:
    """Return the threshold over which as large a share of the one lies as of the other lies under it."""
    if not len(same) or not len(different):
        return None
    values = torch.cat([same, different]).sort().values
    missed = 1 - torch.searchsorted(same.sort().values, values, right=True) / len(same)
    confused = torch.searchsorted(different.sort().values, values, right=True) / len(different)
    return float(values[(missed - confused).abs().argmin()])


def with_model(composition: Composition, model: str | None) -> Composition:
    """Put other extractors into a cloak.

    Raises:
        ConfigError: when it uses none, names its own, or one is unknown.
    """
    if model is None:
        return composition
    (part,) = composition.parts
    if not hasattr(part.method, "extractors"):
        advice = "name them in its cloaks" if part.method.surrogates() else "leave --model out"
        raise ConfigError(f"{part.name!r} has no extractors of its own; {advice}")
    read = parse_value(model)
    asked = tuple(map(str, read)) if isinstance(read, list) else (model,)
    method = replace(part.method, extractors=asked)
    named = part.method.extractors
    if named not in (method.extractors, type(part.method)().extractors):
        raise ConfigError(f"the extractors are given twice: as {list(named)} and as --model {model!r}; keep one")
    return Composition((replace(part, method=method),))


class Resized(nn.Module):
    """An embedder that was trained at another side than that of the crops."""

    def __init__(self, embedder: nn.Module, side: int) -> None:
        """Keep both."""
        super().__init__()
        self.embedder, self.own = embedder, side

    def forward(self, photos: Tensor) -> Tensor:
        """Resize and embed."""
        size = (self.own, self.own)
        return self.embedder(F.interpolate(photos, size, mode="bilinear", antialias=True, align_corners=False))


class Colourless(nn.Module):
    """An embedder of photos without colours: every channel becomes the mean of the three."""

    def __init__(self, embedder: nn.Module) -> None:
        """Keep it."""
        super().__init__()
        self.embedder = embedder

    def forward(self, photos: Tensor) -> Tensor:
        """Take the colours away and embed."""
        return self.embedder(photos.mean(1, keepdim=True).expand_as(photos))


@dataclass
class _Told(Checkpoint):
    """A checkpoint that says after every epoch how many are done."""

    tell: Callable[[int], None] = field(default=lambda _: None)

    def save_if_due(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> bool:
        self.tell(len(facts["accuracy"]))
        return super().save_if_due(tensors, facts)


_NOBODY = Faces(
    name="nobody",
    people=(),
    photos=torch.zeros(0, 3, TEMPLATE_SIDE, TEMPLATE_SIDE, dtype=torch.uint8),
    person=torch.zeros(0, dtype=torch.int64),
    ids=(),
    movers=torch.zeros(0, dtype=torch.int64),
    test=torch.zeros(0, dtype=torch.bool),
)


def _rooms() -> dict[str, Any]:
    return {
        "rooms": {
            "pixels": pixels.VERSION,
            "learning": learning.VERSION,
            "nets": nets.VERSION,
            "faces": faces.VERSION,
        }
    }


def _cached(key: str) -> Path:
    folder = cache_folder() / CACHE
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{folder} cannot be made: {words(error)}; extractors that were trained are kept there. Make it writable, "
            "or let COUNTERMOVE_CACHE name another folder"
        ) from None
    return folder / f"{key}.safetensors"


def _keep(embedder: Embedder, path: Path) -> None:
    """Write weights whole or not at all."""
    temporary = path.with_name(f".{path.stem[:16]}.{secrets.token_hex(8)}.tmp")
    try:
        save_weights(embedder, temporary)
        temporary.replace(path)
    except (SafetensorError, OSError) as error:
        temporary.unlink(missing_ok=True)
        raise RunError(f"{path} cannot be written: {words(error)}; make room and run the same command again") from error
