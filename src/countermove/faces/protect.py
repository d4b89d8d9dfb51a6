"""Cloaking the faces in a folder of photos before they are published: ``countermove protect faces IN OUT``.

Legend: F faces, S side of a crop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Literal

import numpy as np
import torch

import countermove
from countermove import faces, learning, nets, pixels
from countermove.errors import DataError, DeviceError
from countermove.faces.cloak import Cloak
from countermove.faces.detection import CascadeDetector, Detector, Several
from countermove.faces.methods import METHODS
from countermove.faces.protect_looking import find_photos
from countermove.faces.protect_photos import Cloaking, Found, NoFace
from countermove.faces.protect_surrogates import Surrogates, Watch
from countermove.game.methods import Composition
from countermove.pixels.balls import Ball
from countermove.pixels.files import OnBroken, read_bytes
from countermove.pixels.places import PngPlace
from countermove.pixels.published import MANIFEST, Protected, Published, check_apart, published, sha256, summed_budget

__all__ = ["METHODS", "OPTIONS", "protect_folder"]

OPTIONS: dict[str, tuple[str, ...]] = {
    "faces": ("detect", "aligned"),
    "several": ("all", "largest"),
    "no_face": ("report", "skip", "copy"),
}
"""What may be asked of this arena beside the methods' settings; the first of each is the default."""

_HANDLING = (
    "8-bit RGB PNG of the original's size; only faces are changed, a gray photo stays gray; EXIF orientation is "
    "applied, all metadata (EXIF with its place and time, colour profiles, text) are dropped; alpha is composited on "
    "white; 16-bit channels keep their upper 8 bits"
)
_MEASURED = (
    "of every face, on average over the extractors it was cloaked on: squared distance between the features of the "
    "original and of the cloaked crop (0 the same, 2 nothing in common, 4 at most): crafted, before it went back into "
    "the photo; moved, cut out of the stored photo; moved_jpeg_75, the same after JPEG at quality 75. apart, in the "
    "note on surrogates: the distance at which these extractors confuse as many photos of one person as of two. A "
    "recogniser with another extractor may see less of the cloak"
)
_MOST_NOTES = 20


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
    faces: Literal["detect", "aligned"] = "detect",
    several: Several = "all",
    no_face: NoFace = "report",
    detector: Detector | None = None,
) -> Protected:
    """Cloak the faces of every photo of a tree and write the photos to another tree with the same names.

    Photos come out at their size as 8-bit PNG, each with a line in OUT/manifest.jsonl that says which faces were found
    and how far the cloak moves them on its own extractors, after saving and after JPEG. EXIF orientation is applied and
    metadata are dropped. A photo's id, which its noise follows, is its path without the suffix.

    The same call goes on where an earlier one ended. Cloaks that look at one photo at a time are made a few faces at a
    time, at constant memory. Those that look at all of a person's photos (opom, fawkes-0.3, in-turn) hold one person's
    crops, and refuse to go on when the originals have changed. A person is a folder of the source, all others are the
    root's; in a photo with several faces the largest is theirs and each other one is a person of its own.

    Args:
        source: the folder with the photos, at any depth; never written to.
        out: a new or empty folder, or one that the same call has begun.
        composition: one cloak.
        seed: of its noise, and of the training of small extractors.
        model: the extractors, in place of the cloak's `extractors`: one, or a list such as [plain, half].
        data: the face set on whose public people small extractors are trained. They are kept in the cache folder.
        on_broken: "fail" ends at a broken photo, "skip" leaves it out and names it.
        device: where networks run.
        watch: told about progress.
        faces: "detect" finds them, "aligned" takes every photo for the crop of one face.
        several: which faces of a photo with several are cloaked.
        no_face: what becomes of a photo without a face. "report": it is left out and counts as not done; "skip": it is
            left out and named; "copy": it is written as it is, without its metadata, and named.
        detector: what finds faces, in place of OpenCV's cascade.

    Raises:
        ConfigError: settings that do not fit the method, an extractor that cannot be had here, no OpenCV.
        DataError: a photo that cannot be used, no photo, or folders inside each other.
        RunError: an output folder that is locked, foreign, begun otherwise, or not writable.
        WeightsError: an extractor's weights are absent.
        DeviceError: a GPU that is not there.
    """
    source, out = Path(source), Path(out)
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device = 'cuda' was asked for, but PyTorch finds no GPU here; use device = 'cpu'")
    surrogates = Surrogates.of(composition, model=model, data=data, seed=seed, device=device)
    check_apart(source, out)
    places = find_photos(source)
    finder = None if faces == "aligned" else (detector or CascadeDetector())
    if finder is not None:
        finder(np.full((64, 64, 3), 128, np.uint8))  # where OpenCV is absent, say so before anything is trained
    method: Cloak = surrogates.composition.method
    header = _header(surrogates, finder, several)
    if method.sees != "photo":
        header["sources_sha256"] = sha256("\n".join(_contents(source, places, on_broken)).encode())
    with published(out) as folder:
        folder.begin(header)
        cloaking = Cloaking(
            source=source,
            places=places,
            method=method,
            surrogates=surrogates,
            folder=folder,
            finder=finder,
            several=several,
            no_face=no_face,
            on_broken=on_broken,
            watch=watch,
        )
        cloaking.run()
        return _summary(cloaking, folder, header)


