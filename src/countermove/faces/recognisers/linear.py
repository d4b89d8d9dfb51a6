"""A linear classifier on features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from countermove.errors import ConfigError
from countermove.faces.extractor import Extractor, read_extractor
from countermove.faces.naming import Named
from countermove.faces.recogniser import Material, Recognised


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Multinomial logistic regression on standardised features, Radiya-Dixit et al. 2022, arXiv:2106.14851.

    Fitted anew in every mover's world, each time from the solution of the clean world: the problem is strictly convex,
    so where it starts does not matter, only how long it takes.

    extractor: as for nearest.
    c:         inverse strength of the L2 penalty (scikit-learn's C; paper: 1).
    most:      iterations of L-BFGS. The paper's code stops at 100 and silences the warning that it has not converged.
    """

    version: ClassVar[int] = 1
    extractor: str = "plain"
    c: float = 1.0
    most: int = 500

    def __post_init__(self) -> None:
        object.__setattr__(self, "extractor", self.features()[0])
        if self.c <= 0 or self.most < 1:
            raise ConfigError(f"model 'linear': c = {self.c}, most = {self.most} is refused: both are above 0")

    def features(self) -> tuple[str, Extractor]:
        """Return its extractor."""
        return read_extractor(self.extractor, "model 'linear'")

    def recognise(self, material: Material) -> Recognised:
        """Name the test photos in every mover's world."""
        views = material.views
        start, clean, sure = self._fit(views.world(-1), views.owner, views.tests, None)
        worlds = [self._fit(views.world(m), views.owner, views.tests, start)[1:] for m in range(views.movers)]
        named = Named(
            worlds=torch.stack([names for names, _ in worlds], dim=1),
            similarity=torch.stack([best for _, best in worlds], dim=1),
            clean=clean,
            sure=sure,
        )
        return Recognised(named=named, parameters=np.size(start.coef_) + np.size(start.intercept_))

    def _fit(
        self, gallery: Tensor, owner: Tensor, tests: Tensor, start: LogisticRegression | None
    ) -> tuple[LogisticRegression, Tensor, Tensor]:
        scaler = StandardScaler().fit(gallery.double().numpy())
        model = LogisticRegression(C=self.c, max_iter=self.most, warm_start=True)
        if start is not None:
            model.coef_, model.intercept_, model.classes_ = (
                np.copy(start.coef_),
                np.copy(start.intercept_),
                start.classes_,
            )
        model.fit(scaler.transform(gallery.double().numpy()), owner.numpy())
        chances = np.asarray(model.predict_proba(scaler.transform(tests.double().numpy())))
        return model, torch.from_numpy(chances.argmax(1)), torch.from_numpy(chances.max(1)).float()
