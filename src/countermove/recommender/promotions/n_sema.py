"""n-SEMA: promoted pictures that somebody made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from countermove.errors import ConfigError, DataError
from countermove.game.content import fingerprint_files, locate
from countermove.pixels.batch import Batch
from countermove.pixels.files import walk_pictures
from countermove.pixels.rounding import to_float
from countermove.recommender.data.reading import read_item_pictures
from countermove.recommender.promotion import PromotionContext


@dataclass(frozen=True, kw_only=True)
class NaturalSemantic:
    """Natural semantic attack (n-SEMA), Liu and Larson 2021, arXiv:2006.01888.

    Thesis section 2.4.3. The item beside the hook in one natural photo, which a person makes: the pictures are read
    from a folder.

    path: a folder with one picture a cold item, named by its id (17.jpg). Items without one keep theirs.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[None] = None
    knows: ClassVar[str] = ""
    path: str = ""

    def __post_init__(self) -> None:
        if not self.path:
            raise ConfigError("move 'n-sema' needs the folder of its pictures: n-sema(path=FOLDER)")

    def __call__(self, batch: Batch, *, context: PromotionContext) -> Batch:
        """Return the pictures of the folder.

        Raises:
            DataError: when it holds a picture of none of the items.
        """
        files = self._files()
        mine = {item: files[item] for item in batch.ids if item in files}
        if not mine:
            raise DataError(f"{self.path} holds no picture of a cold item, such as {batch.ids[0]}.jpg")
        items, pictures, _ = read_item_pictures(
            mine, side=batch.pictures.shape[-1], max_pixels=100_000_000, on_broken="fail"
        )
        moved = batch.pictures.clone()
        moved[[batch.ids.index(item) for item in items]] = to_float(pictures)
        return batch.with_pictures(moved)

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the pictures."""
        return fingerprint_files(sorted(self._files(root).items()), rehash=rehash)

    def _files(self, root: Path | None = None) -> dict[str, Path]:
        folder = locate(self.path, root)
        return {Path(name).stem: folder / name for name in walk_pictures(folder)}
