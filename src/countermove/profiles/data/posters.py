"""Film posters that people gave good marks as profiles."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from countermove.errors import ConfigError, DataError, did_you_mean
from countermove.game.content import fingerprint_files
from countermove.profiles.data.drafts import (
    Draft,
    Plan,
    Split,
    balanced,
    check_least,
    check_split,
    chosen,
    cut,
    split_drafts,
)
from countermove.profiles.data.reading import check_side, read_pictures, read_rows, set_folder

if TYPE_CHECKING:
    from countermove.profiles.dataset import Profiles

FOLDER = "movielens100k_posters"
TABLES = ("interactions.csv", "items.csv", "users.tsv")
LIKED = 4


@dataclass(frozen=True, kw_only=True)
class _Film:
    """A film with a poster of its own.

    poster: name of its file.
    title:  without its year.
    genres: as the table names them, in its order.
    """

    poster: str
    title: str
    genres: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PosterProfiles:
    """MovieLens-100K with film posters: what somebody liked, in time, Harper and Konstan 2015, doi:10.1145/2827872.

    Read from movielens100k_posters/ in the data folder: interactions.csv, items.csv, users.tsv, posters/. Research use
    only; it may not be passed on. A profile holds posters of films to which one user gave four stars or more, by the
    time of the rating (equal times: by id). The same poster stands in many profiles, in train and in test, as a popular
    film does; only owners are kept apart. Films that share a poster count as one. Some films are set apart as
    background and left out of all profiles, whoever liked them; of those that are left, the least liked are public,
    labelled with the first genre that the table names. Users with fewer than `items` of the other films are left out.

    attribute:  "taste": a genre's share among all films that a user liked, lowest against highest quarter of users, as
                the chapter takes quartiles of a trait; "age": youngest against oldest quarter; "gender": as users gave
                it, F or M. Ties at a quarter's edge go by id.
    genre:      of the taste.
    items:      of each profile.
    per_user:   at most so many profiles of each user; none shares a poster with another of theirs.
    newest:     whether profiles are cut from the newest end; else from the oldest.
    balance:    leave out profiles of the more frequent value until every split has equally many.
    background: share of films that anybody may add.
    public:     share of films that extractors may be trained on.
    captions:   what is written under each poster: "title", "genres" (which a taste is counted from: the text says what
                the picture hints at), or "none".
    side:       posters are resized to side x side pixels, without keeping their aspect.
    validation: share of owners.
    test:       share of owners.
    split:      "owners" keeps all of a user's profiles in one split; "profiles" does not, and warns.
    split_seed: another seed chooses other owners and another background.
    """

    version: ClassVar[int] = 1
    keyed_when_set: ClassVar[tuple[str, ...]] = ("captions",)
    attribute: Literal["taste", "age", "gender"] = "taste"
    genre: str = "Action"
    items: int = 20
    per_user: int = 1
    newest: bool = True
    balance: bool = True
    background: float = 0.2
    public: float = 0.4
    captions: Literal["none", "title", "genres"] = "none"
    side: int = 48
    validation: float = 0.1
    test: float = 0.3
    split: Split = "owners"
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_split("posters", self)
        check_side("posters", self.side)
        check_least("posters", self, items=1, per_user=1)
        if self.attribute not in ("taste", "age", "gender"):
            raise ConfigError(f"posters: attribute = {self.attribute!r} is refused; it is taste, age or gender")
        if self.captions not in ("none", "title", "genres"):
            raise ConfigError(f"posters: captions = {self.captions!r} is refused; it is none, title or genres")
        if not (0 <= self.background < 1 and 0 <= self.public < 1 and self.background + self.public < 1):
            raise ConfigError(
                f"posters: background = {self.background:g} and public = {self.public:g} are refused: they lie in 0..1 "
                "and leave something over for profiles"
            )

    def __call__(self, *, root: Path | None = None) -> Profiles:
        """Read ratings, users and the posters in use.

        Raises:
            DataError: when the data are not there, or too few users liked so many films.
        """
        folder = set_folder(FOLDER, root, *TABLES, "posters")
        plan = self._plan(folder)
        files = {name: folder / "posters" / f"{name}.jpg" for name in plan.ids()}
        pictures = read_pictures(files, side=self.side, cut="whole")[1]
        return plan.filled("posters", "picture", pictures, captions=self._captions(folder))

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the tables, and over the posters in use."""
        folder = set_folder(FOLDER, root, *TABLES, "posters")
        posters = [(name, folder / "posters" / f"{name}.jpg") for name in self._plan(folder).ids()]
        return fingerprint_files([*((name, folder / name) for name in TABLES), *posters], rehash=rehash)

    def _captions(self, folder: Path) -> dict[str, str] | None:
        """Return what is written under each poster; of films that share one, of the first."""
        if self.captions == "none":
            return None
        written: dict[str, str] = {}
        for film in _films(folder).values():
            written.setdefault(film.poster, film.title if self.captions == "title" else " ".join(film.genres))
        return written

    def _plan(self, folder: Path) -> Plan:
        films = _films(folder)
        liked = _liked(folder, films)
        posters = sorted({film.poster for film in films.values()})
        background = chosen(posters, round(self.background * len(posters)), seed=self.split_seed, purpose="background")
        fans = Counter(poster for mine in liked.values() for poster in mine)
        public = chosen(
            [poster for poster in posters if poster not in background],
            round(self.public * len(posters)),
            seed=self.split_seed,
            purpose="public",
            first=fans.__getitem__,
        )
        shown = {
            user: [poster for poster in mine if poster not in background and poster not in public]
            for user, mine in liked.items()
        }
        users = sorted((user for user, mine in shown.items() if len(mine) >= self.items), key=int)
        classes, value = self._values(folder, users, liked, films)
        drafts, warning = split_drafts(
            [
                Draft(owner=user, label=value[user], items=mine, part=part)
                for user in users
                if user in value
                for part, mine in enumerate(cut(shown[user], self.items, self.per_user, newest=self.newest))
            ],
            self,
        )
        genres = {film.poster: film.genres[0] for film in films.values()}
        named = tuple(sorted({genres[poster] for poster in public}))
        return Plan(
            drafts=tuple(balanced(drafts, seed=self.split_seed) if self.balance else drafts),
            classes=classes,
            background=tuple(sorted(background)),
            kinds=(-1,) * len(background),
            public=tuple(sorted(public)),
            public_labels=tuple(named.index(genres[poster]) for poster in sorted(public)),
            public_classes=named,
            warning=warning,
        )

    def _values(
        self, folder: Path, users: list[str], liked: dict[str, list[str]], films: dict[str, _Film]
    ) -> tuple[tuple[str, str], dict[str, int]]:
        """Return the attribute's values and that of every user who has one."""
        if self.attribute == "taste":
            with_it = {film.poster for film in films.values() if self.genre in film.genres}
            if not with_it:
                genres = {genre for film in films.values() for genre in film.genres}
                raise ConfigError(f"posters: genre = {self.genre!r} is refused: {did_you_mean(self.genre, genres)}")
            share = {user: sum(poster in with_it for poster in liked[user]) / len(liked[user]) for user in users}
            return (f"little {self.genre}", f"much {self.genre}"), _quarters(share)
        rows = read_rows(folder / "users.tsv", "user_id:token", "age:token", "gender:token", delimiter="\t")
        known = {row["user_id:token"]: row for row in rows}
        if self.attribute == "age":
            return ("younger", "older"), _quarters({user: float(known[user]["age:token"]) for user in users})
        return ("F", "M"), {user: "FM".index(known[user]["gender:token"]) for user in users}


