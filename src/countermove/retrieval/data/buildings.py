"""Oxford and Paris, as their users have them; nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar

from countermove.errors import DataError
from countermove.game.content import data_folder, fingerprint_files, locate
from countermove.pixels.files import walk_pictures
from countermove.retrieval.data.reading import check_sides, lazily, shrunk_box

if TYPE_CHECKING:
    from countermove.retrieval.collection import Collection
    from countermove.retrieval.data.ground_truth import Truth

Files = dict[str, Path]
"""Pictures by their names, which are the file names without the ending."""


@dataclass(frozen=True, kw_only=True)
class Oxford:
    """Oxford buildings, Philbin et al. 2007; 5,063 photos, 55 queries for 11 landmarks, or the revisited 70.

    The photos (oxbuild_images) are from Flickr and may not be passed on. Bring them, in a folder of any depth, and a
    ground truth: the folder of text files (gt_files_170407), or a published pickle, of the original protocol
    (gnd_oxford5k.pkl) or the revisited one (gnd_roxford5k.pkl, Radenovic et al. 2018), which is read without running
    anything in it. With text files all photos are indexed, with a pickle those that it lists; queries of the original
    protocol are indexed themselves and count as found. Boxes are shrunk with their photos.

    path:      the folder of photos, as it stands or below the data folder.
    truth:     the folder of text files or the pickle, likewise, or below path.
    longest:   longer sides above so many pixels are shrunk to it (common: 1024; the photos' own).
    public:    a folder of other photos (Paris, for one), from which a vocabulary may be learned; the folders in it are
               their classes.
    leave_out: names of photos that are not indexed, such as ones that are broken.
    whole:     whether whole photos are asked about and not the boxes in them.
    """

    version: ClassVar[int] = 1
    path: str = "oxford5k"
    truth: str = "gnd_roxford5k.pkl"
    longest: int = 1024
    public: str | None = None
    leave_out: tuple[str, ...] = ()
    whole: bool = False

    def __post_init__(self) -> None:
        check_sides("oxford", longest=self.longest)

    def __call__(self, *, root: Path | None = None) -> Collection:
        """List the photos, and read the queries' for their boxes' sake.

        Raises:
            DataError: when photos or ground truth are not there or do not fit each other.
        """
        return _collection("oxford", self, root)

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the ground truth's and all photos' names and contents."""
        return _fingerprint(self, root, rehash)


@dataclass(frozen=True, kw_only=True)
class Paris:
    """Paris, Philbin et al. 2008; 6,412 photos, 55 queries for 11 landmarks, or the revisited 70.

    As `oxford`, with paris_1 and paris_2 for photos, and paris_120310, gnd_paris6k.pkl or gnd_rparis6k.pkl for ground
    truth. Some of the published files are broken: the pickles do not list them, with text files name them in leave_out.

    path:      the folder of photos, as it stands or below the data folder.
    truth:     the folder of text files or the pickle, likewise, or below path.
    longest:   longer sides above so many pixels are shrunk to it (common: 1024; the photos' own).
    public:    a folder of other photos (Oxford, for one), from which a vocabulary may be learned; the folders in it
               are their classes.
    leave_out: names of photos that are not indexed, such as ones that are broken.
    whole:     whether whole photos are asked about and not the boxes in them.
    """

    version: ClassVar[int] = 1
    path: str = "paris6k"
    truth: str = "gnd_rparis6k.pkl"
    longest: int = 1024
    public: str | None = None
    leave_out: tuple[str, ...] = ()
    whole: bool = False

    def __post_init__(self) -> None:
        check_sides("paris", longest=self.longest)

    def __call__(self, *, root: Path | None = None) -> Collection:
        """List the photos, and read the queries' for their boxes' sake.

        Raises:
            DataError: when photos or ground truth are not there or do not fit each other.
        """
        return _collection("paris", self, root)

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the ground truth's and all photos' names and contents."""
        return _fingerprint(self, root, rehash)


def _collection(name: str, settings: Oxford | Paris, root: Path | None) -> Collection:
    import torch

    from countermove.retrieval.collection import Collection

    files, truth, others = _opened(settings, root)
    names = sorted(files)
    rows = {photo: row for row, photo in enumerate(names)}
    searched = set(names if truth.indexed is None else truth.indexed)
    indexed = [rows[photo] for photo in names if photo in searched]
    wanted = truth.wanted(rows)
    boxes = tuple(
        None
        if asked.box is None or settings.whole
        else shrunk_box(files[asked.picture], asked.box, settings.longest, name=asked.name)
        for asked in truth.queries
    )
    classes = sorted({_class_of(photo) for photo in others})
    paths = [*(files[photo] for photo in names), *others.values()]
    return Collection(
        name=name,
        pictures=lazily(paths, settings.longest),
        ids=(*names, *others),
        indexed=torch.tensor(indexed),
        queries=torch.tensor([rows[asked.picture] for asked in truth.queries]),
        boxes=boxes,
        wanted=wanted,
        public=torch.arange(len(names), len(paths)),
        public_labels=torch.tensor([classes.index(_class_of(photo)) for photo in others], dtype=torch.int64),
        public_classes=tuple(classes),
    )


def _fingerprint(settings: Oxford | Paris, root: Path | None, rehash: bool) -> str:
    files, truth, others = _opened(settings, root)
    told = [f"{asked.name}\0{asked.picture}\0{asked.box}\0{sorted(asked.lists.items())}" for asked in truth.queries]
    extra = [*told, *(truth.indexed or ()), *sorted(truth.protocols)]
    return fingerprint_files([*sorted(files.items()), *others.items()], rehash=rehash, extra=extra)


def _opened(settings: Oxford | Paris, root: Path | None) -> tuple[Files, Truth, Files]:
    """Return the photos that are indexed or queries by name, the ground truth, and the public's photos by id."""
    from countermove.retrieval.data.ground_truth import read_truth

    folder = locate(settings.path, root)
    truth = read_truth(_truth_path(folder, settings.truth, root)).without(settings.leave_out)
    files = _by_name(folder)
    unknown = [name for name in settings.leave_out if name not in files]
    if unknown:
        raise DataError(f"leave_out names {unknown[0]!r}, which is not in {folder}")
    files = {name: path for name, path in files.items() if name not in settings.leave_out}
    if truth.indexed is not None:
        named = set(truth.names())
        files = {name: path for name, path in files.items() if name in named}
    others: Files = {}
    if settings.public is not None:
        public = locate(settings.public, root)
        others = {f"public/{name}": public / name for name in walk_pictures(public)}
        same = [path for path in others.values() if path.stem in files]
        if same:
            raise DataError(f"{same[0]} is public and a photo that is searched; give a folder of other photos")
    return files, truth, others


def _truth_path(folder: Path, truth: str, root: Path | None) -> Path:
    places = [Path(truth).expanduser(), folder / truth, data_folder(root) / truth]
    for place in places:
        if place.exists():
            return place
    raise DataError(
        f"there is no ground truth {' or '.join(str(place) for place in places)}; give truth= the folder of text "
        "files or the pickle"
    )


def _by_name(folder: Path) -> Files:
    files: Files = {}
    for name in walk_pictures(folder):
        path = folder / name
        if path.stem in files:
            raise DataError(f"{path} and {files[path.stem]} have the same name; keep one of them")
        files[path.stem] = path
    if not files:
        raise DataError(f"{folder} holds no pictures")
    return files


def _class_of(name: str) -> str:
    """Return the folder of a public photo."""
    parts = PurePosixPath(name).parts
    return parts[1] if len(parts) > 2 else "public"
