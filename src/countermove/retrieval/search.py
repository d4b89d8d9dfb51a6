"""An image-search engine for a folder: built, added to, saved and loaded, searched by a picture or a part of one."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from countermove.errors import ConfigError, DataError, RunError, did_you_mean
from countermove.pixels.decode import words
from countermove.pixels.files import OnBroken, read_picture, walk_pictures, write_atomic
from countermove.retrieval.backbone import read_backbone
from countermove.retrieval.backbones.small import common_side
from countermove.retrieval.collection import Box, Collection
from countermove.retrieval.engine import Engine, Index
from countermove.retrieval.indexes.local_features import LocalFeatures
from countermove.retrieval.indexes.neural import Neural, NeuralIndex
from countermove.retrieval.methods import METHODS
from countermove.retrieval.search_stored import (
    FACTS,
    FORMAT,
    earlier_saves,
    opened_neural,
    read_search,
    save_learned,
    seeing,
)
from countermove.retrieval.seeing import LONGEST, check_longest, pixels_of, seen
from countermove.retrieval.trained import Watch, data_of, nothing, trained_describer

PORTION, PORTION_PIXELS = 256, 1 << 26
"""Pictures in memory at once; 64 million pixels take some 200 MB."""

Query = str | Path | Image.Image | np.ndarray


@dataclass(frozen=True, slots=True)
class Found:
    """A result: the picture's path below the folder, its score (higher is better), and its rank, from 1."""

    path: str
    score: float
    rank: int


