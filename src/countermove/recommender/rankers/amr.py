"""AMR: VBPR with an adversary in its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from countermove.errors import ConfigError, did_you_mean
from countermove.recommender.extractor import Extractor, Labels
from countermove.recommender.fitting import Fitted, Material
from countermove.recommender.visual_bpr import Settings, check_settings, fit_visual_bpr

Adversary = Literal["features", "parameters"]


@dataclass(frozen=True, kw_only=True)
class Amr:
    """Adversarial multimedia recommendation, Tang et al. 2019, arXiv:1809.07062.

    VBPR's preference; every step also ranks the pairs after an adversary changed them to raise the loss.

    adversary:  what it changes: the "features" of both items of a pair, each along its own gradient (the AMR paper);
                or all "parameters", each row along its own (thesis Eq. 2.10).
    eps:        length of a change, in mean lengths of what is changed.
    weight:     lambda of the adversarial loss (both papers: 1).
    features, labels, groups, feature_epochs, factors, visual, epochs, lr, reg, batch_size: as in `vbpr`.

    Differs from the code released with the thesis, whose one change cancels between the two items of a pair, and from
    Cornac's, which adds a gradient of the wrong sign without a radius. Trained from the start, not from a fitted VBPR.
    """

    version: ClassVar[int] = 1
    features: str = "small-pooled"
    labels: Labels = "taste"
    groups: int = 8
    feature_epochs: int = 15
    factors: int = 32
    visual: int = 32
    epochs: int = 20
    lr: float = 0.005
    reg: float = 0.001
    batch_size: int = 1024
    adversary: Adversary = "features"
    eps: float = 0.1
    weight: float = 1.0

    def __post_init__(self) -> None:
        known = ("features", "parameters")
        if self.adversary not in known:
            raise ConfigError(f"unknown adversary {self.adversary!r}; {did_you_mean(self.adversary, known)}")
        positive = ("factors", "visual", "epochs", "lr", "batch_size", "weight")
        check_settings("amr", {name: getattr(self, name) for name in positive}, {"reg": self.reg, "eps": self.eps})
        self.extractor()

    def extractor(self) -> Extractor:
        """Return whose features it sees."""
        return Extractor(network=self.features, labels=self.labels, groups=self.groups, epochs=self.feature_epochs)

    def settings(self) -> Settings:
        """Return how it is learned."""
        return Settings(
            factors=self.factors,
            visual=self.visual,
            epochs=self.epochs,
            lr=self.lr,
            reg=self.reg,
            batch_size=self.batch_size,
            eps=self.eps,
            weight=self.weight,
            on_parameters=self.adversary == "parameters",
        )

    def fit(self, material: Material) -> Fitted:
        """Learn factors and looks against the adversary."""
        return fit_visual_bpr(material, self.settings())