def _contents(source: Path, places: list[PngPlace], on_broken: OnBroken) -> Iterator[str]:
    """Yield every photo's id and the SHA-256 of its file."""
    for place in places:
        try:
            yield f"{place.id} {sha256(read_bytes(source / place.source))}"
        except DataError:
            if on_broken == "fail":
                raise


def _header(surrogates: Surrogates, finder: Detector | None, several: Several) -> dict[str, Any]:
    """Return the manifest's first line: everything that the photos' bytes depend on, and what the numbers mean."""
    (part,) = surrogates.composition.identity()["parts"]
    method: Any = surrogates.composition.method
    found: dict[str, Any] = {"how": "aligned"}
    if finder is not None:
        settings = asdict(finder) if is_dataclass(finder) and not isinstance(finder, type) else {}
        found = {"how": "detect", "several": several, "detector": type(finder).__name__, "settings": settings}
    return {
        "arena": "faces",
        "method": surrogates.composition.spelling,
        "settings": part["settings"],
        "version": part["version"],
        **surrogates.identity(),
        "rooms": {
            "pixels": pixels.VERSION,
            "learning": learning.VERSION,
            "nets": nets.VERSION,
            "faces": faces.VERSION,
        },
        "seed": surrogates.seed,
        "faces": found,
        "norm": "linf",
        "radius": None if method.norm is None else Ball(norm=method.norm, radius=method.eps).radius,
        "unit": "pixel values in [0, 1]; 8/255 is eight levels",
        "pictures": _HANDLING,
        "measured": _MEASURED,
        "package": f"countermove {countermove.__version__}",
    }


def _summary(cloaking: Cloaking, folder: Published, header: dict[str, Any]) -> Protected:
    ids = {place.id for place in cloaking.places}
    out = {**cloaking.skipped, **cloaking.undone}
    there = {sample: line for sample, line in folder.lines.items() if sample in ids and sample not in out}
    found = [Found(**face) for line in there.values() for face in (line.facts or {}).get("faces", ())]
    copied = tuple(sample for sample, line in there.items() if not (line.facts or {}).get("faces"))
    facts, told = _measured(found, folder)
    told = [f"{len(found)} faces were cloaked in {len(there) - len(copied)} photos.", *told]
    if copied:
        told.append(
            f"{len(copied)} photos without a face were copied and are NOT protected, the first is {copied[0]!r}."
        )
    if cloaking.noted:
        told += [*cloaking.noted[:_MOST_NOTES], *_more(len(cloaking.noted) - _MOST_NOTES)]
    return Protected(
        out=folder.folder,
        manifest=folder.folder / MANIFEST,
        pictures=len(there),
        written=cloaking.written,
        skipped=tuple(cloaking.skipped.values()),
        undone=tuple(cloaking.undone.values()),
        gone=tuple(sample for sample in folder.lines if sample not in ids),
        budget=summed_budget(list(there.values()), header["norm"], header["radius"]),
        facts={"faces": len(found), "copied": list(copied), **facts, "notes": list(cloaking.noted)},
        told=tuple(told),
    )


def _more(count: int) -> list[str]:
    return [f"… and {count} more of this kind; --json has them all."] if count > 0 else []


def _measured(found: list[Found], folder: Published) -> tuple[dict[str, Any], list[str]]:
    """Return what was measured of all faces, for machines and for people."""
    saved = [face.moved for face in found if face.moved is not None]
    jpeg = [face.moved_jpeg_75 for face in found if face.moved_jpeg_75 is not None]
    if not saved:
        return {}, []
    facts: dict[str, Any] = {
        "moved": {"mean": mean(saved), "least": min(saved)},
        "moved_jpeg_75": {"mean": mean(jpeg), "least": min(jpeg)},
    }
    told = [
        f"Its own extractors see a face moved by {mean(saved):.2f} (squared distance, mean; least {min(saved):.2f}), "
        f"after JPEG at quality 75 by {mean(jpeg):.2f} (least {min(jpeg):.2f})."
    ]
    apart = next((note["apart"] for note in reversed(folder.notes) if "apart" in note), None)
    if apart is not None:
        far, far_jpeg = (sum(value > apart for value in values) for values in (saved, jpeg))
        facts |= {"apart": apart, "beyond": far, "beyond_jpeg_75": far_jpeg}
        told.append(
            f"Beyond {apart:.2f} they tend to see two people: {far} of {len(saved)} faces, after JPEG {far_jpeg}. "
            "Other extractors may see less of it; `countermove audit` measures that."
        )
    return facts, told