class ImageSearch:
    """Pictures of a folder, searched by example. Exact: every picture is compared.

    folder:  where the pictures are; an id is a path below it, with slashes.
    ids:     of all pictures, in the index's order.
    engine:  spelled as on the command line.
    longest: longer sides above so many pixels are shrunk to it, of pictures and of queries.
    skipped: a message for every broken picture that was left out.
    """

    def __init__(
        self, folder: Path, engine: str, index: Index, ids: Sequence[str], *, longest: int, learned: dict[str, Any]
    ) -> None:
        """Put the parts together; use `build` or `load`."""
        self.folder, self.engine, self.longest = folder, engine, longest
        self.ids = list(ids)
        self.skipped: list[str] = []
        self._index, self._learned = index, learned

    @classmethod
    def build(
        cls,
        folder: Path | str,
        engine: str = "global",
        *,
        collection: str | None = None,
        seed: int = 0,
        device: str = "cpu",
        longest: int = LONGEST,
        on_broken: OnBroken = "fail",
        watch: Watch = lambda *_: None,
    ) -> ImageSearch:
        """Index all pictures of a folder, at any depth.

        Args:
            folder: with PNG, JPEG, WebP and BMP files; never written to.
            engine: 'neural(backbone="public(weights=torchvision:resnet50)")', "global", "global(descriptor=gist)",
                "local(words=2000)", ...
            collection: on whose public pictures small backbones, vocabularies and whitening are trained: "grocery", or
                another of `countermove ls data --arena retrieval`. Backbones are kept in the cache folder.
            seed: of that training.
            device: where networks run.
            longest: longer sides above so many pixels are shrunk to it.
            on_broken: "fail" ends at a broken picture, "skip" leaves it out and notes it in `skipped`.
            watch: told about progress.

        Raises:
            ConfigError: an engine that is unknown, or must be trained and is not told on what.
            DataError: no picture, or a broken one.
            WeightsError: weights that are absent.
        """
        folder, longest = Path(folder), check_longest(longest)
        spelled, method = read_engine(engine)
        known = data_of(collection)
        check_taught(spelled, method, taught=known is not None)
        names = walk_pictures(folder)
        if not names:
            raise DataError(f"{folder} holds no pictures; expected .jpg, .png, .webp or .bmp files, in folders or not")
        teacher: Collection = nothing() if known is None else known.method()
        own = method.looks()
        describer = None
        if own is not None:
            describer = trained_describer(own, known, teacher, seed=seed, device=device, watch=watch)
        skipped: list[str] = []
        found: ImageSearch | None = None
        for some, pictures in _portions(folder, names, longest, on_broken, skipped, watch):
            if found is None:
                index = method.index(teacher, pictures, describer=describer, seed=seed, device=device)
                learned = {"data": collection, "seed": seed, "side": _side(own, teacher)}
                found = cls(folder, spelled, index, some, longest=longest, learned=learned)
            else:
                found._index.add(pictures)
                found.ids += some
        if found is None:
            raise DataError(f"{folder} holds no readable picture; the first message: {skipped[0]}")
        found.skipped = skipped
        return found

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, paths: Iterable[Path | str], *, on_broken: OnBroken = "fail") -> list[str]:
        """Put more pictures of the folder behind those that are there; all of them, or none where one is refused.

        Args:
            paths: of files, below the folder or absolute. A folder stands for those of its pictures that are not yet
                in the index.
            on_broken: "skip" leaves broken ones out and notes them in `skipped`.

        Returns:
            The ids that were added.

        Raises:
            DataError: a file outside the folder, one that is in the index already or given twice, or a broken one.
        """
        names, before = self._new(paths), len(self)
        skipped: list[str] = []
        try:
            for some, pictures in _portions(self.folder, names, self.longest, on_broken, skipped, lambda *_: None):
                self._index.add(pictures)
                self.ids += some
        except BaseException:
            self._index.remove(range(before, len(self._index)))
            del self.ids[before:]
            raise
        self.skipped += skipped
        return self.ids[before:]

    def remove(self, paths: Iterable[Path | str]) -> None:
        """Take pictures out of the index; their files may be gone already.

        Raises:
            DataError: on one that is not in the index, or when none would be left.
        """
        places = {name: row for row, name in enumerate(self.ids)}
        names = list(dict.fromkeys(self._id(path) for path in paths))
        for name in names:
            if name not in places:
                raise DataError(f"{name} is not in the index; {did_you_mean(name, self.ids[:1000])}")
        if len(names) == len(self):
            raise DataError("no picture would be left; build an index of another folder instead")
        self._index.remove([places[name] for name in names])
        gone = set(names)
        self.ids = [name for name in self.ids if name not in gone]

    def search(self, query: Query, k: int = 10, box: Box | None = None) -> list[Found]:
        """Return the k pictures that fit a query best, the best first; of equals, the one that was added first.

        Args:
            query: a file, which need not be of the folder, a Pillow picture, or an array uint8 [H, W, 3], RGB.
            k: at most so many.
            box: search for this part only: left, top, right, bottom in pixels of the query.

        Raises:
            ConfigError: when k is below 1.
            DataError: a query that is no picture, or a box outside of it.
        """
        if k < 1:
            raise ConfigError(f"k = {k} is refused: at least 1 picture is returned")
        pixels = read_picture(query) if isinstance(query, (str, Path)) else pixels_of(query)
        looked = [seen(pixels, self.longest, box)]
        index = self._index
        if isinstance(index, NeuralIndex) and index.engine.settings.search == "faiss":
            values, rows = (part[0] for part in index.search(looked, k))
        else:
            scores = index.scores(looked)[0]
            rows = scores.argsort(descending=True, stable=True)[:k]
            values = scores[rows]
        pairs = zip(values.tolist(), rows.tolist(), strict=True)
        return [Found(self.ids[row], value, rank) for rank, (value, row) in enumerate(pairs, start=1)]

    def save(self, folder: Path | str) -> None:
        """Write the index, with all that it learned, into a new folder or over an earlier save. Nothing is pickled.

        Weights from elsewhere are not copied; loading reads them again and refuses others. An earlier save stays
        whole until the new one is.

        Raises:
            RunError: when the folder holds other things, or cannot be written.
        """
        folder = Path(folder)
        earlier = earlier_saves(folder)
        held = f"index-{secrets.token_hex(8)}"
        self._index.save(folder / held)
        try:
            save_learned(self._index, folder / held)
        except (OSError, SafetensorError) as error:
            raise RunError(f"{folder} cannot be written: {words(error)}. Free space or choose another folder") from None
        facts = {
            "format": FORMAT,
            "engine": self.engine,
            "pictures": str(self.folder.resolve()),
            "seeing": seeing(self.longest),
            "held": held,
            **self._learned,
            "ids": self.ids,
        }
        write_atomic(folder / FACTS, json.dumps(facts, indent=1, ensure_ascii=False).encode())
        for old in earlier:
            shutil.rmtree(old, ignore_errors=True)

    @classmethod
    def load(cls, folder: Path | str, *, pictures: Path | str | None = None, device: str = "cpu") -> ImageSearch:
        """Open a saved index.

        Args:
            folder: where it was saved.
            pictures: where the indexed folder is now, if it was moved.
            device: where networks run.

        Raises:
            DataError: when there is none, it is broken, or was built with other weights, settings or another version.
            WeightsError: when weights from elsewhere are absent.
        """
        folder = Path(folder)
        facts = read_search(folder)
        if facts["seeing"] != seeing(facts["longest"]):
            raise DataError(
                f"the index in {folder} was built otherwise: pictures were read as {facts['seeing']}, now as "
                f"{seeing(facts['longest'])}. Build it again"
            )
        spelled, method = read_engine(facts["engine"])
        held = folder / facts["held"]
        if isinstance(method, Neural):
            index: Index = opened_neural(method, held, facts, device)
        else:
            index = method.opened(held, nothing(), describer=None, device=device)
        if len(index) != len(facts["ids"]):
            raise DataError(
                f"the index in {folder} has {len(index)} pictures and {len(facts['ids'])} names. Build it again"
            )
        learned = {name: facts[name] for name in ("data", "seed", "side")}
        place = Path(facts["pictures"] if pictures is None else pictures)
        return cls(place, spelled, index, facts["ids"], longest=facts["longest"], learned=learned)

    def _new(self, paths: Iterable[Path | str]) -> list[str]:
        names, known = [], set(self.ids)
        for path in paths:
            name = self._id(path)
            if (self.folder / name).is_dir():
                below = [inner if name == "." else f"{name}/{inner}" for inner in walk_pictures(self.folder / name)]
                fresh = [one for one in below if one not in known]
            elif name in known:
                raise DataError(f"{name} is in the index already, or given twice; remove it first, if it has changed")
            else:
                fresh = [name]
            known.update(fresh)
            names += fresh
        return names

    def _id(self, path: Path | str) -> str:
        """Return the id of a path below the folder."""
        inside = self.folder.resolve()
        full = (inside / path).resolve()
        if not full.is_relative_to(inside):
            raise DataError(f"{path} is not in {self.folder}, whose pictures are indexed; put it there, or build anew")
        return full.relative_to(inside).as_posix()


