"""Learned augmentation policies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from countermove.errors import ConfigError, did_you_mean
from countermove.learning.operations import OPERATIONS, apply
from countermove.unlearnable.countermeasure import Plan, ReplyContext

POLICIES = ("cifar10", "svhn", "imagenet")
_NAMES = tuple(OPERATIONS)
_TURNS_ROUND = frozenset({"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast"})
_TURNS_ROUND |= {"Sharpness"}


@dataclass(frozen=True, kw_only=True)
class FastAutoAugment:
    """Fast AutoAugment (FA), Lim et al. 2019, arXiv:1905.00397.

    Every training picture goes through one of the sub-policies of a learned policy, drawn anew in every epoch: two
    operations (turn, shift, colours, contrast, equalise, ...), each with its learned probability and strength.

    policy: whose sub-policies: "cifar10", "svhn" or "imagenet", by the data they were learned on.

    Differs from the paper: the sub-policies are the 25 of AutoAugment (Cubuk et al. 2019, arXiv:1805.09501) that
    torchvision ships, found by the same kind of search over the same operations; those that Lim et al. found, some
    hundreds with finer strengths, are not shipped by any library. They apply after crop and flip (released code:
    before). Huang et al. 2021 speak of a fixed policy of contrast, brightness, sharpness, rotation and cutout.
    """

    version: ClassVar[int] = 1

    policy: Literal["cifar10", "svhn", "imagenet"] = "cifar10"

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ConfigError(
                f"fast-autoaugment: unknown policy {self.policy!r}; {did_you_mean(self.policy, POLICIES)}"
            )

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the changed plan."""
        return plan.with_step(PolicyStep(policy=self.policy))


@dataclass(frozen=True, kw_only=True)
class PolicyStep:
    """One sub-policy of a learned policy for every picture of a batch."""

    policy: str

    def __call__(self, pictures: Tensor, targets: Tensor, *, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return the changed pictures and the same targets."""
        n, _, height, width = pictures.shape
        operations, probabilities, strengths = _sub_policies(self.policy, height, width)
        chosen = torch.randint(len(operations), (n,), generator=generator)
        done = torch.rand(n, 2, generator=generator) <= probabilities[chosen]
        sign = torch.randint(2, (n, 2), generator=generator) * 2 - 1
        for turn in (0, 1):
            which = torch.where(done[:, turn], operations[chosen, turn], -1)
            strength = strengths[chosen, turn]
            strength = torch.where(_signed()[operations[chosen, turn]], sign[:, turn] * strength, strength)
            pictures = apply(pictures, _NAMES, which, strength)
        return pictures, targets


@cache
def _sub_policies(policy: str, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a policy as tables [S, 2]: positions in the names of all operations, probabilities and strengths."""
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy  # slow to import

    rows = AutoAugment(AutoAugmentPolicy(policy)).policies
    operations = [[_NAMES.index(name) for name, _, _ in row] for row in rows]
    probabilities = [[probability for _, probability, _ in row] for row in rows]
    strengths = [[_strength(name, (level or 0) / 9, height, width) for name, _, level in row] for row in rows]
    return torch.tensor(operations), torch.tensor(probabilities), torch.tensor(strengths)


@cache
def _signed() -> Tensor:
    """Return which operations go both ways, in the order of their names."""
    return torch.tensor([name in _TURNS_ROUND for name in _NAMES])


def _strength(name: str, level: float, height: int, width: int) -> float:
    """Return what a level in [0, 1] means for an operation: the ranges of AutoAugment."""
    if name.startswith("Shear"):
        return 0.3 * level
    if name.startswith("Translate"):
        return 150 / 331 * (width if name == "TranslateX" else height) * level
    if name == "Rotate":
        return 30 * level
    if name == "Posterize":
        return 8 - round(4 * level)
    if name == "Solarize":
        return 255 * (1 - level)
    return 0.9 * level
