"""Adversarial training of the ranker."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.finetuning.adaptation import check_adaptation
from countermove.recommender.defence import Plan, check_examples
from countermove.recommender.extractor import Extractor
from countermove.recommender.factorisation import go_on
from countermove.recommender.fitting import Fitted, Material, RankerMethod
from countermove.recommender.rankers.amr import Adversary, Amr
from countermove.recommender.rankers.vbpr import Vbpr


@dataclass(frozen=True, kw_only=True)
class AdversarialRanking:
    """VBPR is fitted again with an adversary (AMR), Tang et al. 2019, arXiv:1809.07062.

    The promotion was made for the VBPR before it. For promotions that know the defended ranker, put the model `amr`
    on the model axis instead, as the thesis does.

    adversary, eps, weight: as in the model `amr`.
    adaptation: full, critical-layers, mask, lora or bitfit, spelled with settings: the fitted VBPR is trained further
                by AdamW, all of it or little, for as many epochs as it was fitted; the one that validates best is kept.
                Empty: a fresh one is fitted, as the model `amr` is.
    examples:   train interactions that it goes on with at most, chosen by user and item; 0: all.

    Its parts are named users, items, seekers (tables, which mask and lora leave alone unless embeddings=true), bias (of
    the items), projection and looks (what mask and lora change; critical-layers(layers=[projection, looks])). bitfit
    changes the items' biases; new items have none, so it can only move what they stand among. adversary=parameters
    changes all parameters, also those that an adaptation holds, and is refused with one.
    """

    version: ClassVar[int] = 1
    keyed_when_set: ClassVar[tuple[str, ...]] = ("adaptation", "examples")
    adversary: Adversary = "features"
    eps: float = 0.1
    weight: float = 1.0
    adaptation: str = ""
    examples: int = 0

    def __post_init__(self) -> None:
        if self.adaptation:
            object.__setattr__(self, "adaptation", check_adaptation(self.adaptation))
        check_examples(self.examples, self.adaptation, "amr")
        if self.adaptation and self.adversary == "parameters":
            raise ConfigError(
                "countermove 'amr': adversary = 'parameters' changes all parameters, also those that an adaptation "
                "holds; take adversary=features"
            )
        Amr(adversary=self.adversary, eps=self.eps, weight=self.weight)

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan; lists are made as ever, from another ranker."""
        return plan

    def refit(self, model: RankerMethod) -> RankerMethod:
        """Return AMR with the settings of a VBPR, or what goes on from that VBPR.

        Raises:
            ConfigError: when the model is no VBPR.
        """
        if not isinstance(model, Vbpr):
            raise ConfigError("countermove 'amr' fits VBPR again with an adversary; give it the model vbpr alone")
        same = {f.name: getattr(model, f.name) for f in fields(Vbpr)}
        amr = Amr(**same, adversary=self.adversary, eps=self.eps, weight=self.weight)
        return _GoesOn(amr, self.adaptation, self.examples) if self.adaptation else amr


@dataclass(frozen=True)
class _GoesOn:
    """AMR that goes on from a fitted VBPR."""

    version: ClassVar[int] = 1
    amr: Amr
    adaptation: str
    examples: int

    def extractor(self) -> Extractor:
        return self.amr.extractor()

    def fit(self, material: Material) -> Fitted:
        return go_on(material, self.amr.settings(), adaptation=self.adaptation, examples=self.examples)
