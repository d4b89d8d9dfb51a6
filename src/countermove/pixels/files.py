"""Reading and writing picture files safely. What comes in is judged by its content, never by its name.

Every refusal is a DataError that names the file. No picture is ever half-read.
"""

from __future__ import annotations

import io
import os
import re
import secrets
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image

from countermove.errors import DataError, RunError
from countermove.pixels.decode import Limits, decode_picture, words

_NOT_ARRAYS = (
    *(OSError, ValueError, EOFError, LookupError, SyntaxError, MemoryError, ArithmeticError, TypeError, AttributeError),
    *(RuntimeError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
"""What numpy and zipfile were seen to raise, or document, on damaged input."""

MAX_ARRAYS = 8 * 2**30
"""Bytes that the arrays of an .npz archive may have when they are unpacked, taken together."""

_LONGEST_NAME, _LONGEST_PATH = 255, 4095

_LEFTOVER = re.compile(r"\..*\.[0-9a-f]{16}\.tmp", re.DOTALL)

OnBroken = Literal["fail", "skip"]
"""What to do with a broken picture: end with an error, or leave it out and name it in the result."""

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp"})
# Pictures that we do not read: they are met and refused by name rather than passed over in silence.
FOREIGN_SUFFIXES = frozenset({".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".apng", ".jp2", ".ico", ".ppm"})


def read_picture(path: Path | str, *, limits: Limits | None = None) -> np.ndarray:
    """Read one PNG, JPEG, WebP or BMP file as uint8 [H, W, 3], RGB. The rules are those of decode_picture.

    Raises:
        DataError: when the file is absent, no regular file, not one of these four by content, too large, animated,
            truncated or otherwise broken.
    """
    return decode_picture(read_bytes(path, limits=limits), name=str(path), limits=limits)


def read_bytes(path: Path | str, *, limits: Limits | None = None) -> bytes:
    """Read the bytes of one regular file, not yet decoded.

    Raises:
        DataError: when the file is absent, no regular file, or larger than the limits permit.
    """
    path = Path(path)
    limits = limits or Limits()
    try:
        # A pipe or a device would block or never end; only a regular file is opened.
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path} is no regular file; only picture files can be read")
        if status.st_size > limits.max_bytes:
            raise DataError(f"{path} has {status.st_size:,} bytes; at most {limits.max_bytes:,} are read")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {words(error)}") from None


def walk_pictures(root: Path | str) -> list[str]:
    """List the picture files of a folder tree: paths relative to root, with slashes, sorted.

    Files and folders whose name begins with a dot are passed over, and files that are no pictures by their suffix.
    A file that names itself a picture is listed whatever it holds; reading judges it.

    Raises:
        DataError: when root is no folder; at a link that leads outside root, nowhere, or to a folder; at a name that
            is not valid UTF-8.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder")
    inside = root.resolve()
    found = []
    for folder, folders, names in os.walk(inside, onerror=_cannot_list):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if (Path(folder) / name).is_symlink():
                raise DataError(f"{Path(folder) / name} is a link to a folder; put the folder itself in its place")
        for name in names:
            path = Path(folder) / name
            if name.startswith(".") or path.suffix.lower() not in SUFFIXES | FOREIGN_SUFFIXES:
                continue
            if path.is_symlink() and not (path.resolve().is_relative_to(inside) and path.exists()):
                raise DataError(
                    f"{path} is a link that leads outside {root} or nowhere; put the file itself in its place"
                )
            found.append(path.relative_to(inside).as_posix())
    for name in found:
        if not name.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in name):
            raise DataError(f"the name {name!r} in {root} is not valid UTF-8; rename the file or its folder")
    return sorted(found)


def iter_pictures(
    root: Path | str,
    *,
    limits: Limits | None = None,
    on_broken: OnBroken = "fail",
    skipped: list[str] | None = None,
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (relative path, uint8 [H, W, 3]) for every picture below root in sorted order, one in memory at a time.

    With on_broken="skip" a broken picture is left out, and its message, which names it, is appended to `skipped`.
    """
    for name in walk_pictures(root):
        try:
            picture = read_picture(Path(root) / name, limits=limits)
        except DataError as error:
            if on_broken == "fail":
                raise
            if skipped is not None:
                skipped.append(str(error))
            continue
        yield name, picture


def safe_child(root: Path | str, relative: str) -> Path:
    """Return root / relative for a path that a manifest or an archive gives; the file need not exist.

    Raises:
        DataError: when the path is empty, absolute, holds "..", or leads outside root through a link.
    """
    root = Path(root)
    parts = PurePosixPath(relative).parts
    try:
        lengths = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        raise DataError(f"the name {relative!r} below {root} is not valid UTF-8") from None
    if any(length > _LONGEST_NAME for length in lengths) or sum(lengths) + len(parts) > _LONGEST_PATH:
        raise DataError(f"the name {relative[:60]!r}… below {root} is longer than a file's name can be")
    bad = (
        not parts
        or "\0" in relative
        or ".." in PureWindowsPath(relative).parts
        or PurePosixPath(relative).is_absolute()
        or bool(PureWindowsPath(relative).anchor)
    )
    path = root.joinpath(*parts)
    if bad or not path.resolve().is_relative_to(root.resolve()):
        raise DataError(f"the path {relative!r} leads outside {root}; only paths below it, without '..', are followed")
    return path


def write_png(path: Path | str, picture: np.ndarray) -> None:
    """Write uint8 [H, W, 3] as PNG, whole or not at all.

    Raises:
        DataError: when the array is no such picture.
        RunError: when the file cannot be written.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise DataError(
            f"{path}: a picture to write must be uint8 [H, W, 3]; got {picture.dtype} {list(picture.shape)}"
        )
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())


def write_atomic(path: Path | str, data: bytes) -> None:
    """Write a file whole or not at all: a temporary file in the same folder, flushed to disk, then renamed.

    Raises:
        RunError: when the folder is absent, not writable or full; an earlier file of that name is then untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.tmp")
    try:
        # Exclusive creation: never write through a file or link that somebody else put there.
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise RunError(f"{path} cannot be written: {words(error)}. Free space or choose another folder") from None


def remove_leftovers(root: Path | str) -> None:
    """Remove the temporary files that a killed `write_atomic` left below root. Nobody may be writing there.

    Raises:
        RunError: when one cannot be removed.
    """
    for folder, _, names in os.walk(root):
        for name in filter(_LEFTOVER.fullmatch, names):
            left = Path(folder) / name
            try:
                left.unlink()
            except OSError as error:
                raise RunError(f"{left}, left half-written, cannot be removed: {words(error)}") from None


def read_npy(path: Path | str) -> np.ndarray:
    """Read the array of an .npy file; nothing in it is ever unpickled.

    Raises:
        DataError: when the file is absent, broken, or holds pickled objects.
    """
    path = Path(path)
    try:
        with _regular(path) as file:
            array = np.load(file, allow_pickle=False)
    except _NOT_ARRAYS as error:
        raise DataError(f"{path} cannot be read as an .npy file of plain numbers: {words(error)}") from None
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} is an archive of arrays, not an .npy file; name it .npz")
    return array


def read_npz(path: Path | str, names: Sequence[str], *, optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read named arrays of an .npz file, and optional ones where they are there; nothing in it is ever unpickled.

    Raises:
        DataError: when the file or an array is absent, broken, or holds pickled objects.
    """
    path = Path(path)
    try:
        with _regular(path) as file:
            _check_archive(file)
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{path} is a single array, not an .npz archive with {', '.join(names)}")
            absent = [name for name in names if name not in archive.files]
            if absent:
                raise DataError(f"{path} has no array {', '.join(absent)}; it has {', '.join(archive.files) or 'none'}")
            there = [name for name in optional if name in archive.files]
            arrays = {name: archive[name] for name in (*names, *there)}
            if raw := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
                raise DataError(f"{path}: {raw[0]} is no array")
            return arrays
    except _NOT_ARRAYS as error:
        raise DataError(f"{path} cannot be read as an .npz file of plain arrays: {words(error)}") from None


def _regular(path: Path) -> BinaryIO:
    """Open a regular file; a pipe or a device would block or never end."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is no regular file")
    return path.open("rb")


def _check_archive(file: BinaryIO) -> None:
    """Refuse an archive that would unpack to more than it may, before anything of it is unpacked."""
    if zipfile.is_zipfile(file):
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
        if any(part.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for part in parts):
            raise ValueError("it is packed in a way that numpy does not write")
        if (size := sum(part.file_size for part in parts)) > MAX_ARRAYS:
            raise ValueError(f"it unpacks to {size:,} bytes; at most {MAX_ARRAYS:,} are read")
    file.seek(0)


def _cannot_list(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be listed: {words(error)}")
