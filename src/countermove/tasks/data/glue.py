"""Tasks from glue/ in the data folder: tab-separated files, read without quotes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from countermove.errors import ConfigError, DataError
from countermove.game.content import data_folder, fingerprint_files
from countermove.tasks.task import Texts, TextTask

FOLDER = "glue"
LONGEST_LINE = 100_000
Row = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Glue:
    """What all of them have: a limit on training rows, and one on tokens.

    rows:   training texts, an even sample by position; 0: all.
    length: tokens of a text at most.
    """

    folder: ClassVar[str]
    files: ClassVar[tuple[str, ...]]

    rows: int = 0
    length: int = 64

    def __post_init__(self) -> None:
        if self.rows < 0 or self.length < 4:
            raise ConfigError(f"rows = {self.rows}, length = {self.length} is refused: not below 0, at least 4")

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the files in use."""
        folder = self._folder(root)
        return fingerprint_files([(name, folder / name) for name in self.files], rehash=rehash)

    def _folder(self, root: Path | None) -> Path:
        folder = data_folder(root) / FOLDER / self.folder
        missing = [name for name in self.files if not (folder / name).is_file()]
        if missing:
            raise DataError(f"{folder} lacks {', '.join(missing)}; put the task's .tsv files there")
        return folder

    def _task(self, name: str, classes: tuple[str, ...], train: Texts, test: Texts) -> TextTask:
        if self.rows > len(train):
            raise DataError(f"{name}: rows = {self.rows} is more than the {len(train)} training texts there are")
        if self.rows:
            train = train.at([i * len(train) // self.rows for i in range(self.rows)])
        return TextTask(name=name, classes=classes, train=train, test=test, length=self.length)


@dataclass(frozen=True, kw_only=True)
class Sst2(_Glue):
    """SST-2, sentences from film reviews, positive or negative, Socher et al. 2013, as in GLUE (arXiv:1804.07461).

    Read from glue/SST-2/ in the data folder. GLUE's training texts are trained on (many are parts of one sentence), its
    development texts (872) are tested on, since labels of the test texts were never published.

    rows:   training texts, an even sample by position; 0: all 67,349.
    length: tokens of a text at most.
    """

    version: ClassVar[int] = 1
    folder: ClassVar[str] = "SST-2"
    files: ClassVar[tuple[str, ...]] = ("train.tsv", "dev.tsv", "test.tsv")

    def __call__(self, *, root: Path | None = None) -> TextTask:
        """Read the task.

        Raises:
            DataError: when files are not there or broken.
        """
        folder, known = self._folder(root), ("0", "1")
        rows = {name: read_table(folder / name, columns=2, header=True) for name in self.files}
        train, test = [*rows["train.tsv"], *rows["dev.tsv"]], rows["test.tsv"]
        return self._task(
            "sst-2", ("negative", "positive"), _single(train, known, "train"), _single(test, known, "dev")
        )


@dataclass(frozen=True, kw_only=True)
class AgNews(_Glue):
    """AG News, beginnings of articles from four sections, Zhang et al. 2015, arXiv:1509.01626.

    Read from glue/agnews_subset/ in the data folder: 10,001 texts to train on, the 7,600 of the published test set.

    rows:   training texts, an even sample by position; 0: all.
    length: tokens of a text at most.
    """

    version: ClassVar[int] = 1
    folder: ClassVar[str] = "agnews_subset"
    files: ClassVar[tuple[str, ...]] = ("dev.tsv", "test.tsv")
    rows: int = 8000

    def __call__(self, *, root: Path | None = None) -> TextTask:
        """Read the task.

        Raises:
            DataError: when files are not there or broken.
        """
        folder = self._folder(root)
        train, test = (read_table(folder / name, columns=2, header=False) for name in self.files)
        classes = tuple(sorted({row[1] for row in train}))
        return self._task("ag-news", classes, _single(train, classes, "train"), _single(test, classes, "test"))


@dataclass(frozen=True, kw_only=True)
class Cola(_Glue):
    """CoLA, sentences that linguists hold acceptable or not, Warstadt et al. 2018, as in GLUE (arXiv:1804.07461).

    Read from glue/CoLA/ in the data folder; tested on GLUE's 1,043 development sentences. Its metric is Matthews'
    correlation, since seven in ten are acceptable.

    rows:   training texts, an even sample by position; 0: all 8,551.
    length: tokens of a text at most.
    """

    version: ClassVar[int] = 1
    folder: ClassVar[str] = "CoLA"
    files: ClassVar[tuple[str, ...]] = ("train.tsv", "val.tsv", "dev.tsv")

    def __call__(self, *, root: Path | None = None) -> TextTask:
        """Read the task.

        Raises:
            DataError: when files are not there or broken.
        """
        folder, known = self._folder(root), ("0", "1")
        rows = {name: read_table(folder / name, columns=4, header=False) for name in self.files}
        train = [(row[3], row[1]) for name in ("train.tsv", "val.tsv") for row in rows[name]]
        test = [(row[3], row[1]) for row in rows["dev.tsv"]]
        classes = ("unacceptable", "acceptable")
        return self._task("cola", classes, _single(train, known, "train"), _single(test, known, "dev"))


@dataclass(frozen=True, kw_only=True)
class Rte(_Glue):
    """RTE, whether a sentence follows from another, Dagan et al. 2005, as in GLUE (arXiv:1804.07461).

    Read from glue/RTE/ in the data folder; tested on GLUE's 277 development pairs.

    rows:   training pairs, an even sample by position; 0: all 2,490.
    length: tokens of a pair at most.
    """

    version: ClassVar[int] = 1
    folder: ClassVar[str] = "RTE"
    files: ClassVar[tuple[str, ...]] = ("train.tsv", "val.tsv", "dev.tsv")
    length: int = 128

    def __call__(self, *, root: Path | None = None) -> TextTask:
        """Read the task.

        Raises:
            DataError: when files are not there or broken.
        """
        folder, known = self._folder(root), ("not_entailment", "entailment")
        headed = {"train.tsv": True, "val.tsv": False, "dev.tsv": True}
        rows = {name: read_table(folder / name, columns=4, header=header) for name, header in headed.items()}
        train, test = [*rows["train.tsv"], *rows["val.tsv"]], rows["dev.tsv"]
        return self._task("rte", known, _paired(train, known, "train"), _paired(test, known, "dev"))


def read_table(path: Path, *, columns: int, header: bool) -> list[Row]:
    """Return the rows of a tab-separated file.

    Raises:
        DataError: naming the line, when the file is not UTF-8, a row has other columns, or a line is longer than any
            sentence.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{path} cannot be read as UTF-8 text") from None
    found: list[Row] = []
    for number, line in enumerate(lines, 1):
        if (header and number == 1) or not line.strip():
            continue
        row = tuple(line.split("\t"))
        if len(line) > LONGEST_LINE:
            raise DataError(
                f"{path}, line {number}: {len(line):,} characters; no sentence has more than {LONGEST_LINE:,}"
            )
        if len(row) != columns:
            raise DataError(f"{path}, line {number}: {len(row)} columns where {columns} are expected")
        found.append(row)
    if not found:
        raise DataError(f"{path} holds no rows")
    return found


def _single(rows: Sequence[Row], known: Sequence[str], split: str) -> Texts:
    return Texts(
        texts=[row[0].strip() for row in rows],
        labels=[_label(row[1], known) for row in rows],
        ids=[f"{split}/{i}" for i in range(len(rows))],
    )


def _paired(rows: Sequence[Row], known: Sequence[str], split: str) -> Texts:
    return Texts(
        texts=[row[1].strip() for row in rows],
        pairs=[row[2].strip() for row in rows],
        labels=[_label(row[3], known) for row in rows],
        ids=[f"{split}/{i}" for i in range(len(rows))],
    )


def _label(text: str, known: Sequence[str]) -> int:
    if text not in known:
        raise DataError(f"the label {text!r} is none of {', '.join(known)}")
    return known.index(text)
