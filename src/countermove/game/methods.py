"""Finding, describing and building methods: everything an axis of the grid can hold.

A method is a frozen, keyword-only dataclass. Registries map its public name to ``"module:Class"``; third parties add
theirs through an entry point of the group ``countermove.<arena>.<kind>`` (kinds: move, countermove, model, data).
Sheets are read from the source file, so listing methods imports none of their dependencies.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from countermove.errors import ConfigError, did_you_mean
from countermove.game import spelling
from countermove.game.spelling import Named

Kind = Literal["move", "countermove", "model", "data"]
KINDS: tuple[Kind, ...] = ("move", "countermove", "model", "data")


@dataclass(frozen=True)
class Sheet:
    """A method's data sheet, read without importing the method."""

    name: str
    kind: str
    arena: str
    target: str
    summary: str
    paper: str
    doc: str
    fields: tuple[tuple[str, str, str], ...]
    """Name, type and default of each setting, as written in the source."""

    def listing(self) -> dict[str, Any]:
        """Return what ``ls --json`` prints of it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "arena": self.arena,
            "paper": self.paper,
            "summary": self.summary,
            "settings": {name: default for name, _, default in self.fields},
        }


@dataclass(frozen=True)
class Part:
    """One method with its settings: an element of a composition."""

    name: str
    method: Any
    version: int

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Return every field's value as plain data."""
        return {f.name: _plain(getattr(self.method, f.name)) for f in dataclasses.fields(self.method)}

    @property
    def keyed(self) -> dict[str, Any]:
        """Return what of the settings enters a key."""
        return keyed(self.method)

    @property
    def spoken(self) -> Named:
        """Return the name with the settings that differ from the defaults."""
        return Named(self.name, {k: v for k, v in self.settings.items() if v != _default(self.method, k)})


@dataclass(frozen=True)
class Composition:
    """One or several methods applied in order, as one entry of an axis."""

    parts: tuple[Part, ...]

    @property
    def spelling(self) -> str:
        """Return the canonical spelling, as it stands in results.csv."""
        return spelling.spell([part.spoken for part in self.parts])

    def identity(self, *, rehash: bool = False) -> dict[str, Any]:
        """Return what enters a key: spelling, settings, versions and the content of files named in settings.

        Args:
            rehash: read those files again, whatever is remembered of them.
        """
        return {
            "spelling": self.spelling,
            "parts": [
                {"name": p.name, "settings": p.keyed, "version": p.version, **_content(p.method, rehash)}
                for p in self.parts
            ],
        }

    @property
    def method(self) -> Any:
        """Return the only method of a composition that cannot have several."""
        if len(self.parts) != 1:
            raise ConfigError(f"{self.spelling!r} joins several methods where one is expected")
        return self.parts[0].method

    @property
    def is_none(self) -> bool:
        """Whether nothing is done here."""
        return all(part.name == "none" for part in self.parts)


class Methods:
    """All methods of one arena, by kind and name."""

    def __init__(self, arena: str, targets: Mapping[Kind, Mapping[str, str]]) -> None:
        self.arena = arena
        self._targets = {kind: {**targets.get(kind, {}), **_plugins(arena, kind, targets)} for kind in KINDS}

    def names(self, kind: Kind) -> list[str]:
        """Return the registered names of a kind."""
        return list(self._targets[kind])

    def target(self, kind: Kind, name: str) -> str:
        """Return where a method lives.

        Raises:
            ConfigError: when the name is unknown; the message carries the nearest known ones.
        """
        try:
            return self._targets[kind][name]
        except KeyError:
            hint = did_you_mean(name, self._targets[kind])
            raise ConfigError(f"unknown {kind} {name!r} in the {self.arena} arena: {hint}") from None

    def sheet(self, kind: Kind, name: str) -> Sheet:
        """Return a method's data sheet without importing it."""
        return read_sheet(name, kind, self.arena, self.target(kind, name))

    def sheets(self) -> list[Sheet]:
        """Return all data sheets."""
        return [self.sheet(kind, name) for kind in KINDS for name in self.names(kind)]

    def compose(self, kind: Kind, text: str) -> Composition:
        """Build what a spelling stands for. Imports the methods.

        Raises:
            ConfigError: on an unknown name or setting, or a value that the setting does not take.
        """
        return Composition(tuple(self._build(kind, named) for named in spelling.parse(text)))

    def _build(self, kind: Kind, named: Named) -> Part:
        cls = load(self.target(kind, named.name))
        method = build(cls, named.settings, what=f"{kind} {named.name!r}")
        return Part(named.name, method, int(cls.version))


