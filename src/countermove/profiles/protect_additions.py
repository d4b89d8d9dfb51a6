"""What `protect` writes: the items to add, their order and effect, and the same for people.

OUT/additions.json, format 1: how the additions were chosen, what the profiler reads of the person's value, and every
addition with its rank. It is written when all items are there. Legend: K additions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from statistics import median
from typing import Any

from countermove.errors import DataError, RunError
from countermove.game.methods import Composition
from countermove.pixels.balls import Ball
from countermove.pixels.budget import measured_budget
from countermove.pixels.decode import words
from countermove.pixels.files import OnBroken, read_bytes, safe_child, write_atomic
from countermove.pixels.published import MANIFEST, Protected, Published, sha256
from countermove.pixels.rounding import to_float
from countermove.profiles.dataset import Medium, Profiles, as_float
from countermove.profiles.pivot import Additions
from countermove.profiles.protect_items import Found, Items
from countermove.profiles.protect_surrogates import DRAWS, Effect, Watch
from countermove.profiles.sound import snr, write_wav

ADDITIONS = "additions.json"
_FORMAT = 1
_ROWS = 12
_MEASURED = (
    "before, after: the probability that the profiler gives the person's own value, with no addition and with the "
    f"first so many; random: with as many random candidates, mean, least and most of {DRAWS} draws; after_items: how "
    "many of the person's own items are older"
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A call, before anything is read but its files' contents.

    data, model: spelled; the data are "" where there are none.
    attribute:   the person's own value; "" where it is not said.
    notes:       what a person should know of the files.
    """

    composition: Composition
    own: Found
    pool: Found | None
    medium: Medium
    data: str
    model: str
    attribute: str
    seed: int
    device: str
    on_broken: OnBroken
    notes: tuple[str, ...]

    @property
    def method(self) -> Any:
        """Return the move."""
        return self.composition.method

    @property
    def name(self) -> str:
        """Return what the move is called."""
        return self.composition.parts[0].name


def described(
    asked: Asked, data: Profiles, own: Items, pool: Items | None, added: Additions, effect: Effect | None
) -> dict[str, Any]:
    """Return what additions.json says."""
    names = _candidates(data, own, pool, added)
    control = None if effect is None else effect.control
    rows = []
    for at, (name, file) in enumerate(zip(names, _files(asked, names), strict=True)):
        row: dict[str, Any] = {"rank": at + 1, "file": file, "candidate": name, "after_items": int(added.when[at])}
        if effect is not None:
            row["after"] = effect.after[at]
        if control is not None:
            row["random"] = dict(zip(("mean", "least", "most"), control[at], strict=True))
        rows.append(row)
    budget, told = _change(asked, data, added)
    return {
        "format": _FORMAT,
        "method": asked.composition.spelling,
        "data": asked.data or None,
        "attribute": asked.attribute or None,
        "items": len(own.items),
        "candidates": 0 if pool is None else len(pool.items),
        "profiler": None if effect is None else _profiler(asked, effect),
        "measured": _MEASURED if effect is not None else None,
        "additions": rows,
        "budget": budget,
        "notes": [*asked.notes, *own.notes, *(pool.notes if pool else ()), *_notes(asked, data, pool, added), *told],
        "skipped": [*own.skipped, *(pool.skipped if pool else ())],
    }


def write(
    asked: Asked, folder: Published, data: Profiles, added: Additions, found: Mapping[str, Any], watch: Watch
) -> int:
    """Write all additions and additions.json; return how many items were not there yet.

    Raises:
        DataError: when a candidate has changed since it was read.
        RunError: when something cannot be written.
    """
    written = 0
    for at, row in enumerate(found["additions"]):
        watch("writing", at, len(added))
        file, source = row["file"], row["candidate"]
        content = asked.pool.sha256[source] if source is not None and asked.pool is not None else ""
        if folder.finished(file, file, content):
            continue
        if asked.method.changes:
            made = _write_made(folder, file, data, added, at)
        else:
            made = _write_same(asked, folder, file)
        budget = 0.0 if not found["budget"] else _largest(data, added, at)
        kept = None if not found["budget"] else bool(budget <= (found["budget"]["radius"] or 1) + 1e-6)
        line = {"id": file, "source": source, "source_sha256": content, "out": file, "out_sha256": made}
        folder.note([{**line, "budget": budget, "kept": kept, "facts": {"rank": row["rank"]}}])
        written += 1
    watch("writing", len(added), len(added))
    text = json.dumps(found, ensure_ascii=False, allow_nan=False, indent=1).encode()
    write_atomic(folder.folder / ADDITIONS, text)
    folder.note([{"additions": ADDITIONS, "sha256": sha256(text)}])
    return written


