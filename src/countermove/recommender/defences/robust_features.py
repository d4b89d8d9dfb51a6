"""Adversarial training of the extractor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.pixels.balls import check_radius
from countermove.recommender.defence import Plan
from countermove.recommender.extractor import Extractor
from countermove.recommender.fitting import Fitted, Material, RankerMethod


@dataclass(frozen=True, kw_only=True)
class RobustFeatures:
    """Extractor trained adversarially, the ranker fitted on its features, Madry et al. 2018, arXiv:1706.06083.

    eps: L-infinity radius of the training's adversary (PGD, 5 steps).
    """

    version: ClassVar[int] = 1
    eps: float = 8 / 255

    def __post_init__(self) -> None:
        check_radius(self.eps, norm="linf")
        if not self.eps:
            raise ConfigError("countermove 'robust-features': eps = 0 trains as ever; give a radius like 8/255")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan; lists are made as ever, from another ranker."""
        return plan

    def refit(self, model: RankerMethod) -> RankerMethod:
        """Return the model on robust features.

        Raises:
            ConfigError: when the model has no extractor of ours.
        """
        extractor = model.extractor()
        if extractor is None or extractor.pretrained:
            raise ConfigError("countermove 'robust-features' needs a model with an extractor that is trained here")
        return _OnRobustFeatures(model, replace(extractor, adversary=self.eps))


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
