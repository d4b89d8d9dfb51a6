"""The middle of queries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from countermove.errors import ConfigError
from countermove.retrieval.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Only the middle of the query arrives, Liu et al. 2019, arXiv:1901.10332.

    share: of the sides that is left (paper: 0.9, 0.8, 0.6, 0.4).

    Inferred: that the paper's per cent are of the sides and that the middle is kept.
    """

    version: ClassVar[int] = 1
    share: float = 0.8

    def __post_init__(self) -> None:
        check_share("crop", self.share)

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with one more edit."""
        return plan.edited(partial(crop, share=self.share))


def crop(picture: Tensor, name: str = "", seed: int = 0, *, share: float) -> Tensor:
    """Return the middle of a picture [3, H, W], at least a pixel."""
    height, width = (max(1, round(share * side)) for side in picture.shape[1:])
    top, left = (picture.shape[1] - height) // 2, (picture.shape[2] - width) // 2
    return picture[:, top : top + height, left : left + width].contiguous()


def check_share(name: str, share: float) -> None:
    """Refuse shares that leave nothing or are more than all; raises ConfigError."""
    if not 0 < share <= 1:
        raise ConfigError(f"countermove {name!r}: a share of {share:g} is refused; above 0, and 1 at most")
