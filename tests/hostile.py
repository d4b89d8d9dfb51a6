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


# --- Much out of little: bombs, and headers that lie ------------------------------------------------------------------


def zeros_deflated(megabytes: int) -> bytes:
    """A raw deflate stream of so many megabytes of zeros, about a thousandth of their size."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * megabytes + packer.flush(zlib.Z_FINISH)


def zip_of(name: str, packed: bytes, size: int, *, method: int = 8, crc: int = 0) -> bytes:
    """A ZIP archive of one member with a header of our choice; sizes beyond 4 GiB are written as ZIP64 has them."""
    title, large = name.encode(), size >= 2**32
    short = 0xFFFFFFFF if large else size
    extra = struct.pack("<HHQ", 1, 8, size) if large else b""
    common = struct.pack("<HHHHHIII", 45, 0, method, 0, 0, crc, len(packed), short)
    common += struct.pack("<HH", len(title), len(extra))
    local = b"PK\3\4" + common + title + extra + packed
    central = b"PK\1\2" + struct.pack("<H", 45) + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + title + extra
    return local + central + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)


def many_scans_jpeg(scans: int = 20_000, side: int = 7000) -> bytes:
    """A progressive JPEG that goes over all of its 49 million claimed pixels again and again."""
    whole = bytearray(encoded(noise(64, 64), "JPEG", progressive=True))
    size = whole.index(b"\xff\xc2") + 5
    whole[size : size + 4] = struct.pack(">HH", side, side)
    last = whole.rindex(b"\xff\xda")
    return bytes(whole[:last] + whole[last:-2] * scans + whole[-2:])


def npy_header(text: str, version: tuple[int, int] = (1, 0)) -> bytes:
    """The beginning of an .npy file with a header of our choice."""
    body = text.encode()
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(body)) + body


def bomb_npz(megabytes: int) -> bytes:
    """A small .npz whose array x_train has so many megabytes of zeros."""
    size = megabytes * 2**20
    head = npy_header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size},)}}\n")
    stored = b"\0" + struct.pack("<HH", len(head), len(head) ^ 0xFFFF) + head  # a stored block before the packed ones
    return zip_of("x_train.npy", stored + zeros_deflated(megabytes), len(head) + size)


def text_bomb_png(kind: bytes = b"zTXt", megabytes: int = 600) -> bytes:
    """A picture of one pixel with a packed text, or a packed colour profile, of so many megabytes."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    packed = b"\x78\x9c" + zeros_deflated(megabytes) + b"\0\0\0\1"
    body = (b"note\0\0" if kind != b"iTXt" else b"note\0\1\0\0\0") + packed
    return png((b"IHDR", header), (kind, body), (b"IDAT", zlib.compress(bytes(4))), (b"IEND", b""))


def data_bomb_png(megabytes: int = 600) -> bytes:
    """A picture of one pixel whose packed rows go on for so many megabytes."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return png((b"IHDR", header), (b"IDAT", b"\x78\x9c" + zeros_deflated(megabytes)), (b"IEND", b""))


def safetensors_of(header: bytes | dict[str, object], data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with a header, and a length of it, of our choice."""
    import json

    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


# --- Pickles that ask for something -----------------------------------------------------------------------------------


def object_npy(program: bytes) -> bytes:
    """An .npy file of objects around a pickle of our choice."""
    return npy_header("{'descr': '|O', 'fortran_order': False, 'shape': (6,)}\n") + program


def calling(path: str) -> bytes:
    """A pickle that makes an empty file at a path when it is opened the usual way."""
    return b"cos\nsystem\n(Vtouch " + path.encode() + b"\ntR."


def doubled(times: int) -> bytes:
    """Instructions that leave a tuple of 2**times leaves, which share their parts."""
    return b"K\1" + b"".join(b"q%c0h%ch%c\x86" % (i, i, i) for i in range(times))


MEMO_BOMB = b"\x80\x02Nr\xff\xff\xff\x7f."
"""Asks C Python's reader for room for 2**31 remembered objects, 16 GiB."""

HASH_BOMB = b"\x80\x02}" + doubled(100) + b"Ns."
"""A dict whose key is a tuple of 2**100 leaves that share their parts."""


def array_bomb(megabytes: int = 1, arrays: int = 20_000) -> bytes:
    """A pickle of many arrays that are all unpacked from the same bytes."""
    size = megabytes * 2**20
    start = b"\x80\x02cnumpy\ndtype\n(U\2u1tRq\0" + b"0cnumpy.core.multiarray\n_reconstruct\nq\x01" + b"0"
    start += b"T" + struct.pack("<I", size) + bytes(size) + b"q\x02" + b"0]"
    one = b"h\x01)R(K\1K\1h\0Nh\x02tba"
    return start + one * arrays + b"."


def encode_bomb(megabytes: int = 1, times: int = 20_000) -> bytes:
    """A pickle that has the same text made into bytes again and again."""
    text = b"x" * (megabytes * 2**20)
    start = b"\x80\x02c_codecs\nencode\nq\0" + b"0X" + struct.pack("<I", len(text)) + text + b"q\x01" + b"0"
    return start + b"X\6\0\0\0latin1q\x02" + b"0]" + b"h\0h\x01h\x02\x86Ra" * times + b"."