class Spelled:
    """What an arena's spellings stand for, and what of them enters keys; each worked out once.

    rehash: read the files that methods name again, whatever is remembered of them.
    """

    def __init__(self, methods: Methods, *, rehash: bool) -> None:
        self._methods, self._rehash = methods, rehash
        self._composed: dict[tuple[Kind, str], Composition] = {}
        self._identities: dict[tuple[Kind, str], dict[str, Any]] = {}

    def composed(self, kind: Kind, text: str) -> Composition:
        """Return what a spelling stands for."""
        key = (kind, text)
        if key not in self._composed:
            self._composed[key] = self._methods.compose(kind, text)
        return self._composed[key]

    def identity(self, kind: Kind, text: str) -> dict[str, Any]:
        """Return what of it enters a key."""
        key = (kind, text)
        if key not in self._identities:
            self._identities[key] = self.composed(kind, text).identity(rehash=self._rehash)
        return self._identities[key]


def load(target: str) -> Any:
    """Import ``"module:attribute"``.

    Raises:
        ConfigError: when that cannot be imported; the cause is chained.
    """
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{target!r} cannot be imported: {error}") from error


def build(cls: type[Any], settings: Mapping[str, Any], *, what: str) -> Any:
    """Make a dataclass from plain settings, strictly.

    Raises:
        ConfigError: on an unknown setting (with the nearest known one), or a value of the wrong kind.
    """
    known = [f.name for f in dataclasses.fields(cls)]
    for key in settings:
        if key not in known:
            raise ConfigError(f"{what} has no setting {key!r}: {did_you_mean(key, known)}")
    given = {k: _number_or_same(v) for k, v in settings.items()}
    try:
        method = _adapter(cls).validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(x) for x in first["loc"])
        raise ConfigError(f"{what}: {where} = {first.get('input')!r} is refused: {first['msg'].lower()}") from None
    for key, value in given.items():
        built = getattr(method, key)
        if isinstance(built, float) and not math.isfinite(built):
            raise ConfigError(f"{what}: {key} = {value!r} is refused: it must be a finite number")
        if isinstance(value, bool) and isinstance(built, (int, float)) and not isinstance(built, bool):
            raise ConfigError(f"{what}: {key} = {spelling.spell_value(value)} is refused: it must be a number")
    return method


@cache
def _adapter(cls: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def _number_or_same(value: Any) -> Any:
    """Read a text such as 8/255, which a quoted setting or a table may hold, as its number."""
    number = spelling.read_fraction(value) if isinstance(value, str) else None
    return value if number is None else number


def keyed(method: Any) -> dict[str, Any]:
    """Return what of a method's settings enters a key, as plain data: all of them.

    Only those that its class names in `keyed_when_set` are left out at their defaults: they came after its first
    results, which stay what they were. Who changes such a default raises the version.
    """
    later = getattr(type(method), "keyed_when_set", ())
    found = {f.name: _plain(getattr(method, f.name)) for f in dataclasses.fields(method)}
    return {key: value for key, value in found.items() if key not in later or value != _default(method, key)}


def read_sheet(name: str, kind: str, arena: str, target: str) -> Sheet:
    """Read a class's docstring and fields from its source file."""
    module, _, attribute = target.partition(":")
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise ConfigError(f"{kind} {name!r} is registered as {target!r}, but there is no such module")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == attribute:
            doc = ast.get_docstring(node) or ""
            summary, paper = _split_first_line(doc)
            return Sheet(name, kind, arena, target, summary, paper, doc, tuple(_fields(node)))
    raise ConfigError(f"{kind} {name!r} is registered as {target!r}, but that module defines no such class")


def _fields(node: ast.ClassDef) -> list[tuple[str, str, str]]:
    rows = []
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            annotation = ast.unparse(item.annotation)
            if not annotation.startswith("ClassVar"):
                default = ast.unparse(item.value).replace(" / ", "/") if item.value else "(needed)"
                rows.append((item.target.id, annotation, default))
    return rows


def _split_first_line(doc: str) -> tuple[str, str]:
    """Split "Summary, Author et al. 2022, arXiv:1." into the summary and the paper."""
    first = doc.split("\n", 1)[0].strip().rstrip(".")
    match = re.match(r"(.*?), ([A-Z][^,]*(?:, [A-Z][^,]*)*? \d{4}\b.*)", first)
    return (match[1], match[2]) if match else (first, "")


def _plugins(arena: str, kind: Kind, targets: Mapping[Kind, Mapping[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in entry_points(group=f"countermove.{arena}.{kind}"):
        if entry.name in targets.get(kind, {}) or entry.name in found:
            raise ConfigError(f"the {kind} {entry.name!r} is registered twice; {entry.value} must choose another name")
        found[entry.name] = entry.value
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def _default(method: Any, key: str) -> Any:
    for f in dataclasses.fields(method):
        if f.name == key and f.default is not dataclasses.MISSING:
            return _plain(f.default)
    return dataclasses.MISSING


def _content(method: Any, rehash: bool) -> dict[str, Any]:
    """Return the digest of what a method reads from files, where it reads any."""
    fingerprint = getattr(method, "fingerprint", None)
    return {"content": fingerprint(rehash=rehash)} if callable(fingerprint) else {}
