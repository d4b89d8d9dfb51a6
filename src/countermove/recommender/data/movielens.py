"""MovieLens-100K with film posters, for development."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from countermove.errors import DataError
from countermove.game.content import data_folder, fingerprint_files

if TYPE_CHECKING:
    from countermove.recommender.shop import Shop

FOLDER = "movielens100k_posters"


@dataclass(frozen=True, kw_only=True)
class MovielensPosters:
    """MovieLens-100K as implicit feedback, with the films' posters, Harper and Konstan 2015, doi:10.1145/2827872.

    Read from movielens100k_posters/ in the data folder: interactions.csv, items.csv, posters/. Research use only; it
    may not be passed on. Every rating counts as an interaction, whatever its stars. The first genre named is a film's
    category. Everyone has at least 20 ratings, so cold films are made by taking their ratings away.

    side:       the posters are resized to side x side pixels.
    cold:       films that are set apart, their ratings dropped.
    split_seed: of the choice of cold films.
    """

    version: ClassVar[int] = 1
    side: int = 64
    cold: int = 100
    split_seed: int = 0

    def __post_init__(self) -> None:
        from countermove.recommender.data.reading import check_side

        check_side(self.side)

    def __call__(self, *, root: Path | None = None) -> Shop:
        """Read ratings and posters; the last film by time is tested, the one before it validates."""
        import torch

        from countermove.recommender.data.reading import read_item_pictures
        from countermove.recommender.shop import Log, open_shop

        folder = _folder(root)
        films = {row["item_id"]: row["genres"].partition(" ")[0] for row in _rows(folder / "items.csv")}
        ratings = _rows(folder / "interactions.csv")
        files = {film: folder / "posters" / f"{film}.jpg" for film in films}
        items, pictures, _ = read_item_pictures(files, side=self.side, max_pixels=10_000_000, on_broken="fail")
        genres = sorted({genre for genre in films.values() if genre})
        number = {genre: k for k, genre in enumerate(genres)}
        return open_shop(
            "movielens-posters",
            Log(
                users=[row["user_id"] for row in ratings],
                items=[row["item_id"] for row in ratings],
                times=[float(row["timestamp"]) for row in ratings],
            ),
            items,
            pictures,
            cold=self.cold,
            cold_from="any",
            split="last",
            split_seed=self.split_seed,
            categories=genres,
            category=torch.tensor([number.get(films[item], -1) for item in items]),
        )

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the tables and the posters."""
        folder = _folder(root)
        posters = sorted((folder / "posters").glob("*.jpg"))
        files = [(path.name, path) for path in [folder / "items.csv", folder / "interactions.csv", *posters]]
        return fingerprint_files(files, rehash=rehash)


def _folder(root: Path | None) -> Path:
    folder = data_folder(root) / FOLDER
    if not (folder / "interactions.csv").is_file():
        raise DataError(
            f"{folder} does not hold interactions.csv: put MovieLens with posters there, or name the folder above it "
            "in COUNTERMOVE_DATA"
        )
    return folder


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table in UTF-8: {error}") from None
