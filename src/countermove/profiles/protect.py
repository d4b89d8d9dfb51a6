"""Choosing what to add to one's own profile: ``countermove protect profiles ME OUT --candidates POOL``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import countermove
from countermove import learning, nets, pixels, profiles
from countermove.errors import ConfigError, DataError, DeviceError, did_you_mean
from countermove.game.methods import Composition
from countermove.pixels.files import OnBroken
from countermove.pixels.published import MANIFEST, Protected, check_apart, published, sha256
from countermove.profiles.dataset import Profiles
from countermove.profiles.methods import METHODS
from countermove.profiles.pivot import TARGET, Additions, PivotContext, counts, require_background
from countermove.profiles.protect_additions import Asked, described, finished, summary, write
from countermove.profiles.protect_items import Items, check_form, find, joined, medium_of, nobody, read
from countermove.profiles.protect_surrogates import Surrogates, Watch, one_thread

__all__ = ["DEFAULTS", "METHODS", "OPTIONS", "UNIT", "protect_folder"]

OPTIONS: dict[str, tuple[str, ...]] = {"candidates": (), "attribute": ()}
"""What may be asked of this arena beside the methods' settings: any text."""
DEFAULTS: dict[str, dict[str, Any]] = {"nat-i": {"choice": "greedy"}}
"""Settings that are others than in an audit: for one person, a whole set can be chosen."""
UNIT = "items"
_NATURAL = {"picture": "small", "speech": "log-mel"}
"""The extractor that is looked through where none is named."""
_HANDLING = (
    "candidates that were chosen keep their bytes and names, metadata too; items that were made are 8-bit RGB PNG or "
    "16-bit mono WAV at the size of the set's. To be read, a picture is cut to its largest centre square and resized "
    "to the set's side (EXIF orientation is applied), a sound is resampled to its rate and cut or padded to its length"
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
    candidates: Path | str | None = None,
    attribute: str | None = None,
) -> Protected:
    """Choose or make what a person should add to what they have published, and say what a profiler then reads.

    OUT gets the additions, a manifest, and additions.json: every addition in the order in which it should be published,
    and what the profiler reads of the person's value before, after each one, and after as many random candidates.
    Candidates that were chosen come out with their very bytes under their own names. Items that were made come out as
    PNG or 16-bit WAV at the size that the set's items have.

    The person's items are looked at in the form of the set: the largest centre square at its side, or its rate and
    length. Their order is that of their names. The same call goes on where an earlier one ended, or does nothing.

    Args:
        source: the folder with what the person has published; never written to.
        out: a new or empty folder, or one that the same call has begun.
        composition: one pivot.
        seed: of its choices, and of the training of profiler and extractor.
        model: the profiler; deep-sets by default. It is trained once and kept in the cache folder.
        data: the profile set that it is trained on.
        on_broken: "fail" ends at a broken item, "skip" leaves it out and names it.
        device: where networks run.
        watch: told about progress.
        candidates: the folder with what the person would be willing to publish.
        attribute: the person's own value of the set's attribute.

    Raises:
        ConfigError: settings that do not fit the method or the set, or lack something.
        DataError: an item that cannot be used, none at all, too few candidates, or folders inside each other.
        RunError: an output folder that is locked, foreign, begun otherwise, or not writable.
        WeightsError: an extractor's weights are absent.
        DeviceError: a GPU that is not there.
    """
    source, out = Path(source), Path(out)
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device = 'cuda' was asked for, but PyTorch finds no GPU here; use device = 'cpu'")
    pool = None if candidates is None else Path(candidates)
    _check(composition, model=model, data=data, pool=pool, attribute=attribute)
    _check_folders(source, pool, out)
    asked = _asked(composition, source, pool, seed, model, data, attribute, on_broken, device)
    with one_thread():
        surrogates = _surrogates(asked)
        header = _header(asked, surrogates)
        if (out / MANIFEST).exists():
            with published(out) as folder:
                folder.begin(header)
                found = finished(folder)
                if found is not None:
                    return summary(folder, found, written=0)
        extended, own, candidate = _read(asked, surrogates)
        with published(out) as folder:
            folder.begin(header)
            if surrogates is not None:
                surrogates.make(watch)
            context = PivotContext(seed=seed, device=device) if surrogates is None else surrogates.context()
            mover = torch.tensor([len(extended.bags) - 1])
            added: Additions = asked.method(extended, mover, context=context)
            effect = None
            if surrogates is not None:
                effect = surrogates.effect(extended, int(mover), added, getattr(asked.method, "place", "end"))
            found = described(asked, extended, own, candidate, added, effect)
            return summary(folder, found, written=write(asked, folder, extended, added, found, watch))


def _check(
    composition: Composition, *, model: str | None, data: str | None, pool: Path | None, attribute: str | None
) -> None:
    """Refuse calls that lack something or have too much.

    Raises:
        ConfigError: saying what.
    """
    method: Any = composition.method
    (part,) = composition.parts
    if composition.is_none or hasattr(method, "takes_part"):
        raise ConfigError(
            f"{part.name!r} adds nothing to a profile that is published; name a pivot, such as nat-i or adv-pi"
        )
    known = method.knows()
    if data is None:
        if known is not None or method.changes:
            raise ConfigError(
                f"{part.name!r} needs a set of profiles; say which: --data, of `countermove ls data --arena profiles`"
            )
        for option, value in (("--model", model), ("--attribute", attribute)):
            if value is not None:
                raise ConfigError(f"{option} is read on a set of profiles; say which with --data, or leave it out")
    if known is not None and known.box != "near-black" and attribute is None:
        raise ConfigError(
            f"{part.name!r} in the {known.box} box works against one value of the attribute; say which is yours: "
            "--attribute VALUE. Or take --box near-black, which needs none"
        )
    if getattr(method, "like", "any") == "same":
        raise ConfigError("like = 'same' is refused here: all candidates are your own; leave it out")
    if pool is None and hasattr(method, "like"):
        raise ConfigError(f"{part.name!r} begins with items that you would publish; say where: --candidates FOLDER")


