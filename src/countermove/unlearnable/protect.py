"""Changing a folder of pictures before it is published: ``countermove protect unlearnable IN OUT``.

Legend: N pictures of 3 x H x W, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import countermove
from countermove import learning, nets, pixels
from countermove.errors import DataError, DeviceError
from countermove.game.methods import Composition
from countermove.pixels.batch import Batch
from countermove.pixels.budget import measured_budget
from countermove.pixels.decode import decode_picture
from countermove.pixels.files import OnBroken, read_bytes
from countermove.pixels.published import (
    MANIFEST,
    Protected,
    Published,
    check_apart,
    published,
    sha256,
    summed_budget,
)
from countermove.pixels.rounding import to_float
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.play import move_and_round
from countermove.unlearnable.poison import Context, promised_ball
from countermove.unlearnable.protect_crafted import Crafting, Watch, known_data, with_model
from countermove.unlearnable.protect_places import Place, Places, find_places

__all__ = ["METHODS", "Protected", "protect_folder"]

PORTION = 64
WRITERS = 8  # each waits for the disk most of the time
PORTION_PIXELS = 1 << 22  # 84 pictures of 224 x 224; a portion takes some 200 MB at most

_HANDLING = (
    "8-bit RGB PNG; EXIF orientation is applied, all metadata (EXIF, colour profiles, text) are dropped; alpha is "
    "composited on white; 16-bit channels keep their upper 8 bits"
)


class Loaded(NamedTuple):
    """A picture to be moved, uint8 [H, W, 3], with the SHA-256 of its file."""

    place: Place
    sha256: str
    picture: np.ndarray


@dataclass
class _Call:
    """One call: what does not change while it runs, and what it counts."""

    source: Path
    places: Places
    classes: tuple[str, ...]
    poison: Any
    seed: int
    device: str
    on_broken: OnBroken
    watch: Watch
    written: int = 0

    def __post_init__(self) -> None:
        self.skipped: dict[str, str] = {}


def protect_folder(
    source: Path | str,
    out: Path | str,
    composition: Composition,
    *,
    seed: int = 0,
    model: str | None = None,
    data: str | None = None,
    on_broken: OnBroken = "fail",
    device: str = "cpu",
    watch: Watch = lambda *_: None,
) -> Protected:
    """Move every picture of a tree of class folders and write it to another tree with the same names.

    Pictures lie in SOURCE/CLASS/…; they come out as 8-bit PNG in OUT/CLASS/…, each with a line in OUT/manifest.jsonl.
    EXIF orientation is applied and metadata are dropped. A picture's id, which its noise follows, is its path without
    the suffix. The same call goes on where an earlier one ended: pictures whose source and output are unchanged stay.

    Poisons that need no network get the pictures in portions, at constant memory, and sizes may differ. Others need
    all pictures in memory, at one size; those of an unfinished call are kept in OUT/.work, so that all pictures come
    from one crafting.

    Args:
        source: the folder with the originals; never written to.
        out: a new or empty folder, or one that the same call has begun.
        composition: one poison.
        seed: of its noise.
        model: the surrogate network, where the poison has one; in place of its `surrogate` setting.
        data: the data set that a trained surrogate learns from; by default the pictures themselves. It must have all
            classes of the source, by name, and pictures of the same size.
        on_broken: "fail" ends at a broken picture, "skip" leaves it out and names it.
        device: where networks run.
        watch: told about progress.

    Raises:
        ConfigError: settings that do not fit the method.
        DataError: a layout, picture or size that cannot be used, or folders inside each other.
        RunError: an output folder that is locked, foreign, begun otherwise, or not writable.
        DeviceError: a GPU that is not there.
    """
    source, out = Path(source), Path(out)
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device = 'cuda' was asked for, but PyTorch finds no GPU here; use device = 'cpu'")
    composition = with_model(composition, model)
    poison = composition.method
    known = known_data(composition, data)
    check_apart(source, out)
    classes, places = find_places(source)
    call = _Call(source, places, classes, poison, seed, device, on_broken, watch)
    header = _header(composition, known, call)
    if poison.streams:
        with published(out) as folder:
            folder.begin(header)
            _stream(call, folder)
            return _summary(call, folder)
    loaded = list(_read(call, places))
    batch, shas = _all_at_once(call, loaded, other_data=known is not None)
    digest = sha256("\n".join(f"{sample} {sha}" for sample, sha in shas.items()).encode())
    with published(out) as folder:
        folder.begin({**header, "sources_sha256": digest})
        _craft_and_write(call, folder, batch, shas, known)
        return _summary(call, folder)


def _stream(call: _Call, folder: Published) -> None:
    """Move portions of pictures of equal size; nothing but a portion is in memory."""
    context = Context(seed=call.seed, device=call.device)
    waiting: list[Loaded] = []
    for item in _read(call, call.places, folder):
        full = len(waiting) >= PORTION or (len(waiting) + 1) * item.picture[..., 0].size > PORTION_PIXELS
        if waiting and (full or waiting[0].picture.shape != item.picture.shape):
            _move_portion(call, folder, waiting, context)
            waiting = []
        waiting.append(item)
    if waiting:
        _move_portion(call, folder, waiting, context)


def _move_portion(call: _Call, folder: Published, portion: list[Loaded], context: Context) -> None:
    batch = _batch(portion, call.classes)
    try:
        stored, _ = move_and_round(call.poison, batch, context)
    except DataError as error:
        raise DataError(f"{call.source / portion[0].place.source}: {error}") from None
    _write(call, folder, [(item.place, item.sha256) for item in portion], stored, batch.pictures)


def _read(call: _Call, places: Iterable[Place], folder: Published | None = None) -> Iterator[Loaded]:
    """Read pictures one by one, without those that are finished; broken ones are fatal or noted."""
    for i, place in enumerate(places):
        call.watch("reading" if folder is None else "protecting", i, len(call.places))
        path = call.source / place.source
        try:
            data = read_bytes(path)
            sha = sha256(data)
            if folder is not None and folder.finished(place.id, place.out, sha):
                continue
            picture = decode_picture(data, name=str(path))
        except DataError as error:
            if call.on_broken == "fail":
                raise
            call.skipped[place.id] = str(error)
            continue
        yield Loaded(place, sha, picture)
    call.watch("reading" if folder is None else "protecting", len(call.places), len(call.places))


def _write(call: _Call, folder: Published, items: list[tuple[Place, str]], stored: Tensor, clean: Tensor) -> None:
    """Write moved pictures, uint8 [n, 3, H, W], and then their lines. Budgets are measured on the stored values."""
    ball = promised_ball(call.poison)
    arrays = stored.permute(0, 2, 3, 1).contiguous().numpy()
    with ThreadPoolExecutor(WRITERS) as pool:
        out_shas = list(pool.map(folder.write, [place.out for place, _ in items], arrays))
    records = []
    for i, (place, sha) in enumerate(items):
        budget = measured_budget(stored[i : i + 1], clean[i : i + 1], ball)
        records.append(
            {
                "id": place.id,
                "source": place.source,
                "out": place.out,
                "label": place.label,
                "source_sha256": sha,
                "out_sha256": out_shas[i],
                "budget": budget["largest"],
                "kept": budget["kept"],
            }
        )
    folder.note(records)
    call.written += len(records)


def _all_at_once(call: _Call, loaded: list[Loaded], *, other_data: bool) -> tuple[Batch, dict[str, str]]:
    """Put all pictures into one batch; also return the SHA-256 of every source by id."""
    if not loaded:
        raise DataError(f"{call.source} holds no readable picture")
    first = loaded[0]
    for item in loaded:
        if item.picture.shape != first.picture.shape:
            raise DataError(
                f"unequal sizes: {first.place.source} is {_size(first)}, but {item.place.source} is {_size(item)} "
                "(width x height); this method needs all pictures at one size: resize them, or use one that does not, "
                "like linear-separable"
            )
    if hasattr(call.poison, "surrogate"):
        if len(call.classes) < 2 and not other_data:
            raise DataError(f"{call.source} has one class ({', '.join(call.classes)}); training a network needs two")
        counts = np.bincount([item.place.label for item in loaded], minlength=len(call.classes))
        poor = [f"{name} ({n})" for name, n in zip(call.classes, counts, strict=True) if n < 2]
        if poor:
            raise DataError(
                f"{call.source}: every class needs at least two pictures for a method that trains a network; too few "
                f"in: {', '.join(poor[:5])}. Add pictures or leave the class out"
            )
    return _batch(loaded, call.classes), {item.place.id: item.sha256 for item in loaded}


def _craft_and_write(
    call: _Call, folder: Published, batch: Batch, shas: dict[str, str], known: Composition | None
) -> None:
    by_id = {place.id: place for place in call.places}
    places = [by_id[sample] for sample in batch.ids]
    todo = [i for i, p in enumerate(places) if not folder.finished(p.id, p.out, shas[p.id])]
    if todo:
        crafting = Crafting(call.poison, known, seed=call.seed, device=call.device, work=folder.work, watch=call.watch)
        stored, facts = crafting(batch)
        if facts:
            folder.note([{"crafted": facts}])
        for start in range(0, len(todo), PORTION):
            call.watch("writing", start, len(todo))
            rows = todo[start : start + PORTION]
            _write(call, folder, [(places[i], shas[places[i].id]) for i in rows], stored[rows], batch.pictures[rows])
        call.watch("writing", len(todo), len(todo))
    folder.remove_work()


def _header(composition: Composition, known: Composition | None, call: _Call) -> dict[str, Any]:
    """Return the manifest's first line: everything that the pictures' bytes depend on, and what the numbers mean."""
    ball = promised_ball(call.poison)
    (part,) = composition.identity()["parts"]
    trained = {} if call.poison.streams else {"learning": learning.VERSION, "nets": nets.VERSION}
    return {
        "arena": "unlearnable",
        "method": composition.spelling,
        "settings": part["settings"],
        "version": part["version"],
        **({"content": part["content"]} if "content" in part else {}),
        **({"data": known.identity()} if known is not None else {}),
        "rooms": {"pixels": pixels.VERSION, **trained},
        "seed": call.seed,
        "classes": list(call.classes),
        "norm": ball.norm if ball else "linf",
        "radius": ball.radius if ball else None,
        "unit": "pixels" if ball and ball.norm == "l0" else "pixel values in [0, 1]; 8/255 is eight levels",
        "pictures": _HANDLING,
        "package": f"countermove {countermove.__version__}",
    }


def _summary(call: _Call, folder: Published) -> Protected:
    there = sum(place.id in folder.lines for place in call.places) - sum(s in folder.lines for s in call.skipped)
    budgets = (
        folder.lines[place.id] for place in call.places if place.id in folder.lines and place.id not in call.skipped
    )
    ball = promised_ball(call.poison)
    return Protected(
        out=folder.folder,
        manifest=folder.folder / MANIFEST,
        pictures=there,
        written=call.written,
        skipped=tuple(call.skipped.values()),
        gone=_gone(call, folder),
        budget=summed_budget(budgets, ball.norm if ball else "linf", ball.radius if ball else None),
    )


def _gone(call: _Call, folder: Published) -> tuple[str, ...]:
    """Return the ids of the output that the source no longer has."""
    if len(folder.lines) == sum(place.id in folder.lines for place in call.places):
        return ()
    ids = {place.id for place in call.places}
    return tuple(sample for sample in folder.lines if sample not in ids)


def _batch(items: list[Loaded], classes: tuple[str, ...]) -> Batch:
    stacked = torch.from_numpy(np.stack([item.picture for item in items])).permute(0, 3, 1, 2)
    return Batch(
        pictures=to_float(stacked.contiguous()),
        labels=torch.tensor([item.place.label for item in items]),
        ids=tuple(item.place.id for item in items),
        classes=classes,
    )


def _size(item: Loaded) -> str:
    height, width = item.picture.shape[:2]
    return f"{width} x {height}"
