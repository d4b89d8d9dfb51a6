"""A face network with its weights as one function: pictures of any size in [0, 1] to embeddings of unit length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.errors import DataError
from countermove.faces.extractor import Embedder
from countermove.nets.parts import Normalize

ChannelOrder = Literal["rgb", "bgr"]


class PublicEmbedder(Embedder):
    """A frozen network that resizes, reorders and normalises for itself.

    Its parameters get no gradients, pictures do. It stays in evaluation mode: `train` changes nothing.

    net:           what embeds; normalised pictures [N, 3, side, side] to [N, D].
    side:          of the pictures it was trained on.
    channel_order: what it was trained on.
    mean, std:     one number a channel in that order, in [0, 1] pixel units.
    sha256:        of the file its weights came from, "" where it is not one file.
    verified:      whether that hash was known beforehand and was found.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        side: int,
        channel_order: ChannelOrder = "rgb",
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        sha256: str = "",
        verified: bool = False,
    ) -> None:
        """Wrap and freeze the network."""
        super().__init__()
        self.net = net
        self.normalize = Normalize(mean, std)
        self.side = side
        self.channel_order = channel_order
        self.sha256 = sha256
        self.verified = verified
        self._dim = 0
        self.requires_grad_(False)
        super().train(False)

    @property
    def dim(self) -> int:
        """Return how many features there are; found out by asking once."""
        if not self._dim:
            weight = next(self.net.parameters(), self.normalize.mean)
            with torch.no_grad():
                self._dim = self.raw(torch.zeros(1, 3, self.side, self.side, device=weight.device)).shape[1]
        return self._dim

    def raw(self, photos: Tensor) -> Tensor:
        """Embed RGB photos [N, 3, H, W] in [0, 1] as [N, dim], of whatever length.

        Raises:
            DataError: when these are no such photos.
        """
        if photos.ndim != 4 or photos.shape[1] != 3 or not photos.is_floating_point():
            raise DataError(
                f"faces to embed are float RGB photos [N, 3, H, W]; got {photos.dtype} {list(photos.shape)}"
            )
        if photos.shape[2:] != (self.side, self.side):
            size = (self.side, self.side)
            photos = F.interpolate(photos, size, mode="bilinear", antialias=True, align_corners=False)
        if self.channel_order == "bgr":
            photos = photos.flip(1)
        return self.net(self.normalize(photos))

    def train(self, mode: bool = True) -> PublicEmbedder:
        """Stay in evaluation mode, whatever is asked."""
        return self
