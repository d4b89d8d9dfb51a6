"""A few photographed scenes among vacation pictures."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from countermove.errors import ConfigError, DataError, did_you_mean
from countermove.game.content import fingerprint_files
from countermove.pixels.files import safe_child, walk_pictures
from countermove.retrieval.data.grocery import FOLDER as GROCERY
from countermove.retrieval.data.grocery import list_photos
from countermove.retrieval.data.reading import check_sides, lazily, needed_folder

if TYPE_CHECKING:
    from countermove.retrieval.collection import Collection

FOLDER = "landmarks_small"
DISTRACTORS, PUBLIC = "boofcv_vacation", "vpr_toy"
Queries = Literal["all", "first"]
Public = Literal["streets", "groceries"]


@dataclass(frozen=True, kw_only=True)
class Landmarks:
    """Eight scenes in three views each, among 148 vacation pictures, from BoofCV's examples (P. Abeles).

    Read from landmarks_small in the data folder. The pictures are for non-commercial use with acknowledgement. Every
    view should find the two others; all are indexed, and a query's own picture is ignored. Eight scenes rank no engine:
    differences between engines here are descriptive.

    queries: "all": every view is one; "first": the first of each scene.
    public:  what vocabularies and backbones are learned from. "streets": the 22 pictures of VPR-methods-evaluation's
             toy set (MIT licence), in no classes, so that they teach no backbone. "groceries": the photos of `grocery`,
             in 81 classes, as far from landmarks as can be.
    longest: longer sides above so many pixels are shrunk to it (originals: 300 for the vacation pictures, up to 826 for
             the scenes).
    """

    version: ClassVar[int] = 1
    keyed_when_set: ClassVar[tuple[str, ...]] = ("public",)
    queries: Queries = "all"
    public: Public = "streets"
    longest: int = 320

    def __post_init__(self) -> None:
        for name, known in (("queries", get_args(Queries)), ("public", get_args(Public))):
            value = str(getattr(self, name))
            if value not in known:
                raise ConfigError(f"landmarks: unknown {name} {value!r}; {did_you_mean(value, known)}")
        check_sides("landmarks", longest=self.longest)

    def __call__(self, *, root: Path | None = None) -> Collection:
        """List the pictures; they are read when they are asked for.

        Raises:
            DataError: when the data are not there, or groups.csv names what is not.
        """
        import torch

        from countermove.retrieval.collection import Collection, Wanted

        scenes, searched = self._searched(root)
        public, labels, classes = self._public(root)
        files = searched + public
        group = torch.tensor(list(scenes.values()))
        rows = torch.arange(len(group))
        if self.queries == "all":
            queries = rows
        else:
            queries = torch.tensor([int(rows[group == scene][0]) for scene in group.unique()])
        return Collection(
            name="landmarks",
            pictures=lazily([path for _, path in files], self.longest),
            ids=tuple(name for name, _ in files),
            indexed=torch.arange(len(searched)),
            queries=queries,
            boxes=(None,) * len(queries),
            wanted={
                "": tuple(
                    Wanted(positive=rows[(group == group[row]) & (rows != row)], ignored=row[None]) for row in queries
                )
            },
            public=torch.arange(len(searched), len(files)),
            public_labels=torch.tensor(labels, dtype=torch.int64),
            public_classes=classes,
            warning="eight scenes rank no engine: numbers here are descriptive",
        )

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over names, scenes and contents of all pictures."""
        scenes, searched = self._searched(root)
        public, labels, _ = self._public(root)
        extra = [f"{name}={scene}" for name, scene in scenes.items()]
        extra += map(str, labels if self.public == "groceries" else ())
        return fingerprint_files(searched + public, rehash=rehash, extra=extra)

    def _public(self, root: Path | None) -> tuple[list[tuple[str, Path]], list[int], tuple[str, ...]]:
        """Return the public's files, their classes by number, and the classes' names."""
        if self.public == "groceries":
            names, photos = list_photos(needed_folder("grocery", GROCERY, root))
            shelf = [photo for photo in photos if photo.part != "iconic"]
            return [(f"grocery/{photo.id}", photo.path) for photo in shelf], [p.kind for p in shelf], tuple(names)
        files = _pictures(needed_folder("landmarks", FOLDER, root), PUBLIC)
        return files, [0] * len(files), ("street",) if files else ()

    def _searched(self, root: Path | None) -> tuple[dict[str, int], list[tuple[str, Path]]]:
        """Return the scene of each scene's view by name, and the files that are searched: views, distractors."""
        folder = needed_folder("landmarks", FOLDER, root)
        table = folder / "groups.csv"
        try:
            with table.open(encoding="utf-8", newline="") as file:
                scenes = {row["file"]: int(row["scene"]) for row in csv.DictReader(file)}
        except OSError as error:
            raise DataError(f"{table} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise DataError(f"{table} should have columns file and scene: {error!r}") from None
        files = [(name, safe_child(folder, name)) for name in scenes] + _pictures(folder, DISTRACTORS)
        absent = [name for name, path in files if not path.is_file()]
        if absent:
            raise DataError(f"{table} names {absent[0]}, which is not there")
        return scenes, files


def _pictures(folder: Path, part: str) -> list[tuple[str, Path]]:
    """Return the names and files of all pictures of a part, if it is there."""
    names = walk_pictures(folder / part) if (folder / part).is_dir() else []
    return [(f"{part}/{name}", folder / part / name) for name in names]