def finished(folder: Published) -> dict[str, Any] | None:
    """Return what additions.json says where an earlier call has done everything and it is all still there."""
    note = next((note for note in reversed(folder.notes) if "additions" in note), None)
    path = folder.folder / ADDITIONS
    if note is None or not path.is_file():
        return None
    text = read_bytes(path)
    if sha256(text) != note["sha256"]:
        return None
    found = json.loads(text)
    for row in found["additions"]:
        line = folder.lines.get(row["file"])
        if line is None or folder.finished(row["file"], line.out, line.source_sha256) is None:
            return None
    return found


def summary(folder: Published, found: Mapping[str, Any], *, written: int) -> Protected:
    """Return what was done, for machines and for people."""
    return Protected(
        out=folder.folder,
        manifest=folder.folder / MANIFEST,
        pictures=len(found["additions"]),
        written=written,
        skipped=tuple(found["skipped"]),
        gone=(),
        budget=found["budget"],
        facts={key: found[key] for key in ("attribute", "profiler", "additions", "notes")},
        told=(*_table(found), *found["notes"], f"additions {folder.folder / ADDITIONS}"),
    )


def _candidates(data: Profiles, own: Items, pool: Items | None, added: Additions) -> list[str | None]:
    """Return the name of the candidate that each addition is or was made from."""
    first = len(data.items) - (0 if pool is None else len(pool.items))
    names = [] if pool is None else list(pool.names)
    return [names[row - first] if row >= first else None for row in added.source.tolist()]


def _files(asked: Asked, names: Sequence[str | None]) -> list[str]:
    """Return what each addition is called in OUT; made ones are numbered, since two may come from one candidate."""
    if not asked.method.changes:
        return [name for name in names if name is not None]
    ending, digits = {"picture": ".png"}.get(asked.medium, ".wav"), len(str(len(names)))
    stems = ["" if name is None else f"-{PurePosixPath(name).stem[:40]}" for name in names]
    return [f"{at:0{digits}d}{stem}{ending}" for at, stem in enumerate(stems, start=1)]


def _profiler(asked: Asked, effect: Effect) -> dict[str, Any]:
    facts = asdict(effect)
    return {
        "model": asked.model,
        **{key: facts[key] for key in ("right", "of", "guessed", "chosen_with", "before", "read")},
    }


def _change(asked: Asked, data: Profiles, added: Additions) -> tuple[dict[str, Any], list[str]]:
    """Return how far stored additions are from the candidates they were made from, and a sentence on it."""
    if not asked.method.changes:
        return {}, []
    size = " x ".join(map(str, data.items.shape[2:])) if asked.medium == "picture" else f"{data.items.shape[1]} samples"
    told = [f"The items were made at the size of the set's, {size}, and saved without loss."]
    if not bool((added.source >= 0).all()):
        return {}, told
    clean = data.items[added.source]
    if asked.medium == "picture":
        ball = Ball(norm="linf", radius=asked.method.eps) if hasattr(asked.method, "eps") else None
        return measured_budget(added.items, to_float(clean), ball), told
    ratio = snr(as_float(clean, "speech"), as_float(added.items, "speech")).tolist()
    told.append(f"The change is {median(ratio):.1f} dB quieter than the clip (median; at least {min(ratio):.1f} dB).")
    return {}, told


def _largest(data: Profiles, added: Additions, at: int) -> float:
    return float((to_float(added.items[at]) - to_float(data.items[added.source[at]])).abs().max())


