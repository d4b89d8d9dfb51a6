"""Pictures as addresses that a page can hold."""

from __future__ import annotations

import base64
import io

from PIL import Image
from torch import Tensor

WIDEST = 224


def data_address(picture: Tensor) -> str:
    """Return an 8-bit picture [3, H, W] as a data address of a PNG, scaled down when it is wider than a page shows."""
    image = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
    image.thumbnail((WIDEST, WIDEST))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