def _films(folder: Path) -> dict[str, _Film]:
    """Return films by id; those that share a poster name the same one."""
    poster: dict[str, str] = {}
    films: dict[str, _Film] = {}
    for row in read_rows(folder / "items.csv", "item_id", "movielens_id", "title", "genres"):
        name = poster.setdefault(row["movielens_id"], row["item_id"])
        films[row["item_id"]] = _Film(
            poster=name, title=row["title"], genres=tuple(row["genres"].split()) or ("unknown",)
        )
    return films


def _liked(folder: Path, films: dict[str, _Film]) -> dict[str, list[str]]:
    """Return the posters that every user liked, oldest first, each once."""
    marks: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for row in read_rows(folder / "interactions.csv", "user_id", "item_id", "rating", "timestamp"):
        if row["item_id"] in films and float(row["rating"]) >= LIKED:
            marks[row["user_id"]].append((float(row["timestamp"]), films[row["item_id"]].poster))
    if not marks:
        raise DataError(f"{folder / 'interactions.csv'} has no rating of {LIKED} or more")
    return {user: list(dict.fromkeys(poster for _, poster in sorted(mine))) for user, mine in marks.items()}


def _quarters(number: dict[str, float]) -> dict[str, int]:
    """Return 0 for the quarter with the smallest numbers and 1 for that with the largest."""
    ranked = sorted(number, key=lambda user: (number[user], user))
    quarter = len(ranked) // 4
    return {**dict.fromkeys(ranked[:quarter], 0), **dict.fromkeys(ranked[len(ranked) - quarter :], 1)}
