"""Changing pictures before they are sent to a search engine: ``countermove protect retrieval IN OUT``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

import countermove
from countermove.errors import ConfigError, DataError, DeviceError
from countermove.game.methods import Composition
from countermove.pixels.balls import Ball
from countermove.pixels.budget import measured_budget
from countermove.pixels.decode import decode_picture
from countermove.pixels.files import OnBroken, read_bytes, walk_pictures
from countermove.pixels.jpeg import jpeg
from countermove.pixels.places import PngPlace, png_places
from countermove.pixels.published import (
    MANIFEST,
    Line,
    Protected,
    Published,
    check_apart,
    published,
    sha256,
    summed_budget,
)
from countermove.pixels.rounding import to_float, to_uint8
from countermove.pixels.ssim import ssim
from countermove.retrieval.methods import METHODS
from countermove.retrieval.protect_page import check_compared, write_page
from countermove.retrieval.protect_surrogates import Opened, Surrogates
from countermove.retrieval.query import Query, change
from countermove.retrieval.seeing import LONGEST, check_longest
from countermove.retrieval.trained import Watch, rooms

__all__ = ["METHODS", "OPTIONS", "UNIT", "protect_folder"]

OPTIONS: dict[str, tuple[str, ...]] = {"longest": (), "against": (), "engine": ()}
"""What may be asked of this arena beside the methods' settings: any text."""
UNIT = "queries"

QUALITY = 75
LONGEST_JPEG = 65_500
_SMALLEST_SSIM = 11
_HANDLING = (
    "8-bit RGB PNG of the original's size; a gray picture may get colours; EXIF orientation is applied, all metadata "
    "(EXIF with its place and time, colour profiles, text) are dropped; alpha is composited on white; 16-bit channels "
    "keep their upper 8 bits"
)
_MEASURED = (
    "of every stored query, against its original: ssim (mean over RGB; null under 11 pixels), and ssim_jpeg_75 after "
    "JPEG at quality 75; like: the cosine of both descriptors, by backbone (1 the same), like_jpeg_75 after JPEG. "
    "strangers, in the note on surrogates: the mean cosine of two different public pictures. An engine with another "
    "backbone may see less of the change"
)


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
    longest: int | str = LONGEST,
    against: Path | str | None = None,
    engine: str | None = None,
) -> Protected:
    """Change every picture of a tree, so that engines do not find what it shows, and write it to another tree.

    Pictures come out at their size as 8-bit PNG under their names, each with a line in OUT/manifest.jsonl that says how
    similar it stayed and how like itself it still is to the backbones it was made on, after saving and after JPEG.
    A picture's id, which its noise follows, is its path without the suffix. Pictures are changed one by one: none
    depends on which others come with it. The same call goes on where an earlier one ended.

    Args:
        source: the folder with the pictures, at any depth; never written to.
        out: a new or empty folder, or one that the same call has begun.
        composition: one move.
        seed: of its noise, and of the training of small backbones.
        model: the backbones, in place of the move's `backbones`: one, a list such as [plain, other], or an engine that
            looks through one, such as neural.
        data: the collection on whose public pictures small backbones are trained. They are kept in the cache folder.
        on_broken: "fail" ends at a picture that is broken or cannot be changed, "skip" leaves it out and names it.
        device: where networks run.
        watch: told about progress.
        longest: backbones look at pictures whose longer side is shrunk to so many pixels, as engines do.
        against: a folder to search in; OUT/results.html then shows what each query finds there before and after.
        engine: what searches that folder; the move's own first backbone, or the engine global where it has none.

    Raises:
        ConfigError: settings that do not fit the method, a backbone that cannot be had here.
        DataError: a picture that cannot be used, no picture, or folders inside each other.
        RunError: an output folder that is locked, foreign, begun otherwise, or not writable.
        WeightsError: a backbone's weights are absent.
        DeviceError: a GPU that is not there.
    """
    source, out = Path(source), Path(out)
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device = 'cuda' was asked for, but PyTorch finds no GPU here; use device = 'cpu'")
    if engine is not None and against is None:
        raise ConfigError("--engine searches the folder of --against; give that too, or leave --engine out")
    surrogates = Surrogates.of(
        composition,
        model=model,
        data=data,
        seed=seed,
        device=device,
        longest=check_longest(longest),
        compared=against is not None,
    )
    check_apart(source, out)
    names = walk_pictures(source)
    if not names:
        raise DataError(f"{source} holds no pictures; expected .jpg, .png, .webp or .bmp files, in folders or not")
    places = png_places(source, names)
    compared = None if against is None else check_compared(Path(against), out, engine, surrogates)
    header = _header(surrogates)
    with published(out) as folder:
        folder.begin(header)
        call = _Call(source, places, surrogates.composition.method, surrogates, folder, on_broken, watch)
        call.run()
        done = _summary(call, header)
        if compared is None:
            return done
        page = write_page(compared, source, folder, call.there, on_broken=on_broken, watch=watch)
        told = (*done.told, f"What the queries find before and after: {page}")
        return replace(done, facts={**done.facts, "page": str(page)}, told=told)


