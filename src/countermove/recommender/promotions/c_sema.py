"""c-SEMA: the promotion that shows the hook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from countermove.errors import ConfigError
from countermove.pixels.batch import Batch
from countermove.pixels.rounding import to_float, to_uint8
from countermove.recommender.promotion import PromotionContext
from countermove.recommender.shop import find_hook

CAPTION_SCALE = 4


@dataclass(frozen=True, kw_only=True)
class CompositingSemantic:
    """Compositing semantic attack (c-SEMA), Liu and Larson 2021, arXiv:2006.01888.

    Thesis section 2.4.3. Shows the item together with a hook item that sells well. No pixel is perturbed: the picture
    is a new composition.

    layout:  "inset": the item as an inset in the hook's picture (as the attack is introduced); "right": the hook,
             resized, pasted on the right side of the item's picture (as the implementation is described).
    share:   of the picture's side that the pasted picture takes.
    hook:    "popular", or an item's id.
    caption: written along the bottom; the paper's is "match your jeans" (or coat); empty for none.

    There is no released code for this one.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[None] = None
    knows: ClassVar[str] = ""
    layout: Literal["inset", "right"] = "right"
    share: float = 0.5
    hook: str = "popular"
    caption: str = ""

    def __post_init__(self) -> None:
        if self.layout not in ("inset", "right"):
            raise ConfigError(f"move 'c-sema': layout = {self.layout!r} is refused; it is inset or right")
        if not 0 < self.share <= 1:
            raise ConfigError(f"move 'c-sema': share = {self.share} is refused; it is above 0 and at most 1")

    def __call__(self, batch: Batch, *, context: PromotionContext) -> Batch:
        """Return the compositions."""
        hook = _image(context.shop.pictures[find_hook(context.shop, self.hook)])
        composed = [self._compose(_image(to_uint8(picture)), hook) for picture in batch.pictures]
        return batch.with_pictures(torch.stack([_tensor(image) for image in composed]))

    def _compose(self, item: Image.Image, hook: Image.Image) -> Image.Image:
        ground, pasted = (hook.copy(), item) if self.layout == "inset" else (item.copy(), hook)
        width, height = ground.size
        size = (max(1, round(width * self.share)), max(1, round(height * self.share)))
        place = (width - size[0], height - size[1] if self.layout == "inset" else (height - size[1]) // 2)
        ground.paste(pasted.resize(size, Image.Resampling.LANCZOS), place)
        return _captioned(ground, self.caption) if self.caption else ground


def _captioned(picture: Image.Image, text: str) -> Image.Image:
    """Write a text along the bottom on a white strip, drawn larger and resized so that small pictures can hold it."""
    width, height = picture.size
    strip = Image.new("RGB", (CAPTION_SCALE * width, CAPTION_SCALE * max(4, height // 8)), "white")
    font = ImageFont.load_default(size=0.7 * strip.height)
    ImageDraw.Draw(strip).text((strip.width / 2, strip.height / 2), text, fill="black", font=font, anchor="mm")
    tall = strip.height // CAPTION_SCALE
    picture.paste(strip.resize((width, tall), Image.Resampling.LANCZOS), (0, height - tall))
    return picture


def _image(picture: Tensor) -> Image.Image:
    return Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())


def _tensor(image: Image.Image) -> Tensor:
    return to_float(torch.from_numpy(np.array(image))).permute(2, 0, 1).contiguous()
