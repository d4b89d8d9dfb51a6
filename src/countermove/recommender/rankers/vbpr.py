"""VBPR: item factors and looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from countermove.recommender.extractor import Extractor, Labels
from countermove.recommender.fitting import Fitted, Material
from countermove.recommender.visual_bpr import Settings, check_settings, fit_visual_bpr


@dataclass(frozen=True, kw_only=True)
class Vbpr:
    """Visual Bayesian personalised ranking, He and McAuley 2016, arXiv:1510.01784.

    p_ui = item bias + user . item factors + theta_u . (E phi(x_i)) + beta' . phi(x_i); thesis Eq. 2.2 to 2.4.

    features, labels, groups, feature_epochs: whose features phi are, see `Extractor`.
    factors:    length of the item factors (paper: 100).
    visual:     length of theta (paper: 100); shorter ones are easier to attack (thesis Fig. 2.5).
    epochs:     the one that validates best is kept.
    lr, reg:    of Adam, and the weight decay of the rows of a triple (thesis: a grid search).
    batch_size: triples a step.

    Differs from the released code: its loss is not -ln sigmoid (it learns least from the worst pairs), its E starts
    constant and double, and it cannot score as published. Cold items have no factors and no bias here, rather than
    what their random start gave. Features are centred and brought to a mean square of one first, and E and beta' do
    not decay: with their decay, item factors that have seen every film leave nothing for the pictures to say.
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

    def __post_init__(self) -> None:
        positive = {name: getattr(self, name) for name in ("factors", "visual", "epochs", "lr", "batch_size")}
        check_settings("vbpr", positive, {"reg": self.reg})
        self.extractor()

    def extractor(self) -> Extractor:
        """Return whose features it sees."""
        return Extractor(network=self.features, labels=self.labels, groups=self.groups, epochs=self.feature_epochs)

    def fit(self, material: Material) -> Fitted:
        """Learn factors and looks."""
        settings = Settings(
            factors=self.factors,
            visual=self.visual,
            epochs=self.epochs,
            lr=self.lr,
            reg=self.reg,
            batch_size=self.batch_size,
        )
        return fit_visual_bpr(material, settings)
