"""A shop's own files: a table of who touched what, and a folder with a picture of every item."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from countermove.errors import ConfigError, DataError
from countermove.game.content import fingerprint_files, locate, locate_file
from countermove.pixels.files import OnBroken, safe_child, walk_pictures
from countermove.recommender.data.tables import Table, check_table, read_table

if TYPE_CHECKING:
    from torch import Tensor

    from countermove.recommender.shop import Shop

TIME = "time"


@dataclass(frozen=True, kw_only=True)
class ShopFiles:
    """Your own shop: a table of who touched what, and a picture or several of every item.

    Tables are CSV (UTF-8, the first line names the columns) or Parquet. A picture is named after its item, 7.jpg for
    item 7, and may lie in any folder below `pictures`; PNG, JPEG, WebP and BMP. Ids are texts: 07 and 7 are two items;
    an integer that Parquet stores as 7.0 is item 7. A pair that was recorded twice counts once, at its last time.
    Items with a picture that nobody touched are the ones that `cold` takes by default.

    interactions:    the table, as it stands or below the data folder; one row an interaction.
    pictures:        the folder of pictures, likewise.
    several:         items have any number of pictures, in a folder named after the item: 7/front.jpg, 7/side.jpg. The
                     first by name is the item's own, which a merchant changes; the mean of their embeddings counts.
    items:           a table with a category for items, if there is one; an empty category is none.
    user_column:     column of the users' ids.
    item_column:     column of the items' ids, in both tables.
    time_column:     column of the times: numbers (seconds since 1970, say), in Parquet also dates. Where the default is
                     not there, the interactions have no times; another name must be there.
    category_column: column of the categories.
    cold:            how many items are set apart to be promoted.
    cold_from:       "untouched" takes items that nobody touched, "any" takes any and drops their interactions.
    split:           "last" tests each user's last item by time, "random" a random one; without it: "last" if the table
                     has times, else "random".
    split_seed:      of the choice of cold items and of a random split.
    side:            pictures are resized to side x side pixels, without keeping their aspect.
    on_missing:      items that were touched but have no picture: "fail" stops, "skip" drops their interactions.
    on_broken:       pictures that are broken or too large: "fail" stops, "skip" drops them, and items that are left
                     without one with their interactions. Of several, the first that can be read is the item's own.
    max_pixels:      the largest picture that is decoded.
    """

    version: ClassVar[int] = 1
    keyed_when_set: ClassVar[tuple[str, ...]] = ("several",)
    interactions: str
    pictures: str
    several: bool = False
    items: str | None = None
    user_column: str = "user"
    item_column: str = "item"
    time_column: str = "time"
    category_column: str = "category"
    cold: int = 100
    cold_from: Literal["untouched", "any"] = "untouched"
    split: Literal["last", "random"] | None = None
    split_seed: int = 0
    side: int = 64
    on_missing: Literal["fail", "skip"] = "fail"
    on_broken: OnBroken = "fail"
    max_pixels: int = 50_000_000

    def __post_init__(self) -> None:
        from countermove.recommender.data.reading import check_side

        check_side(self.side)
        check_table("interactions", self.interactions)
        if self.items is not None:
            check_table("items", self.items)
        for name in ("cold", "max_pixels"):
            if getattr(self, name) < 1:
                raise ConfigError(f"shop: {name} = {getattr(self, name)} is refused: it must be at least 1")
        if len({self.user_column, self.item_column, self.time_column}) < 3:
            raise ConfigError("shop: user_column, item_column and time_column must name three different columns")
        if self.item_column == self.category_column:
            raise ConfigError("shop: item_column and category_column must name two different columns")

    def __call__(self, *, root: Path | None = None) -> Shop:
        """Read tables and pictures; `statistics` counts what was left out.

        Raises:
            DataError: when a file, a column or a value is absent or wrong, an item has two pictures (or, with several,
                two folders, or a picture lies in none), a picture is absent or broken (unless those are to be skipped),
                or nothing or too few cold items are left.
        """
        from countermove.recommender.data.reading import read_several_pictures
        from countermove.recommender.shop import Log, open_shop

        table = self._interactions(root)
        users, touched = table.ids(self.user_column), table.ids(self.item_column)
        times = table.numbers(self.time_column) if self.time_column in table else None
        files = _files_by_item(locate(self.pictures, root), several=self.several)
        self._check_missing(table, touched, files)
        items, pictures, further, broken = read_several_pictures(
            files, side=self.side, max_pixels=self.max_pixels, on_broken=self.on_broken
        )
        readable = set(items)
        without = sum(item not in files for item in touched)
        kept = [i for i, item in enumerate(touched) if item in readable]
        categories, category = self._categories(items, root)
        return open_shop(
            table.path.stem,
            Log(
                users=[users[i] for i in kept],
                items=[touched[i] for i in kept],
                times=None if times is None else [times[i] for i in kept],
            ),
            items,
            pictures,
            cold=self.cold,
            cold_from=self.cold_from,
            split=self.split or ("random" if times is None else "last"),
            split_seed=self.split_seed,
            categories=categories,
            category=category,
            further=further,
            statistics={
                "rows": len(touched),
                "rows of items without a picture": without,
                "rows of items with a broken picture": len(touched) - without - len(kept),
                "items without a picture": len(set(touched) - set(files)),
                "items without a readable picture": len(files) - len(items),
                "broken pictures": len(broken),
                "further pictures": len(further[0]),
                "items nobody touched": len(readable - set(touched)),
            },
        )

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the tables and the pictures."""
        tables = {"interactions": self.interactions, "items": self.items}
        files = [
            (f"{setting}{Path(path).suffix.lower()}", locate_file(setting, path, root))
            for setting, path in tables.items()
            if path is not None
        ]
        folder = locate(self.pictures, root)
        files += [(f"pictures/{name}", safe_child(folder, name)) for name in walk_pictures(folder)]
        return fingerprint_files(files, rehash=rehash)

    def _interactions(self, root: Path | None) -> Table:
        needed = {"user_column": self.user_column, "item_column": self.item_column}
        if self.split == "last" or self.time_column != TIME:
            needed["time_column"] = self.time_column
        optional = [] if self.split == "random" else [self.time_column]
        return read_table(locate_file("interactions", self.interactions, root), needed, optional=optional)

    def _check_missing(self, table: Table, touched: list[str], files: dict[str, list[Path]]) -> None:
        missing = sorted(set(touched) - set(files))
        if missing and (self.on_missing == "fail" or len(missing) == len(set(touched))):
            names = ", ".join("/".join(own.parts[-1 - self.several :]) for own, *_ in list(files.values())[:3])
            named = "folders" if self.several else "pictures"
            raise DataError(
                f"{table.path}: {len(missing)} of {len(set(touched))} items have no picture in {self.pictures}, such "
                f"as {missing[0]!r}; pictures there are {names}, ... Name {named} after their items, or leave out "
                "items without one with on_missing=skip"
            )

    def _categories(self, items: list[str], root: Path | None) -> tuple[list[str], Tensor | None]:
        """Return the names of the categories, sorted, and every item's, or None where there is no such table."""
        import torch

        if self.items is None:
            return [], None
        needed = {"item_column": self.item_column, "category_column": self.category_column}
        table = read_table(locate_file("items", self.items, root), needed)
        label: dict[str, str] = {}
        columns = zip(table.rows, table.ids(self.item_column), table.labels(self.category_column), strict=True)
        for row, item, name in columns:
            if label.setdefault(item, name) != name:
                raise DataError(f"{table.where(row)} puts item {item!r} into {name!r}; above it is in {label[item]!r}")
        named = sorted({label[item] for item in items if label.get(item)})
        if not named:
            raise DataError(
                f"{table.path} has a category for none of the items with a picture; it names items such as "
                f"{next(iter(label))!r}, and a picture belongs to {items[0]!r}"
            )
        number = {name: k for k, name in enumerate(named)}
        return named, torch.tensor([number.get(label.get(item, ""), -1) for item in items])


