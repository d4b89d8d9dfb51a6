"""The whole network trained on the gallery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from countermove.errors import ConfigError
from countermove.faces.extractor import Extractor, Trained, read_extractor
from countermove.faces.losses import fresh_head
from countermove.faces.naming import Named
from countermove.faces.recogniser import Material, Recognised
from countermove.learning.loop import train
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import EVALUATION_BATCH, Examples, place, to_model
from countermove.pixels.randomness import generator
from countermove.pixels.steps import frozen


@dataclass(frozen=True, kw_only=True)
class EndToEnd:
    """A classifier of the gallery's people, all layers trained from the extractor on, Radiya-Dixit et al. 2022.

    Softmax over the people behind the extractor; crop and flip, cross-entropy, SGD under a cosine schedule. One
    training serves several movers, who cloak at the same time: with `together` of them in each, everybody else's photos
    are clean, and they alone are the others whose accuracy is counted.

    extractor: as for nearest.
    together:  movers in one training, at most half of them; 1 is the paper's, at as many trainings as there are movers.
    epochs, lr: of the training.

    Differs from the paper: it trains 5,000 batches of 32, drawn uniformly over identities, with Keras's Adadelta, one
    mover at a time.
    """

    version: ClassVar[int] = 1
    extractor: str = "plain"
    together: int = 10
    epochs: int = 10
    lr: float = 0.05

    def __post_init__(self) -> None:
        object.__setattr__(self, "extractor", self.features()[0])
        if min(self.together, self.epochs) < 1 or self.lr <= 0:
            raise ConfigError("model 'end-to-end': together, epochs and lr are above 0")

    def features(self) -> tuple[str, Extractor]:
        """Return its extractor."""
        return read_extractor(self.extractor, "model 'end-to-end'")

    def recognise(self, material: Material) -> Recognised:
        """Name the test photos in every mover's world."""
        movers = material.views.movers
        order = torch.randperm(movers, generator=generator(material.seed, "who moves together"))
        clean, sure, seen = self._trained(material, torch.zeros(0, dtype=torch.int64))
        worlds = torch.empty(len(clean), movers, dtype=torch.int64)
        similarity = torch.empty(len(clean), movers)
        together = torch.zeros(movers, movers, dtype=torch.bool)
        for group in order.split(max(1, min(self.together, movers // 2))):  # somebody must be left who does not move
            names, best, samples = self._trained(material, group)
            worlds[:, group], similarity[:, group] = names[:, None], best[:, None]
            together[group[:, None], group] = True
            seen += samples
        dim = material.views.clean.shape[1]
        named = Named(worlds=worlds, similarity=similarity, clean=clean, sure=sure, together=together)
        tuned = sum(parameter.numel() for parameter in material.copy().parameters())
        return Recognised(named=named, samples=seen, parameters=movers * dim, tuned=tuned)

    def _trained(self, material: Material, group: Tensor) -> tuple[Tensor, Tensor, int]:
        """Return names [T], their probabilities [T] and the passes of a training in which a group cloaks."""
        views, photos = material.views, material.photos
        cloaked = torch.isin(views.owner, group)[:, None, None, None]
        embedder = material.copy().requires_grad_(True)
        model = Trained(embedder, fresh_head(views.movers, embedder.dim, "softmax", material.seed, "end to end"))
        examples = Examples(pictures=torch.where(cloaked, photos.moved, photos.clean), labels=views.owner)
        few = Examples(pictures=examples.pictures[:1], labels=examples.labels[:1])
        log = train(
            model,
            examples,
            few,
            recipe=Recipe(epochs=self.epochs, lr=self.lr),
            seed=material.seed,
            classes=views.movers,
            device=material.device,
        )
        with frozen(place(model, material.device)), torch.no_grad():
            parts = [model(to_model(p, material.device)).float().cpu() for p in photos.tests.split(EVALUATION_BATCH)]
        best = torch.cat(parts).softmax(1).max(1)
        return best.indices, best.values, log.samples