@dataclass
class _Call:
    """One call: what does not change while it runs, and what it counts."""

    source: Path
    places: list[PngPlace]
    method: Query
    surrogates: Surrogates
    folder: Published
    on_broken: OnBroken
    watch: Watch
    written: int = 0
    skipped: dict[str, str] = field(default_factory=dict)

    @cached_property
    def opened(self) -> Opened:
        """Return the backbones; trained or read when the first picture needs them."""
        opened = self.surrogates.open(self.watch)
        if opened.by_name:
            self.folder.note([{"surrogates": list(opened.by_name), "strangers": opened.strangers()}])
        return opened

    @property
    def there(self) -> dict[PngPlace, Line]:
        """Return the lines of those pictures of the source that are in the output."""
        lines = self.folder.lines
        return {place: lines[place.id] for place in self.places if place.id in lines and place.id not in self.skipped}

    def run(self) -> None:
        """Change and write what is not finished."""
        for at, place in enumerate(self.places):
            self.watch("protecting", at, len(self.places))
            path = self.source / place.source
            try:
                data = read_bytes(path)
                sha = sha256(data)
                if self.folder.finished(place.id, place.out, sha):
                    continue
                clean = _tensor(decode_picture(data, name=str(path)), path)
                moved = self._moved(clean, place, path)
            except DataError as error:
                if self.on_broken == "fail":
                    raise
                self.skipped[place.id] = str(error)
                continue
            self._write(place, sha, clean, moved)
        self.watch("protecting", len(self.places), len(self.places))

    def _moved(self, clean: Tensor, place: PngPlace, path: Path) -> Tensor:
        opened = self.opened
        try:
            return change(self.method, [clean], [place.id], context=opened.context)[0]
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    def _write(self, place: PngPlace, sha: str, clean: Tensor, moved: Tensor) -> None:
        """Write a query and then its line; everything is measured on the stored pixels."""
        before, after = to_float(clean)[None], to_float(moved)[None]
        sent = jpeg(after, quality=QUALITY)
        large = min(clean.shape[1:]) >= _SMALLEST_SSIM
        budget = measured_budget(moved[None], before, _ball(self.method))
        likes = self.opened.cosines(clean, [moved, to_uint8(sent)[0]])
        facts = {
            "ssim": round(float(ssim(after, before)), 4) if large else None,
            "ssim_jpeg_75": round(float(ssim(sent, before)), 4) if large else None,
            "like": {name: round(saved, 4) for name, (saved, _) in likes.items()},
            "like_jpeg_75": {name: round(compressed, 4) for name, (_, compressed) in likes.items()},
        }
        out_sha = self.folder.write(place.out, moved.permute(1, 2, 0).contiguous().numpy())
        record = {
            "id": place.id,
            "source": place.source,
            "out": place.out,
            "source_sha256": sha,
            "out_sha256": out_sha,
            "budget": budget["largest"],
            "kept": budget["kept"],
            "facts": facts,
        }
        self.folder.note([record])
        self.written += 1


