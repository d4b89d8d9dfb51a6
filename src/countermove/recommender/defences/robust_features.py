"""Adversarial training of the extractor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.finetuning.adaptation import check_adaptation
from countermove.pixels.balls import check_radius
from countermove.recommender.defence import Plan, check_examples
from countermove.recommender.extractor import Extractor
from countermove.recommender.fitting import Fitted, GoesOn, Material, RankerMethod


@dataclass(frozen=True, kw_only=True)
class RobustFeatures:
    """Extractor trained adversarially, the ranker fitted on its features, Madry et al. 2018, arXiv:1706.06083.

    eps:        L-infinity radius of the training's adversary (PGD, 5 steps).
    adaptation: full, critical-layers, mask, lora or bitfit, spelled with settings: the plain extractor is fine-tuned
                against the adversary by AdamW, all of it or little, for as many epochs as it was trained; see the arena
                tasks. Empty: a fresh one is trained.
    examples:   pictures of items with a history that it is fine-tuned on at most, chosen by id; 0: all.

    What a fine-tuning changes stands beside the plain extractor. The ranker is fitted anew either way, in the place of
    the one that was there.
    """

    version: ClassVar[int] = 1
    keyed_when_set: ClassVar[tuple[str, ...]] = ("adaptation", "examples")
    eps: float = 8 / 255
    adaptation: str = ""
    examples: int = 0

    def __post_init__(self) -> None:
        if self.adaptation:
            object.__setattr__(self, "adaptation", check_adaptation(self.adaptation))
        check_examples(self.examples, self.adaptation, "robust-features")
        check_radius(self.eps, norm="linf")
        if not self.eps:
            raise ConfigError("countermove 'robust-features': eps = 0 trains as ever; give a radius like 8/255")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan; lists are made as ever, from another ranker."""
        return plan

    def refit(self, model: RankerMethod) -> RankerMethod:
        """Return the model on robust features.

        Raises:
            ConfigError: when the model has no extractor of ours, or goes on from a ranker on plain features.
        """
        if isinstance(model, GoesOn):
            raise ConfigError("amr with an adaptation goes on from a ranker on plain features; take it alone")
        extractor = model.extractor()
        if extractor is None or extractor.pretrained:
            raise ConfigError("countermove 'robust-features' needs a model with an extractor that is trained here")
        robust = replace(extractor, adversary=self.eps, adaptation=self.adaptation, examples=self.examples)
        return _OnRobustFeatures(model, robust)


@dataclass(frozen=True)
class _OnRobustFeatures:
    """A ranker method that names another extractor."""

    version: ClassVar[int] = 1
    model: RankerMethod
    robust: Extractor

    def extractor(self) -> Extractor:
        return self.robust

    def fit(self, material: Material) -> Fitted:
        return self.model.fit(material)