def read_engine(spelled: str) -> tuple[str, Engine]:
    """Return an engine's canonical spelling and itself.

    Raises:
        ConfigError: when it is unknown, or several.
    """
    composed = METHODS.compose("model", spelled)
    if len(composed.parts) != 1:
        raise ConfigError(f"engine {spelled!r} is refused: name one")
    return composed.spelling, composed.method


def check_taught(spelled: str, method: Engine, *, taught: bool) -> None:
    """Refuse an engine that must learn and is not told from what."""
    own = method.looks()
    needs = ""
    if own is not None and read_backbone(own, "engine neural")[1].stored:
        needs = f"the backbone {own}"
    elif isinstance(method, Neural) and method.whitening in ("pca", "learned"):
        needs = f"whitening={method.whitening}"
    elif isinstance(method, LocalFeatures):
        needs = "a vocabulary of words"
    if needs and not taught:
        raise ConfigError(
            f"engine {spelled!r} needs {needs}, which is learned from public pictures; say from which: "
            "collection='grocery', or another one of `countermove ls data --arena retrieval`. The engine global, and "
            "neural with public weights, learn nothing"
        )


def _portions(
    folder: Path, names: Sequence[str], longest: int, on_broken: OnBroken, skipped: list[str], watch: Watch
) -> Iterator[tuple[list[str], list[Tensor]]]:
    """Yield names and pictures as engines see them, some at a time."""
    some: list[str] = []
    pictures: list[Tensor] = []
    for at, name in enumerate(names):
        watch("indexing", at, len(names))
        try:
            picture = seen(read_picture(folder / name), longest)
        except DataError as error:
            if on_broken == "fail":
                raise
            skipped.append(str(error))
            continue
        some.append(name)
        pictures.append(picture)
        if len(some) == PORTION or sum(one[0].numel() for one in pictures) >= PORTION_PIXELS:
            yield some, pictures
            some, pictures = [], []
    if some:
        yield some, pictures
    watch("indexing", len(names), len(names))


def _side(own: str | None, teacher: Collection) -> int:
    """Return the side that a small backbone was built for, 0 where there is none."""
    backbone: Any = None if own is None else read_backbone(own, "engine neural")[1]
    return (backbone.side or common_side(teacher)) if backbone is not None and backbone.stored else 0
