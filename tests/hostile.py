"""Builders of files that a reader must refuse, or must convert by its stated rules. Each returns the file's bytes."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def noise(height: int = 8, width: int = 8, *, seed: int = 0) -> np.ndarray:
    """Random uint8 [H, W, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(picture: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """A picture in one of Pillow's formats."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of the chunks given, with right lengths and checksums."""
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_of(
    width: int, height: int, *, depth: int, colour: int, rows: bytes, extra: tuple[tuple[bytes, bytes], ...] = ()
) -> bytes:
    """A PNG file with a header of our choice around raw, filtered rows."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return png((b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))


def huge_png(side: int = 60_000) -> bytes:
    """A few bytes that claim to be side x side pixels."""
    return png_of(side, side, depth=8, colour=2, rows=b"\0" * 100)


def huge_bmp(side: int = 60_000) -> bytes:
    """A BMP header that claims side x side pixels."""
    data = bytearray(encoded(noise(), "BMP"))
    data[18:26] = struct.pack("<ii", side, side)
    return bytes(data)


def huge_jpeg() -> bytes:
    """A JPEG whose frame header claims 65,535 x 65,535 pixels."""
    data = bytearray(encoded(noise(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    return bytes(data)


def huge_webp() -> bytes:
    """A WebP whose canvas claims 16,383 x 16,383 pixels."""
    body = encoded(noise(), "WEBP", lossless=True)[12:]
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (16_382).to_bytes(3, "little") * 2
    return b"RIFF" + struct.pack("<I", 4 + len(canvas + body)) + b"WEBP" + canvas + body


def animated(kind: str) -> bytes:
    """Two frames as PNG (APNG), WEBP or GIF."""
    first, second = (Image.fromarray(noise(seed=seed)) for seed in (1, 2))
    return encoded(first, kind, save_all=True, append_images=[second], duration=100)


def gray_16_png(values: np.ndarray, *, transparent: int | None = None) -> bytes:
    """Gray, 16 bits, from uint16 [H, W]."""
    height, width = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    extra = () if transparent is None else ((b"tRNS", struct.pack(">H", transparent)),)
    return png_of(width, height, depth=16, colour=0, rows=rows, extra=extra)


def rgb_16_png(values: np.ndarray) -> bytes:
    """RGB, 16 bits a channel, from uint16 [H, W, 3]."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png_of(width, height, depth=16, colour=2, rows=rows)


def rotated_jpeg(picture: np.ndarray, orientation: int) -> bytes:
    """A JPEG whose EXIF says how it is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture, "JPEG", exif=exif, quality=95, subsampling=0)


def damaged_exif_jpeg() -> bytes:
    """A sound JPEG whose EXIF block is nonsense."""
    return encoded(noise(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 20)


def cmyk_jpeg(cyan: int, magenta: int, yellow: int, black: int) -> bytes:
    """A JPEG of one ink mixture."""
    return encoded(Image.new("CMYK", (8, 8), (cyan, magenta, yellow, black)), "JPEG", quality=100)


def palette_png_with_alpha() -> bytes:
    """Two palette entries side by side: red, and a blue that is wholly transparent."""
    header = struct.pack(">IIBBBBB", 2, 1, 8, 3, 0, 0, 0)
    return png(
        (b"IHDR", header),
        (b"PLTE", bytes([255, 0, 0, 0, 0, 255])),
        (b"tRNS", bytes([255, 0])),
        (b"IDAT", zlib.compress(bytes([0, 0, 1]))),
        (b"IEND", b""),
    )


def pickled_npz() -> bytes:
    """An .npz archive one of whose arrays holds a pickled object."""
    buffer = io.BytesIO()
    np.savez(buffer, x_train=np.array([{"not": "numbers"}], dtype=object), y_train=np.zeros(1))  # type: ignore[arg-type]
    return buffer.getvalue()
