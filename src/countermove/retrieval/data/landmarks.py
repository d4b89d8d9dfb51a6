"""A few photographed scenes among vacation pictures."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from countermove.errors import ConfigError, DataError, did_you_mean
from countermove.game.content import fingerprint_files
from countermove.pixels.files import safe_child, walk_pictures
from countermove.retrieval.data.reading import check_sides, lazily, needed_folder

if TYPE_CHECKING:
    from countermove.retrieval.collection import Collection

FOLDER = "landmarks_small"
DISTRACTORS, PUBLIC = "boofcv_vacation", "vpr_toy"
Queries = Literal["all", "first"]


@dataclass(frozen=True, kw_only=True)
class Landmarks:
    """Eight scenes in three views each, among 148 vacation pictures, from BoofCV's examples (P. Abeles).

    Read from landmarks_small in the data folder. The pictures are for non-commercial use with acknowledgement. Every
    view should find the two others; all are indexed, and a query's own picture is ignored. The 22 street pictures of
    VPR-methods-evaluation's toy set (MIT licence) are the public's; they are in no classes, so they can teach a
    vocabulary but no classifier. Eight scenes rank no engine: differences between engines here are descriptive.

    queries: "all": every view is one; "first": the first of each scene.
    longest: longer sides above so many pixels are shrunk to it (originals: 300 for the vacation pictures, up to 826 for
             the scenes).
    """

    version: ClassVar[int] = 1
    queries: Queries = "all"
    longest: int = 320

    def __post_init__(self) -> None:
        if self.queries not in get_args(Queries):
            raise ConfigError(
                f"landmarks: unknown queries {self.queries!r}; {did_you_mean(str(self.queries), get_args(Queries))}"
            )
        check_sides("landmarks", longest=self.longest)

    def __call__(self, *, root: Path | None = None) -> Collection:
        """List the pictures; they are read when they are asked for.

        Raises:
            DataError: when the data are not there, or groups.csv names what is not.
        """
        import torch

        from countermove.retrieval.collection import Collection, Wanted

        scenes, files = self._files(root)
        group = torch.tensor(list(scenes.values()))
        rows = torch.arange(len(group))
        if self.queries == "all":
            queries = rows
        else:
            queries = torch.tensor([int(rows[group == scene][0]) for scene in group.unique()])
        searched = [row for row, (name, _) in enumerate(files) if not name.startswith(f"{PUBLIC}/")]
        public = torch.arange(len(searched), len(files))
        return Collection(
            name="landmarks",
            pictures=lazily([path for _, path in files], self.longest),
            ids=tuple(name for name, _ in files),
            indexed=torch.tensor(searched),
            queries=queries,
            boxes=(None,) * len(queries),
            wanted={
                "": tuple(
                    Wanted(positive=rows[(group == group[row]) & (rows != row)], ignored=row[None]) for row in queries
                )
            },
            public=public,
            public_labels=torch.zeros(len(public), dtype=torch.int64),
            public_classes=("street",) if len(public) else (),
            warning="eight scenes rank no engine: numbers here are descriptive",
        )

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over names, scenes and contents of all pictures."""
        scenes, files = self._files(root)
        return fingerprint_files(files, rehash=rehash, extra=[f"{name}={scene}" for name, scene in scenes.items()])

    def _files(self, root: Path | None) -> tuple[dict[str, int], list[tuple[str, Path]]]:
        """Return the scene of each scene's view by name, and all files: views, distractors, the public's."""
        folder = needed_folder("landmarks", FOLDER, root)
        table = folder / "groups.csv"
        try:
            with table.open(encoding="utf-8", newline="") as file:
                scenes = {row["file"]: int(row["scene"]) for row in csv.DictReader(file)}
        except OSError as error:
            raise DataError(f"{table} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise DataError(f"{table} should have columns file and scene: {error!r}") from None
        files = [(name, safe_child(folder, name)) for name in scenes]
        for part in (DISTRACTORS, PUBLIC):
            if (folder / part).is_dir():
                names = walk_pictures(folder / part)
                files += [(f"{part}/{name}", folder / part / name) for name in names]
        absent = [name for name, path in files if not path.is_file()]
        if absent:
            raise DataError(f"{table} names {absent[0]}, which is not there")
        return scenes, files