def _tensor(picture: Any, path: Path) -> Tensor:
    """Return a picture that can be saved as JPEG too, uint8 [3, H, W]."""
    height, width = picture.shape[:2]
    if max(height, width) > LONGEST_JPEG:
        raise DataError(
            f"{path} has {width} x {height} pixels; a JPEG, in which queries are measured, has at most "
            f"{LONGEST_JPEG:,} on a side. Cut it"
        )
    return torch.from_numpy(picture).permute(2, 0, 1).contiguous()


def _ball(method: Query) -> Ball | None:
    return None if method.norm is None else Ball(norm=method.norm, radius=getattr(method, "eps"))  # noqa: B009


def _header(surrogates: Surrogates) -> dict[str, Any]:
    """Return the manifest's first line: everything that the queries' bytes depend on, and what the numbers mean."""
    (part,) = surrogates.composition.identity()["parts"]
    ball = _ball(surrogates.composition.method)
    return {
        "arena": "retrieval",
        "method": surrogates.composition.spelling,
        "settings": part["settings"],
        "version": part["version"],
        **({"content": part["content"]} if "content" in part else {}),
        **surrogates.identity(),
        "longest": surrogates.longest,
        "rooms": rooms(),
        "seed": surrogates.seed,
        "norm": "linf",
        "radius": ball.radius if ball else None,
        "unit": "pixel values in [0, 1]; 8/255 is eight levels",
        "pictures": _HANDLING,
        "measured": _MEASURED,
        "package": f"countermove {countermove.__version__}",
    }


def _summary(call: _Call, header: dict[str, Any]) -> Protected:
    ids = {place.id for place in call.places}
    lines = list(call.there.values())
    facts, told = _measured([line.facts or {} for line in lines], call.folder)
    return Protected(
        out=call.folder.folder,
        manifest=call.folder.folder / MANIFEST,
        pictures=len(lines),
        written=call.written,
        skipped=tuple(call.skipped.values()),
        gone=tuple(sample for sample in call.folder.lines if sample not in ids),
        budget=summed_budget(lines, header["norm"], header["radius"]),
        facts=facts,
        told=tuple(told),
    )


def _measured(found: Sequence[dict[str, Any]], folder: Published) -> tuple[dict[str, Any], list[str]]:
    """Return what was measured of all queries, for machines and for people."""
    facts: dict[str, Any] = {}
    told: list[str] = []
    for name, said in (("ssim", "SSIM to the originals"), ("ssim_jpeg_75", "After JPEG at quality 75")):
        values = [one[name] for one in found if one.get(name) is not None]
        if values:
            facts[name] = {"mean": mean(values), "least": min(values)}
            told.append(f"{said}: mean {mean(values):.3f}, least {min(values):.3f}.")
    strangers = next((note["strangers"] for note in reversed(folder.notes) if "strangers" in note), {})
    for name in found[0].get("like", {}) if found else ():
        saved, sent = ([one[key][name] for one in found] for key in ("like", "like_jpeg_75"))
        facts.setdefault("like", {})[name] = {"mean": mean(saved), "most": max(saved)}
        facts.setdefault("like_jpeg_75", {})[name] = {"mean": mean(sent), "most": max(sent)}
        other = f" Two different public pictures: {strangers[name]:.2f}." if name in strangers else ""
        told.append(
            f"To {name}, a query is like its original by {mean(saved):.2f} (cosine, mean; most {max(saved):.2f}), "
            f"after JPEG by {mean(sent):.2f} (most {max(sent):.2f}).{other}"
        )
    if "like" in facts:
        facts["strangers"] = strangers
        told.append("Other engines may see less of it; `countermove audit` measures that.")
    return facts, told