def _files_by_item(folder: Path, *, several: bool) -> dict[str, list[Path]]:
    """Return every item's pictures, sorted by item and by name; one each, or all in a folder named after the item.

    Raises:
        DataError: when there is none, when an item has two (or two folders), or a picture lies in no folder.
    """
    files: dict[str, list[Path]] = {}
    for name in sorted(walk_pictures(folder)):
        path = safe_child(folder, name)
        item = path.parent.name if several else path.stem
        if several and path.parent == folder:
            raise DataError(f"{path} lies in no item's folder; with several pictures an item, put it into ITEM/")
        had = files.setdefault(item, [])
        if had and not (several and had[0].parent == path.parent):
            kind = "folders" if several else "pictures"
            raise DataError(f"item {item!r} has two {kind}, {had[0]} and {path}; leave one of them there")
        had.append(path)
    folders = {path.parent for paths in files.values() for path in paths}
    inside = [path for paths in files.values() for path in paths if several and folders & set(path.parents[1:])]
    if inside:
        raise DataError(f"{inside[0]} lies in a folder inside an item's; put all of an item's pictures side by side")
    if not files:
        where = "ITEM/any.png" if several else "ITEM.png"
        raise DataError(f"{folder} holds no pictures; expected them as {where} (or .jpg, .webp, .bmp)")
    return dict(sorted(files.items()))
