"""The backbones that `protect` makes queries on: which they are, and their weights, trained once and kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.game.methods import Composition
from countermove.game.spelling import parse, parse_value
from countermove.retrieval.backbone import TARGET, describe, identity, read_backbone
from countermove.retrieval.collection import Collection
from countermove.retrieval.methods import METHODS, MODELS
from countermove.retrieval.query import PUBLIC_SEEN, QueryContext
from countermove.retrieval.seeing import Seen
from countermove.retrieval.trained import Watch, data_of, nothing, trained_describer

_SETS = "`countermove ls data --arena retrieval`"


@dataclass(frozen=True, kw_only=True)
class Surrogates:
    """The backbones of a move, before anything is read or trained.

    composition: the move, made on them.
    names:       canonical spellings in the move's order; one may stand there twice.
    data, known: the collection on whose public pictures small ones are trained; None where none was given.
    seed:        of their training and of the move.
    longest:     they look at pictures shrunk to so many pixels.
    """

    composition: Composition
    names: tuple[str, ...]
    data: str | None
    known: Composition | None
    seed: int
    device: str
    longest: int

    @classmethod
    def of(
        cls,
        composition: Composition,
        *,
        model: str | None,
        data: str | None,
        seed: int,
        device: str,
        longest: int,
        compared: bool = False,
    ) -> Surrogates:
        """Put the model and the data that were asked for into a move.

        Args:
            composition: one move.
            model: backbones in place of its own.
            data: what they are trained on.
            seed: of all training and noise.
            device: where networks run.
            longest: of pictures as they are seen.
            compared: whether an engine may use the data for itself.

        Raises:
            ConfigError: when they do not fit the move, or one is missing.
        """
        if composition.is_none:
            raise ConfigError("none changes nothing, so it protects nobody; name a move, such as pire-final")
        composition = with_model(composition, model)
        (part,) = composition.parts
        names = part.method.surrogates()
        if TARGET in names:
            raise ConfigError(
                f"{part.name!r} is made on the engine's own backbone ({TARGET}), which nobody knows who protects "
                "queries; give another one, such as --model plain --data grocery"
            )
        trained = [name for name in dict.fromkeys(names) if read_backbone(name, part.name)[1].stored]
        if data is None and trained:
            raise ConfigError(
                f"{part.name!r} is made on small backbones that must be trained on pictures first "
                f"({', '.join(trained)}); say on which: --data grocery, or another one of {_SETS}. Or take a network "
                "with public weights: --model 'public(weights=\"torchvision:resnet50\")'"
            )
        if data is None and part.name in ("targeted", "universal"):
            raise ConfigError(
                f"{part.name!r} needs public pictures; say which: --data grocery, or another one of {_SETS}"
            )
        if data is not None and not names and not compared:
            raise ConfigError(f"{part.name!r} uses no backbone and no other pictures; leave --data out")
        return cls(
            composition=composition,
            names=names,
            data=data,
            known=data_of(data),
            seed=seed,
            device=device,
            longest=longest,
        )

    def identity(self) -> dict[str, Any]:
        """Return what the queries' bytes depend on beside the move's settings; files are hashed."""
        if not self.names:
            return {"backbones": []}
        found: dict[str, Any] = {"backbones": [identity(name) for name in dict.fromkeys(self.names)]}
        return found if self.known is None else {**found, "data": self.known.identity()}

    def open(self, watch: Watch) -> Opened:
        """Read or train all of them.

        Raises:
            DataError, WeightsError: when the collection or weights from elsewhere cannot be read.
            RunError: when the cache cannot be written.
        """
        if not self.names:
            return Opened(by_name={}, context=QueryContext(seed=self.seed, device=self.device))
        collection: Collection = nothing() if self.known is None else self.known.method()
        by_name = {}
        for name in dict.fromkeys(self.names):
            found = trained_describer(name, self.known, collection, seed=self.seed, device=self.device, watch=watch)
            by_name[name] = Seen(found, self.longest)
        context = QueryContext(
            networks=tuple(by_name[name] for name in self.names),
            public=[collection.pictures[row] for row in collection.public.tolist()],
            seed=self.seed,
            device=self.device,
        )
        return Opened(by_name=by_name, context=context)


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Backbones that are ready, and what a move may use."""

    by_name: dict[str, nn.Module]
    context: QueryContext

    def cosines(self, clean: Tensor, others: list[Tensor]) -> dict[str, list[float]]:
        """Return how like a picture uint8 [3, H, W] others of its shape are to each backbone: cosines."""
        found = {}
        for name, network in self.by_name.items():
            described = describe(network, [clean, *others], device=self.context.device)
            found[name] = (described[1:] @ described[0]).tolist()
        return found

    def strangers(self) -> dict[str, float]:
        """Return the mean cosine of two different public pictures to each backbone; empty where there are none."""
        some = self.context.public[:PUBLIC_SEEN]
        if len(some) < 2:
            return {}
        found = {}
        for name, network in self.by_name.items():
            described = describe(network, some, device=self.context.device)
            both = described @ described.T
            found[name] = float((both.sum() - both.trace()) / (len(some) * (len(some) - 1)))
        return found


def with_model(composition: Composition, model: str | None) -> Composition:
    """Put other backbones into a move.

    Args:
        composition: one move.
        model: a backbone, a list of them such as [plain, other], or an engine that looks through one.

    Raises:
        ConfigError: when the move uses none, names its own, or one is unknown.
    """
    if model is None:
        return composition
    (part,) = composition.parts
    if not hasattr(part.method, "backbones"):
        advice = "name them in its like" if part.method.surrogates() else "leave --model out"
        raise ConfigError(f"{part.name!r} has no backbones of its own; {advice}")
    read = parse_value(model)
    asked = tuple(map(str, read)) if isinstance(read, list) else (model,)
    method = replace(part.method, backbones=tuple(_backbone(name) for name in asked))
    named = part.method.backbones
    if named not in (method.backbones, type(part.method)().backbones):
        raise ConfigError(f"the backbones are given twice: as {list(named)} and as --model {model!r}; keep one")
    return Composition((replace(part, method=method),))


def _backbone(name: str) -> str:
    """Return the backbone of an engine, or the name as it is."""
    first = parse(name)[0]
    if first.name not in MODELS:
        return name
    looks = METHODS.compose("model", name).method.looks()
    if looks is None:
        raise ConfigError(f"the engine {name!r} looks through no backbone; give one that does, such as --model plain")
    return looks
