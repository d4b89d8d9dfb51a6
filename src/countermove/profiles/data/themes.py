"""Collections of pictures whose owners differ in what they collect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from countermove.errors import ConfigError, DataError, did_you_mean
from countermove.game.content import fingerprint_files
from countermove.pixels.selection import pick
from countermove.profiles.data.drafts import Draft, Plan, check_least, check_split, shuffled, split_drafts
from countermove.profiles.data.reading import read_rows, read_tiles, set_folder

if TYPE_CHECKING:
    from countermove.profiles.dataset import Profiles

GROCERY = ("train.png", "train.csv", "test.png", "test.csv")
TILE = 48
VALUES = ("others", "theme")
# A theme that would be drawn empty in one unlucky draw out of a thousand is too small.
SPARE = 3.1


@dataclass(frozen=True, kw_only=True)
class Themes:
    """Users' collections of labelled pictures, half of the users with a leaning towards a theme.

    A theme is a group of the source's classes. Every user draws items one by one, first whether it belongs to the
    theme, then any picture of that group. With "spread" evidence the theme is half of all pictures, and users take from
    it with probability 1/2 + tilt or 1/2 - tilt: every item leans to its owner's value. With "concentrated" evidence
    it is as many classes as are needed, which those of the one value take with probability `share` and those of the
    other with `base`; everything else is alike, and most items of either say "others". No picture is in two profiles,
    in the background and in a profile, or public and anything else; the background is what further users collected.

    The chapter's users are real and its groups of pictures are not chosen; here the attribute is made, so that it is
    known how much an item can say.

    source:     "grocery48" (Grocery Store Dataset, Klasson et al. 2019, 43 kinds, 5,421 pictures of 48 x 48, from
                grocery48/ in the data folder, MIT; neighbouring photos of one shelf can be much alike) or "cifar10"
                (Krizhevsky 2009, 10 classes, 9,085 pictures of 32 x 32, from cifar10_lossless/).
    evidence:   "spread" or "concentrated".
    theme:      classes of the theme, joined by "+", such as "Apple+Pear"; without it, chosen by the seed.
    tilt:       of spread evidence.
    share:      of concentrated evidence: how likely an item of a themed user shows the theme,
    base:       and an item of another user.
    profiles:   how many, half of each value; each has an owner of its own.
    items:      of each profile.
    background: items that anybody may add.
    public:     share of all pictures that extractors may be trained on, of every class alike; labelled with the
                source's classes.
    validation: share of owners.
    test:       share of owners.
    split_seed: another seed chooses other owners.
    seed:       another seed chooses another theme, other public pictures and other collections.
    """

    version: ClassVar[int] = 1
    source: Literal["grocery48", "cifar10"] = "grocery48"
    evidence: Literal["spread", "concentrated"] = "spread"
    theme: str | None = None
    tilt: float = 0.2
    share: float = 0.4
    base: float = 0.05
    profiles: int = 300
    items: int = 10
    background: int = 500
    public: float = 0.3
    validation: float = 0.1
    test: float = 0.3
    split_seed: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_split("themes", self)
        check_least("themes", self, profiles=8, items=1, background=0)
        if self.source not in ("grocery48", "cifar10"):
            raise ConfigError(f"themes: source = {self.source!r} is refused; it is grocery48 or cifar10")
        if self.evidence not in ("spread", "concentrated"):
            raise ConfigError(f"themes: evidence = {self.evidence!r} is refused; it is spread or concentrated")
        if self.profiles % 2:
            raise ConfigError(f"themes: profiles = {self.profiles} is refused: half of them have each value")
        if not 0 <= self.tilt <= 0.5:
            raise ConfigError(f"themes: tilt = {self.tilt:g} is refused: it lies in 0..0.5")
        if not 0 <= self.base <= self.share <= 1:
            raise ConfigError(
                f"themes: share = {self.share:g} and base = {self.base:g} are refused: 0 <= base <= share <= 1"
            )
        if not 0 <= self.public < 1:
            raise ConfigError(f"themes: public = {self.public:g} is refused: it lies in 0..1, below 1")

    @property
    def split(self) -> str:
        """Return how profiles are split: here every owner has one."""
        return "owners"

    def __call__(self, *, root: Path | None = None) -> Profiles:
        """Read all pictures and let every user collect.

        Raises:
            DataError: when the data are not there, or hold too few pictures for so many items.
        """
        import torch

        pictures, labels, ids, classes = self._source(root)
        public = np.zeros(len(ids), dtype=bool)
        for k in range(len(classes)):
            mine = np.flatnonzero(labels == k)
            public[mine] = pick([ids[i] for i in mine], self.public, seed=self.seed, purpose="themes, public")
        theme = self._theme(labels[~public], classes)
        themed = np.isin(labels, sorted(theme))
        piles = tuple(
            shuffled([ids[i] for i in np.flatnonzero(~public & (themed == side))], seed=self.seed, purpose="themes")
            for side in (False, True)
        )
        users = [f"user-{number:04d}" for number in range(self.profiles)]
        drafts = [
            Draft(owner=user, label=number % 2, items=self._collect(user, number % 2, self.items, piles))
            for number, user in enumerate(users)
        ]
        background: list[str] = []
        kinds: list[int] = []
        for start in range(0, self.background, self.items):
            count, value = min(self.items, self.background - start), start // self.items % 2
            background += self._collect(f"stranger-{start}", value, count, piles)
            kinds += [value] * count
        shown = np.flatnonzero(public)
        plan = Plan(
            drafts=tuple(split_drafts(drafts, self)[0]),
            classes=VALUES,
            background=tuple(background),
            kinds=tuple(kinds),
            public=tuple(ids[i] for i in shown),
            public_labels=tuple(labels[shown].tolist()),
            public_classes=classes,
        )
        row = {name: i for i, name in enumerate(ids)}
        items = torch.from_numpy(pictures[[row[name] for name in plan.ids()]]).permute(0, 3, 1, 2).contiguous()
        return plan.filled(f"themes of {self.source}", "picture", items)

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the source's files."""
        return fingerprint_files([(path.name, path) for path in self._files(root)], rehash=rehash)

    def chances(self) -> tuple[float, float]:
        """Return how likely an item shows the theme, for either value."""
        return (0.5 - self.tilt, 0.5 + self.tilt) if self.evidence == "spread" else (self.base, self.share)

    def _files(self, root: Path | None) -> list[Path]:
        if self.source == "cifar10":
            return [set_folder("cifar10_lossless", root, "cifar10_lossless.npz") / "cifar10_lossless.npz"]
        folder = set_folder("grocery48", root, *GROCERY)
        return [folder / name for name in GROCERY]

    def _source(self, root: Path | None) -> tuple[np.ndarray, np.ndarray, list[str], tuple[str, ...]]:
        """Return pictures uint8 [N, S, S, 3], labels int64 [N], ids and names of classes."""
        if self.source == "cifar10":
            return _cifar(self._files(root)[0])
        folder = self._files(root)[0].parent
        pictures, names, ids = [], [], []
        for part in ("train", "test"):
            rows = read_rows(folder / f"{part}.csv", "source_path", "coarse_name")
            pictures.append(read_tiles(folder / f"{part}.png", len(rows), TILE))
            names += [row["coarse_name"] for row in rows]
            ids += [row["source_path"] for row in rows]
        classes = tuple(sorted(set(names)))
        number = {name: k for k, name in enumerate(classes)}
        return np.concatenate(pictures), np.array([number[name] for name in names]), ids, classes

    def _theme(self, labels: np.ndarray, classes: tuple[str, ...]) -> set[int]:
        """Return the theme's classes: those named, or enough of them by the seed."""
        if self.theme is not None:
            named = self.theme.split("+")
            for name in named:
                if name not in classes:
                    raise ConfigError(f"themes: theme = {self.theme!r} is refused: {did_you_mean(name, classes)}")
            return {classes.index(name) for name in named}
        counts = Counter(labels.tolist())
        wanted = len(labels) / 2 if self.evidence == "spread" else self._needed(VALUES.index("theme"))
        theme: set[int] = set()
        there = 0
        for name in shuffled(classes, seed=self.seed, purpose="themes, theme"):
            more = counts[classes.index(name)]
            closer = abs(there + more - wanted) < abs(there - wanted)
            if closer if self.evidence == "spread" else there < wanted:
                theme.add(classes.index(name))
                there += more
        return theme

    def _needed(self, group: int) -> float:
        """Return how many pictures of a group (1: the theme) all users take, with something to spare."""
        chances = [chance if group else 1 - chance for chance in self.chances()]
        count = (self.profiles * self.items + self.background) / 2
        return sum(count * c for c in chances) + SPARE * sum(count * c * (1 - c) for c in chances) ** 0.5

    def _collect(self, user: str, value: int, count: int, piles: Sequence[list[str]]) -> tuple[str, ...]:
        """Take a user's items from the piles of other pictures and of the theme's."""
        import torch

        from countermove.pixels.randomness import generator

        draws = torch.rand(count, generator=generator(self.seed, "themes", user))
        taken = []
        for themed in (draws < self.chances()[value]).tolist():
            if not piles[themed]:
                raise DataError(
                    f"themes: {self.source} has too few pictures {'of' if themed else 'outside'} the theme for "
                    f"{self.profiles} profiles of {self.items} items and {self.background} of background; about "
                    f"{self._needed(int(themed)):.0f} are needed. Lower profiles, items, background or public"
                )
            taken.append(piles[themed].pop())
        return tuple(taken)


def _cifar(path: Path) -> tuple[np.ndarray, np.ndarray, list[str], tuple[str, ...]]:
    from countermove.pixels.files import read_npz

    names = [f"{what}_{part}" for part in ("train", "test") for what in ("x", "y")]
    file = read_npz(path, [*names, "train_index", "test_index", "class_names"])
    ids = [f"{part}/{i:05d}" for part in ("train", "test") for i in file[f"{part}_index"].tolist()]
    pictures = np.concatenate([file["x_train"], file["x_test"]])
    labels = np.concatenate([file["y_train"], file["y_test"]]).astype(np.int64)
    return pictures, labels, ids, tuple(str(name) for name in file["class_names"])
