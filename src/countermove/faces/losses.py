"""Losses of face recognition. Legend: N photos, K people, D features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.pixels.randomness import generator

Loss = Literal["softmax", "arcface", "cosface"]
LOSSES: tuple[Loss, ...] = ("softmax", "arcface", "cosface")

_EDGE = 1e-6


class Head(nn.Module):
    """One direction a person: what an extractor is trained against, thrown away afterwards.

    With softmax the output are plain logits of the features before they are normalised; with a margin they are cosines
    between features and directions, which `margin_loss` makes harder.
    """

    def __init__(self, people: int, dim: int, loss: Loss, source: torch.Generator) -> None:
        """Draw the directions."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(people, dim, generator=source) * dim**-0.5)
        self.cosine = loss != "softmax"

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, K] for features [N, D] that are not normalised."""
        if self.cosine:
            return F.linear(F.normalize(features), F.normalize(self.weight))
        return F.linear(features, self.weight)


def margin_loss(loss: Loss, *, scale: float, margin: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss of a head's output and labels.

    softmax: cross-entropy of the logits. arcface: of scale * cos(angle + margin) for the right person and
    scale * cos(angle) for the others (Deng et al. 2019, arXiv:1801.07698). cosface: scale * (cosine - margin) for the
    right one (Wang et al. 2018, arXiv:1801.09414).

    Args:
        loss: which.
        scale: of the cosines.
        margin: an angle in radians for arcface, a cosine for cosface.
    """
    if loss == "softmax":
        return F.cross_entropy

    def harder(cosines: Tensor, labels: Tensor) -> Tensor:
        cosines = cosines.float()  # half precision has no cosine between 1 - 2^-8 and 1
        own = cosines.gather(1, labels[:, None])
        if loss == "cosface":
            own = own - margin
        else:
            angle = own.clamp(-1 + _EDGE, 1 - _EDGE).acos() + margin
            # beyond half a turn the cosine would rise again
            own = torch.where(angle < torch.pi, angle.cos(), -1 - (angle - torch.pi))
        return F.cross_entropy(scale * cosines.scatter(1, labels[:, None], own), labels)

    return harder


def fresh_head(people: int, dim: int, loss: Loss, seed: int, purpose: str) -> Head:
    """Return a head whose directions depend on the seed and the purpose alone."""
    return Head(people, dim, loss, generator(seed, "head", purpose))
