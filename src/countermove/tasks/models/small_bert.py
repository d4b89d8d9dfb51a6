"""A small BERT, pre-trained on books at hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.tasks.bases import base_key, pretrained_folder
from countermove.tasks.books import book_files
from countermove.tasks.pretraining import BertSize, Watch


@dataclass(frozen=True, kw_only=True)
class SmallBert:
    """A small BERT that guesses masked words of 66 books, Devlin et al. 2019, arXiv:1810.04805.

    Trained once from books_text/ in the data folder (18 MB of public-domain English) and kept in the cache folder;
    every run and seed uses the same one. The usual size takes about fifteen minutes on two cores. No next-sentence
    task; masks are drawn anew in every pass; no dropout.

    width, layers, heads: of the encoder.
    vocabulary: tokens (byte-level pairs), learned from the same books.
    epochs:     over the books.
    build:      another number is another draw of weights, order and masks.
    """

    version: ClassVar[int] = 1
    full_lr: ClassVar[float] = 5e-4
    width: int = 128
    layers: int = 4
    heads: int = 2
    vocabulary: int = 8192
    epochs: int = 3
    build: int = 0

    def __post_init__(self) -> None:
        if min(self.layers, self.heads, self.epochs) < 1 or self.width % self.heads or self.vocabulary < 300:
            raise ConfigError("small-bert: layers, heads and epochs are above 0, heads divide width, vocabulary >= 300")

    def check(self) -> None:
        """Raise where there are no books."""
        book_files()

    def content(self, *, device: str = "cpu", rehash: bool = False) -> str:
        """Return the key under which it is kept."""
        return base_key(self._size(), seed=self.build, device=device, rehash=rehash)

    def folder(self, *, device: str = "cpu", watch: Watch = lambda *_: None) -> Path:
        """Return where it lies; trained first, where it is not there."""
        return pretrained_folder(self._size(), seed=self.build, device=device, watch=watch)

    def _size(self) -> BertSize:
        return BertSize(
            width=self.width, layers=self.layers, heads=self.heads, vocabulary=self.vocabulary, epochs=self.epochs
        )