def _check_folders(source: Path, pool: Path | None, out: Path) -> None:
    """Refuse folders inside each other.

    Raises:
        DataError: saying which.
    """
    check_apart(source, out)
    if pool is None:
        return
    check_apart(pool, out)
    one, other = source.resolve(), pool.resolve()
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise DataError(
            f"{source} and {pool} are the same or inside each other; keep what is published and candidates in two "
            "folders"
        )


def _asked(
    composition: Composition,
    source: Path,
    pool: Path | None,
    seed: int,
    model: str | None,
    data: str | None,
    attribute: str | None,
    on_broken: OnBroken,
    device: str,
) -> Asked:
    """Look at the files, and fill in what depends on their medium."""
    own = find(source, "what you have published", on_broken)
    found = None if pool is None else find(pool, "candidates", on_broken)
    notes: list[str] = []
    if found is not None:
        found, theirs, again = found.without(set(own.sha256.values()))
        for names, why in ((theirs, "already among your own items"), (again, "twice among the candidates")):
            if names:
                notes.append(f"Left out, {why}: {names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}.")
        if not found.sha256:
            raise DataError(f"every candidate in {pool} is among your own items; bring others")
    medium = medium_of([*own.paths, *(found.paths if found else ())])
    composition = _natural(composition, medium)
    if model is None:
        known = composition.method.knows()
        model = TARGET if known is None else known.model or TARGET
        model = f"deep-sets(features={_NATURAL[medium]})" if model == TARGET else model
    known_model = METHODS.compose("model", str(model))
    known_data = METHODS.compose("data", data) if data else None
    for one in (known_model, *([known_data] if known_data else [])):
        _ = one.method
    return Asked(
        composition=composition,
        own=own,
        pool=found,
        medium=medium,
        data="" if known_data is None else known_data.spelling,
        model=known_model.spelling,
        attribute=attribute or "",
        seed=seed,
        device=device,
        on_broken=on_broken,
        notes=tuple(notes),
    )


def _surrogates(asked: Asked) -> Surrogates | None:
    if not asked.data:
        return None
    return Surrogates(
        asked.data,
        asked.composition.spelling,
        asked.model,
        seed=asked.seed,
        device=asked.device,
        reads=bool(asked.attribute),
    )


def _natural(composition: Composition, medium: str) -> Composition:
    """Return a near-black pivot with an extractor for the medium, where it has one for pictures by default."""
    (part,) = composition.parts
    method, known = part.method, part.method.knows()
    if medium == "picture" or known is None or known.box != "near-black":
        return composition
    if getattr(method, "features", None) != getattr(type(method), "features", None):
        return composition
    return Composition((replace(part, method=replace(method, features=_NATURAL[medium])),))


def _header(asked: Asked, surrogates: Surrogates | None) -> dict[str, Any]:
    """Return the manifest's first line: everything that the additions and what is said of them depend on."""
    (part,) = asked.composition.identity()["parts"]
    files = [f"own {name} {content}" for name, content in asked.own.sha256.items()]
    files += [f"candidate {name} {content}" for name, content in (asked.pool.sha256 if asked.pool else {}).items()]
    return {
        "arena": "profiles",
        "method": asked.composition.spelling,
        "settings": part["settings"],
        "version": part["version"],
        "data": METHODS.compose("data", asked.data).identity() if asked.data else None,
        "attribute": asked.attribute or None,
        "surrogates": [] if surrogates is None else surrogates.identity(),
        "rooms": {
            "pixels": pixels.VERSION,
            "learning": learning.VERSION,
            "nets": nets.VERSION,
            "profiles": profiles.VERSION,
        },
        "seed": asked.seed,
        "sources_sha256": sha256("\n".join(files).encode()),
        "items": _HANDLING,
        "package": f"countermove {countermove.__version__}",
    }


def _read(asked: Asked, surrogates: Surrogates | None) -> tuple[Profiles, Items, Items | None]:
    """Read everything into memory: a set with the person in it, the person's items, the candidates.

    Raises:
        ConfigError: when the set does not have the attribute's value.
        DataError: when an item cannot be used, or there are fewer candidates than are to be added.
    """
    data = None if surrogates is None else surrogates.arena.profiles(asked.data)
    label = 0
    if data is not None:
        check_form(data, asked.medium, asked.own.folder)
        if asked.attribute and asked.attribute not in data.classes:
            hint = did_you_mean(asked.attribute, data.classes)
            raise ConfigError(f"--attribute {asked.attribute!r} is no value in {data.name}; {hint}")
        label = data.classes.index(asked.attribute) if asked.attribute else 0
    own = read(asked.own, asked.medium, data, asked.on_broken)
    pool = None if asked.pool is None else read(asked.pool, asked.medium, data, asked.on_broken)
    extended = joined(nobody(own, asked.medium) if data is None else data, own, pool, label)
    if not asked.method.changes and hasattr(asked.method, "additions"):
        (count,) = counts(extended, torch.tensor([len(extended.bags) - 1]), asked.method.additions)
        require_background(replace(extended, name=str(asked.pool.folder if asked.pool else "")), asked.name, count)
    return extended, own, pool