def _notes(asked: Asked, data: Profiles, pool: Items | None, added: Additions) -> list[str]:
    notes = []
    if pool is not None and not asked.method.changes and len(added) == len(pool.items):
        notes.append("All candidates are added: nothing was chosen but their order.")
    if getattr(asked.method, "place", "end") != "end":
        notes.append(f"{ADDITIONS} says after how many of your own items each is to be published (after_items).")
    if asked.data and not asked.attribute:
        notes.append("Nothing is said about the effect: that needs your value of the attribute, --attribute VALUE.")
    if not asked.data:
        notes.append("Nothing is said about the effect: that needs a profiler, and so a set of profiles, --data SET.")
    if asked.data and data.captions.shape[1]:
        notes.append(f"{asked.data} has captions and your files have none: the effect is that of items without text.")
    if asked.data and data.warning:
        notes.append(f"About {asked.data}: {data.warning}.")
    return notes


def _table(found: Mapping[str, Any]) -> list[str]:
    """Return the additions as lines for people."""
    rows, profiler = found["additions"], found["profiler"]
    some = range(len(rows)) if len(rows) <= _ROWS else [*range(_ROWS - 2), len(rows) - 1]
    if profiler is None:
        lines = [f"{rows[at]['rank']:>4}  {rows[at]['file']}" for at in some]
        return [f"Add these {len(rows)}, in this order:", *_shortened(lines, len(rows))]
    width = max(8, len(found["attribute"]))
    control = "random" in rows[0]
    head = f" add  {found['attribute']:>{width}}  {'random' if control else '':>8}  file"
    start = (
        f"   0  {profiler['before']:>{width}.3f}  {profiler['before'] if control else '':>8{'.3f' if control else ''}}"
    )
    lines = []
    for row in (rows[at] for at in some):
        random = f"{row['random']['mean']:.3f}" if control else ""
        lines.append(f"{row['rank']:>4}  {row['after']:>{width}.3f}  {random:>8}  {row['file']}")
    told = [
        f"How probable the profiler finds {found['attribute']!r} after the first so many"
        + (f", and after as many random candidates (mean of {DRAWS} draws):" if control else ":"),
        head,
        start.rstrip(),
        *_shortened(lines, len(rows)),
        f"It is {profiler['model']}; of {profiler['of']} test profiles of {found['data']} it reads {profiler['right']} "
        f"rightly, and guessing {profiler['guessed']}.",
    ]
    if not profiler["read"]:
        told.append(
            f"It does not read {found['attribute']!r} in your items as they are: nothing need be hidden from it."
        )
    if control and rows[-1]["after"] >= rows[-1]["random"]["mean"]:
        told.append("These additions do no better with it than random candidates; choose in another way.")
    if not control:
        told.append("There is no random choice beside it: that needs as many candidates as additions.")
    with_it = ", the very one the additions were chosen with" if profiler["chosen_with"] else ""
    told.append(
        f"This is one profiler, trained here{with_it}: somebody else's may read otherwise, and nothing is proved about "
        "it; `countermove audit` measures additions against others."
    )
    return told


def _shortened(lines: list[str], count: int) -> list[str]:
    return (
        lines if count == len(lines) else [*lines[:-1], f"   … {count - len(lines)} more, see {ADDITIONS}", lines[-1]]
    )


def _write_same(asked: Asked, folder: Published, file: str) -> str:
    """Write a candidate's bytes; return their SHA-256."""
    assert asked.pool is not None, "it is one of them"
    source, path = asked.pool.folder / file, safe_child(folder.folder, file)
    content = read_bytes(source)
    if sha256(content) != asked.pool.sha256[file]:
        raise DataError(f"{source} has changed since this call began; run it again into another folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path.parent} cannot be made: {words(error)}; make {folder.folder} writable") from None
    write_atomic(path, content)
    return sha256(content)


def _write_made(folder: Published, file: str, data: Profiles, added: Additions, at: int) -> str:
    """Write an item without loss; return the SHA-256 of its file."""
    if data.medium == "picture":
        return folder.write(file, added.items[at].permute(1, 2, 0).contiguous().numpy())
    path = safe_child(folder.folder, file)
    write_wav(path, added.items[at], data.rate)
    return sha256(read_bytes(path))
