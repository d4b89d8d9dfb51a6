"""Adversarial training of the ranker."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.recommender.defence import Plan
from countermove.recommender.fitting import RankerMethod
from countermove.recommender.rankers.amr import Adversary, Amr
from countermove.recommender.rankers.vbpr import Vbpr


@dataclass(frozen=True, kw_only=True)
class AdversarialRanking:
    """VBPR is fitted again with an adversary (AMR), Tang et al. 2019, arXiv:1809.07062.

    The promotion was made for the VBPR before it. For promotions that know the defended ranker, put the model `amr`
    on the model axis instead, as the thesis does.

    adversary, eps, weight: as in the model `amr`.
    """

    version: ClassVar[int] = 1
    adversary: Adversary = "features"
    eps: float = 0.1
    weight: float = 1.0

    def __post_init__(self) -> None:
        Amr(adversary=self.adversary, eps=self.eps, weight=self.weight)

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan; lists are made as ever, from another ranker."""
        return plan

    def refit(self, model: RankerMethod) -> RankerMethod:
        """Return AMR with the settings of a VBPR.

        Raises:
            ConfigError: when the model is no VBPR.
        """
        if not isinstance(model, Vbpr):
            raise ConfigError("countermove 'amr' fits VBPR again with an adversary; give it the model vbpr alone")
        same = {f.name: getattr(model, f.name) for f in fields(Vbpr)}
        return Amr(**same, adversary=self.adversary, eps=self.eps, weight=self.weight)
