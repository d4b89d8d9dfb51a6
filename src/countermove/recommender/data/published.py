"""Amazon Men and Tradesy as the authors of DVBPR published them, and their conversion to plain files.

The published files are pickles, which run code when they are opened the usual way. They are converted once::

    python -m countermove.recommender.data.published AmazonMenWithImgPartitioned.npy amazon-men

into a folder with interactions.parquet (user, item, part), pictures/ITEM.jpg and manifest.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from countermove.errors import ConfigError, CountermoveError, DataError
from countermove.game.content import fingerprint_files, locate, locate_file
from countermove.pixels.files import read_npy, walk_pictures
from countermove.recommender.data.conversion import FORMAT, MANIFEST, PARTS, TABLE, convert

if TYPE_CHECKING:
    from countermove.recommender.shop import Shop

URL = "http://cseweb.ucsd.edu/~wckang/DVBPR"


@dataclass(frozen=True, kw_only=True)
class AmazonMen:
    """Amazon Men with the products' pictures, Kang et al. 2017, arXiv:1711.02231.

    34,244 users, 110,636 items, 254,870 interactions; each user's validation and test item as published. 2.1 GB; the
    pictures are for academic use only. Convert the published file once (see `countermove.recommender.data.published`).

    path:       the converted folder, as it stands or below the data folder.
    side:       the pictures are resized to side x side pixels, without keeping their aspect (the papers': 224).
    cold:       how many of the items that nobody touched are set apart (paper: 1000).
    cold_ids:   an .npy file of item numbers that are set apart instead, such as the ones of the paper; interactions
                they have are dropped.
    split_seed: of the choice of cold items.
    """

    version: ClassVar[int] = 1
    path: str = "amazon-men"
    side: int = 64
    cold: int = 1000
    cold_ids: str | None = None
    split_seed: int = 0

    def __post_init__(self) -> None:
        _check("amazon-men", self)

    def __call__(self, *, root: Path | None = None) -> Shop:
        """Read the converted folder.

        Raises:
            DataError: when it is absent, not the one that was written, or a picture is broken.
        """
        return _open("amazon-men", "AmazonMenWithImgPartitioned.npy", self, root)

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the tables, the pictures and the cold ids."""
        return _fingerprint("AmazonMenWithImgPartitioned.npy", self, root, rehash)


@dataclass(frozen=True, kw_only=True)
class Tradesy:
    """Tradesy, second-hand clothes, with the sellers' pictures, Kang et al. 2017, arXiv:1711.02231.

    33,864 users, 326,393 items, 655,409 interactions; each user's validation and test item as published. 3.4 GB; the
    pictures are for academic use only. Convert the published file once (see `countermove.recommender.data.published`).

    path:       the converted folder, as it stands or below the data folder.
    side:       the pictures are resized to side x side pixels, without keeping their aspect (the papers': 224).
    cold:       how many of the items that nobody touched are set apart (paper: 1000).
    cold_ids:   an .npy file of item numbers that are set apart instead, such as the ones of the paper; interactions
                they have are dropped.
    split_seed: of the choice of cold items.
    """

    version: ClassVar[int] = 1
    path: str = "tradesy"
    side: int = 64
    cold: int = 1000
    cold_ids: str | None = None
    split_seed: int = 0

    def __post_init__(self) -> None:
        _check("tradesy", self)

    def __call__(self, *, root: Path | None = None) -> Shop:
        """Read the converted folder.

        Raises:
            DataError: when it is absent, not the one that was written, or a picture is broken.
        """
        return _open("tradesy", "TradesyImgPartitioned.npy", self, root)

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the tables, the pictures and the cold ids."""
        return _fingerprint("TradesyImgPartitioned.npy", self, root, rehash)


class _Settings(Protocol):
    @property
    def path(self) -> str: ...
    @property
    def side(self) -> int: ...
    @property
    def cold(self) -> int: ...
    @property
    def cold_ids(self) -> str | None: ...
    @property
    def split_seed(self) -> int: ...


def _check(name: str, settings: _Settings) -> None:
    from countermove.recommender.data.reading import check_side

    check_side(settings.side)
    if settings.cold < 1:
        raise ConfigError(f"{name}: cold = {settings.cold} is refused: it must be at least 1")


def _folder(file: str, settings: _Settings, root: Path | None) -> Path:
    how = (
        f"Fetch {URL}/{file} (for academic use only) and convert it once: "
        f"python -m countermove.recommender.data.published {file} {settings.path}"
    )
    try:
        folder = locate(settings.path, root)
    except DataError as error:
        raise DataError(f"{error}. {how}") from None
    if not (folder / MANIFEST).is_file():
        raise DataError(f"{folder} is no converted shop: it has no {MANIFEST}. {how}")
    return folder


def _fingerprint(file: str, settings: _Settings, root: Path | None, rehash: bool) -> str:
    folder = _folder(file, settings, root)
    files = [(name, folder / name) for name in (MANIFEST, TABLE)]
    files += [(name, folder / "pictures" / name) for name in walk_pictures(folder / "pictures")]
    if settings.cold_ids is not None:
        files.append(("cold_ids", locate_file("cold_ids", settings.cold_ids, root)))
    return fingerprint_files(files, rehash=rehash)


def _open(name: str, file: str, settings: _Settings, root: Path | None) -> Shop:
    import torch

    from countermove.recommender.data.reading import read_item_pictures
    from countermove.recommender.shop import Shop

    folder = _folder(file, settings, root)
    users, items, rows = _read(folder)
    cold = _choose_cold(name, items, rows, settings, root)
    kept = rows[~np.isin(rows[:, 1], cold)]
    train, held = kept[kept[:, 2] == 0, :2], {}
    for part in (1, 2):
        held[part] = np.full(users, -1, dtype=np.int64)
        held[part][kept[kept[:, 2] == part, 0]] = kept[kept[:, 2] == part, 1]
    also_held = (held[1][train[:, 0]] == train[:, 1]) | (held[2][train[:, 0]] == train[:, 1])
    distinct = np.unique(train[~also_held], axis=0)
    if not len(distinct):
        raise DataError(f"{name}: no train interaction is left in {folder}")
    _, pictures, _ = read_item_pictures(
        {str(item): folder / "pictures" / f"{item}.jpg" for item in range(items)},
        side=settings.side,
        max_pixels=50_000_000,
        on_broken="fail",
    )
    return Shop(
        name=name,
        users=tuple(map(str, range(users))),
        items=tuple(map(str, range(items))),
        pictures=pictures,
        train=torch.from_numpy(distinct),
        validation=torch.from_numpy(held[1]),
        test=torch.from_numpy(held[2]),
        cold=torch.from_numpy(cold),
        category=torch.full((items,), -1),
        statistics={
            "users": users,
            "items": items,
            "interactions": len(distinct) + int((held[1] >= 0).sum() + (held[2] >= 0).sum()),
            "interactions of cold items": len(rows) - len(kept),
            "train rows of held-out items": int(also_held.sum()),
            "duplicate rows": int((~also_held).sum()) - len(distinct),
            "users without a test item": int((held[2] < 0).sum()),
        },
    )


def _choose_cold(name: str, items: int, rows: np.ndarray, settings: _Settings, root: Path | None) -> np.ndarray:
    """Return the cold items, sorted: int64 [C]."""
    from countermove.recommender.shop import choose_cold

    if settings.cold_ids is not None:
        path = locate_file("cold_ids", settings.cold_ids, root)
        ids = read_npy(path)
        if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu":
            raise DataError(f"{path} must hold item numbers, integers [C]; it holds {ids.dtype} {list(ids.shape)}")
        if ids.min() < 0 or ids.max() >= items or len(np.unique(ids)) < len(ids):
            raise DataError(f"{path} must hold different item numbers from 0 to {items - 1}")
        return np.sort(ids).astype(np.int64)
    touched = np.bincount(rows[:, 1], minlength=items)
    return choose_cold(name, touched, settings.cold, "untouched", settings.split_seed)


def _read(folder: Path) -> tuple[int, int, np.ndarray]:
    """Return how many users and items there are, and rows (user, item, number of the part): int64 [n, 3]."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        found, users, items = manifest["format"], int(manifest["users"]), int(manifest["items"])
        if found != FORMAT:
            raise DataError(f"{folder} has format {found}; this version reads {FORMAT}. Convert the shop again")
        content = (folder / TABLE).read_bytes()
        if hashlib.sha256(content).hexdigest() != manifest["tables"][TABLE]:
            raise DataError(f"{folder / TABLE} is not the table that was written: its SHA-256 differs. Convert again")
        table = pq.read_table(pa.BufferReader(content))
        parts = np.array([PARTS.index(part) for part in table["part"].to_pylist()], dtype=np.int64)
        columns = [table[name].to_numpy().astype(np.int64) for name in ("user", "item")]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, pa.ArrowException) as error:
        raise DataError(f"{folder} is damaged ({error}); convert the shop again") from None
    rows = np.stack([*columns, parts], axis=1)
    if (rows < 0).any() or (rows[:, :2] >= (users, items)).any():
        raise DataError(f"{folder / TABLE} names users or items beyond {users} and {items}; convert the shop again")
    return users, items, rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert from the command line: 0 when it is done, 2 when it cannot be."""
    parser = argparse.ArgumentParser(prog="python -m countermove.recommender.data.published", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("source", type=Path, help="the published .npy file")
    parser.add_argument("out", type=Path, help="the folder to write")
    asked = parser.parse_args(arguments)
    try:
        made = convert(asked.source, asked.out)
    except CountermoveError as error:
        print(f"countermove: {error}", file=sys.stderr)
        return 2
    print(f"{asked.out}: {made['users']} users, {made['items']} items, {made['interactions']} interactions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
