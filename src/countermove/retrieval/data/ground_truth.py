"""The ground truth of Oxford, Paris and their revisited forms, from text files or the published pickles.

What is read here are names; which files these are is the collections' matter.
"""

from __future__ import annotations

import dataclasses
import io
import math
import reprlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from countermove.errors import DataError
from countermove.pixels.plain_pickle import DAMAGE, PlainUnpickler
from countermove.retrieval.collection import Box, Wanted

PREFIX = "oxc1_"
"""Stands before the names of pictures in Oxford's query files and in no other place."""

ORIGINAL = {"": (("good", "ok"), ("junk",))}
REVISITED = {
    "easy": (("easy",), ("hard", "junk")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("easy", "junk")),
}
"""By protocol: the lists whose pictures are wanted, and those whose pictures are ignored."""

_MOST_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A query.

    name:    of the query, such as all_souls_1.
    picture: the name of its picture.
    box:     what of it is searched for, in its original pixels.
    lists:   the names of pictures by what they are: good, ok, junk, or easy, hard, junk.
    """

    name: str
    picture: str
    box: Box | None
    lists: dict[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A ground truth.

    source:    the file or folder, for messages.
    queries:   what is asked.
    protocols: which of ORIGINAL and REVISITED it is for.
    indexed:   names of the pictures to search among; None: all there are.
    """

    source: str
    queries: tuple[Asked, ...]
    protocols: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=lambda: dict(ORIGINAL))
    indexed: tuple[str, ...] | None = None

    def names(self) -> list[str]:
        """Return all pictures that are named, each once, sorted."""
        listed = {name for asked in self.queries for names in asked.lists.values() for name in names}
        return sorted({*listed, *(asked.picture for asked in self.queries), *(self.indexed or ())})

    def without(self, names: Collection[str]) -> Truth:
        """Return it without some pictures.

        Raises:
            DataError: when one of them is a query.
        """
        gone = set(names)
        asked = [query.picture for query in self.queries if query.picture in gone]
        if asked:
            raise DataError(f"{asked[0]} is a query of {self.source} and cannot be left out")
        queries = tuple(
            dataclasses.replace(
                query, lists={w: tuple(n for n in listed if n not in gone) for w, listed in query.lists.items()}
            )
            for query in self.queries
        )
        indexed = None if self.indexed is None else tuple(name for name in self.indexed if name not in gone)
        return dataclasses.replace(self, queries=queries, indexed=indexed)

    def wanted(self, rows: Mapping[str, int]) -> dict[str, tuple[Wanted, ...]]:
        """Return what every query should find, by protocol.

        Args:
            rows: of the pictures, by name.

        Raises:
            DataError: when a picture that is named has no row.
        """
        absent = [name for name in self.names() if name not in rows]
        if absent:
            more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
            raise DataError(
                f"{self.source} names pictures that are not there: {', '.join(absent[:3])}{more}. "
                "Fetch them, or give the ground truth that belongs to these pictures"
            )

        def found(asked: Asked, lists: Sequence[str]) -> torch.Tensor:
            names = {name for which in lists for name in asked.lists[which]}
            return torch.tensor(sorted(rows[name] for name in names), dtype=torch.int64)

        return {
            protocol: tuple(Wanted(positive=found(q, good), ignored=found(q, junk)) for q in self.queries)
            for protocol, (good, junk) in self.protocols.items()
        }


def read_text_truth(folder: Path) -> Truth:
    """Read the files <landmark>_<n>_query.txt and the lists _good.txt, _ok.txt and _junk.txt beside each.

    A query file holds a picture's name and its box, left top right bottom; a list one name a line.

    Raises:
        DataError: when there are none, a list is absent, or a file is not of this form.
    """
    files = sorted(folder.glob("*_query.txt"))
    if not files:
        raise DataError(f"{folder} has no file <landmark>_<number>_query.txt; give the folder of the text ground truth")
    queries = []
    for file in files:
        name = file.name.removesuffix("_query.txt")
        words = _lines(file)
        if len(words) != 1 or len(parts := words[0].split()) != 5:
            raise DataError(f"{file} must hold one line: a picture's name, left, top, right, bottom")
        lists = {which: tuple(_lines(folder / f"{name}_{which}.txt")) for which in ("good", "ok", "junk")}
        _check_lists(str(file), lists)
        picture = parts[0].removeprefix(PREFIX)
        queries.append(Asked(name=name, picture=picture, box=_box(parts[1:], str(file)), lists=lists))
    return Truth(source=str(folder), queries=tuple(queries))


