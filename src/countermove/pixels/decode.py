"""Decoding pictures that strangers may have made. What they are is judged by content, never by name."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from countermove.errors import ConfigError, DataError

_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    AttributeError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""Everything Pillow was seen to raise, or documents, on damaged input."""

_ORIENTATION = 0x0112
_SCAN = b"\xff\xda"
"""Begins a scan; inside of one, the first byte is always followed by another one."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a picture file may cost, checked before it is decoded.

    max_pixels:  width times height as the header states them.
    max_bytes:   size of the file.
    max_scanned: of a JPEG: pixels times scans. A file of usual software has ten scans or so; every one of them may go
                 over all pixels again and take a few bytes.
    """

    max_pixels: int = 50_000_000
    max_bytes: int = 512 * 2**20
    max_scanned: int = 2_000_000_000

    def __post_init__(self) -> None:
        if min(self.max_pixels, self.max_bytes, self.max_scanned) < 1:
            raise ConfigError(f"limits must be at least 1; got {self}")


def decode_picture(data: bytes, *, name: str, limits: Limits | None = None) -> np.ndarray:
    """Decode the bytes of one PNG, JPEG, WebP or BMP file to uint8 [H, W, 3], RGB.

    - EXIF orientation is applied (unreadable EXIF says nothing); colour profiles are not.
    - Gray and 1-bit: the value is repeated in the three channels. Palette: looked up.
    - Alpha, and a transparent colour or palette entry: composited on white.
    - 16 bits a channel: the upper 8 bits are kept (value >> 8).
    - CMYK: (255 - C) * (255 - K) / 255 and so on, as Pillow converts; Adobe's inverted values are understood.
    - A JPEG that carries further pictures behind the first (as phones write): the first.

    Args:
        data: the content of the file.
        name: what an error message calls it.
        limits: the largest picture that is decoded.

    Raises:
        DataError: when the content is none of the four, too large, animated, truncated or otherwise broken.
    """
    limits = limits or Limits()
    opener = _opener(data, name)
    try:
        with _quiet():
            picture = opener(io.BytesIO(data))
        width, height = picture.size
        if width * height > limits.max_pixels:
            raise DataError(
                f"{name} claims {width} x {height} pixels; at most {limits.max_pixels:,} are decoded. "
                "Shrink it, or raise the limit if you trust it"
            )
        if (frames := getattr(picture, "n_frames", 1)) > 1:
            raise DataError(f"{name} is animated ({frames} frames); save the one frame you mean as a PNG")
        if opener is JpegImageFile and width * height * (scans := data.count(_SCAN)) > limits.max_scanned:
            raise DataError(f"{name} is a JPEG that goes over {width} x {height} pixels in {scans} scans; save it anew")
        if opener is PngImageFile:
            _check_png(data)
        picture.load()
        rgb = _to_rgb(picture)
        turn = _turn(picture)
        return np.array(rgb if turn is None else rgb.transpose(turn))
    except _DAMAGE as error:
        raise DataError(f"{name} is broken or cut short: {words(error)}. Fetch it again or leave it out") from None


def _opener(data: bytes, name: str) -> Callable[[io.BytesIO], ImageFile.ImageFile]:
    """Choose Pillow's reader by the first bytes, so that no other of its parsers ever sees the file."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImageFile
    if data.startswith(b"\xff\xd8\xff"):
        return JpegImageFile
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WebPImageFile
    if data.startswith(b"BM"):
        return BmpImageFile
    start = f"it begins with {data[:12]!r}" if data else "it is empty"
    raise DataError(f"{name} is not a PNG, JPEG, WebP or BMP picture by its content: {start}")


def _check_png(data: bytes) -> None:
    """Check every chunk and its checksum up to the end mark; Pillow draws a PNG whose tail is lost or damaged."""
    at = 8
    kind = b""
    while kind != b"IEND":
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        (stored,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(data[at + 4 : at + 8 + length]) != stored:
            raise ValueError(f"the checksum of the part {kind!r} is wrong")
        at += 12 + length


def _turn(picture: ImageFile.ImageFile) -> Image.Transpose | None:
    with _quiet(), suppress(*_DAMAGE):
        return _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
    return None


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):
        return _from_16_bit(picture)
    if picture.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _from_16_bit(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture)
    gray = (values >> 8).astype(np.uint8)
    gray[values == picture.info.get("transparency", -1)] = 255
    return Image.fromarray(gray).convert("RGB")


_quiet_lock = threading.Lock()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Pillow's warnings about headers to ourselves. Filters are global to the process, hence the lock."""
    with _quiet_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def words(error: BaseException) -> str:
    """Say an exception in one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
