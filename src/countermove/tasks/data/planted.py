"""Texts made in code, for tests and first steps."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.tasks.task import Texts, TextTask

TOPICS = (
    ("river", "boat", "sail", "harbour", "tide", "anchor", "island", "storm"),
    ("letter", "lady", "marriage", "fortune", "carriage", "dance", "estate", "sister"),
    ("murder", "clue", "detective", "police", "pistol", "witness", "crime", "footprint"),
    ("school", "lesson", "teacher", "pupil", "book", "church", "garden", "window"),
)
FILLERS = ("the", "a", "of", "and", "in", "was", "he", "she", "it", "with", "very", "old", "near", "upon", "said")


@dataclass(frozen=True, kw_only=True)
class PlantedWords:
    """Made-up texts on up to four topics: half of the words are the topic's own.

    topics: how many.
    train:  texts to train on.
    test:   texts to test on.
    words:  in a text; every second is the topic's.
    length: tokens of a text at most.
    """

    version: ClassVar[int] = 1
    topics: int = 4
    train: int = 400
    test: int = 400
    words: int = 12
    length: int = 32

    def __post_init__(self) -> None:
        if not 2 <= self.topics <= len(TOPICS) or min(self.train, self.test) < self.topics or self.words < 4:
            raise ConfigError("planted-words: 2 to 4 topics, at least as many texts, at least 4 words a text")

    def __call__(self, *, root: Path | None = None) -> TextTask:
        """Make the texts; the same ones every time."""
        source = random.Random(0)  # noqa: S311
        train, test = (
            self._texts(count, split, source) for count, split in ((self.train, "train"), (self.test, "test"))
        )
        names = tuple(words[0] for words in TOPICS[: self.topics])
        return TextTask(name="planted-words", classes=names, train=train, test=test, length=self.length)

    def _texts(self, count: int, split: str, source: random.Random) -> Texts:
        labels = [i % self.topics for i in range(count)]
        texts = []
        for label in labels:
            own = [source.choice(TOPICS[label]) for _ in range(self.words // 2)]
            words = [*own, *(source.choice(FILLERS) for _ in range(self.words - len(own)))]
            source.shuffle(words)
            texts.append(" ".join(words))
        return Texts(texts=texts, labels=labels, ids=[f"{split}/{i}" for i in range(count)])