def read_pickled_truth(path: Path) -> Truth:
    """Read a published gnd_*.pkl: a dict of imlist, qimlist and gnd. Nothing in it is ever run.

    gnd has bbx and junk for every query, and either ok (the original protocol) or easy and hard (the revisited one).

    Raises:
        DataError: when the file asks for anything to be loaded, is broken, or holds something else.
    """
    try:
        with path.open("rb") as file:
            held = file.read(_MOST_BYTES + 1)
        if len(held) > _MOST_BYTES:
            raise DataError(f"{path} has more than {_MOST_BYTES:,} bytes; no published ground truth is so large")
        content = PlainUnpickler(io.BytesIO(held), path, most=len(held), strings="latin1").load()
    except DAMAGE as error:
        raise DataError(f"{path} cannot be read as a pickled ground truth: {error}. Fetch it again") from None
    if not isinstance(content, dict) or not {"imlist", "qimlist", "gnd"} <= content.keys():
        raise DataError(f"{path} is no ground truth: it should hold imlist, qimlist and gnd")
    indexed, pictures = (_texts(content[key], f"{path}: {key}") for key in ("imlist", "qimlist"))
    answers = content["gnd"]
    if not isinstance(answers, list) or len(answers) != len(pictures) or not answers:
        raise DataError(f"{path}: gnd should have one entry for each of the {len(pictures)} queries in qimlist")
    revisited = isinstance(answers[0], dict) and "easy" in answers[0]
    keys = ("easy", "hard", "junk") if revisited else ("ok", "junk")
    queries = []
    for row, (picture, answer) in enumerate(zip(pictures, answers, strict=True)):
        where = f"{path}: gnd[{row}]"
        if not isinstance(answer, dict) or not set(keys) <= answer.keys():
            raise DataError(f"{where} should hold {', '.join(keys)}")
        lists = {key: tuple(indexed[i] for i in _numbers(answer[key], len(indexed), f"{where}[{key}]")) for key in keys}
        _check_lists(where, lists)
        if not revisited:
            lists["good"] = ()
        box = _box(answer["bbx"], where) if answer.get("bbx") is not None else None
        queries.append(Asked(name=f"{row}", picture=picture, box=box, lists=lists))
    protocols = dict(REVISITED if revisited else ORIGINAL)
    return Truth(source=str(path), queries=tuple(queries), protocols=protocols, indexed=indexed)


def read_truth(path: Path) -> Truth:
    """Read a folder of text files, or a published pickle."""
    return read_text_truth(path) if path.is_dir() else read_pickled_truth(path)


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read ({error}); the text ground truth has it") from None


def _check_lists(where: str, lists: Mapping[str, Sequence[str]]) -> None:
    seen: dict[str, str] = {}
    for which, names in lists.items():
        for name in names:
            if seen.setdefault(name, which) != which:
                raise DataError(f"{where}: {name} is both {seen[name]} and {which}")


def _box(values: Any, where: str) -> Box:
    try:
        left, top, right, bottom = (float(value) for value in values)
    except (TypeError, ValueError):
        raise DataError(
            f"{where}: the box {reprlib.repr(values)} is not four numbers: left, top, right, bottom"
        ) from None
    if not all(map(math.isfinite, (left, top, right, bottom))) or right <= left or bottom <= top:
        raise DataError(f"{where}: the box {(left, top, right, bottom)} is empty; it is left, top, right, bottom")
    return left, top, right, bottom


def _texts(values: Any, where: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise DataError(f"{where} should be a list of names")
    return tuple(values)


def _numbers(values: Any, below: int, where: str) -> list[int]:
    if not isinstance(values, list) or any(isinstance(v, bool) or not isinstance(v, int) for v in values):
        raise DataError(f"{where} should be a list of numbers of pictures")
    if any(not 0 <= value < below for value in values):
        raise DataError(f"{where} points outside the {below} pictures of imlist")
    return values
