"""The audit file: strict, typed, with an answer for every misspelling."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import tomli_w
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from countermove.errors import ConfigError, did_you_mean
from countermove.game import spelling
from countermove.game.methods import Kind
from countermove.game.spelling import Named

MAX_BYTES = 1_000_000
"""An audit file larger than this is no audit file."""

MAX_SEEDS = 10_000
"""More seeds than this are a slip of the pen."""

# Python's reader takes memory that grows with the square of a dotted key's length.
_LONG_KEY = re.compile(
    r"""(?<![\w\\-])(?:(?:[\w-]++|"(?:[^"\\\n]++|\\.)*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+)"""
    rf"{{{spelling.MAX_DEPTH + 1}}}"
)

Size = Literal["mini", "paper"]


def _spelled(value: Any) -> Any:
    """Turn one entry or a list of entries (strings or tables with a name) into a list of spellings."""
    entries = value if isinstance(value, list) else [value]
    return [_spell_table(entry) if isinstance(entry, dict) else entry for entry in entries]


def _spell_table(table: dict[str, Any]) -> str:
    if not isinstance(table.get("name"), str):
        raise ValueError("a table here needs a name, like {name = 'jpeg', quality = 30}")
    return spelling.spell([Named(table["name"], {k: v for k, v in table.items() if k != "name"})])


def _seeds(value: Any) -> Any:
    """Read a count (3), a list ([0, 1, 2]) or a text ("0-2", "0,4,7") as a list of seeds."""
    if isinstance(value, bool):
        raise ValueError("seeds are a count, a list, or a text such as 0-2")
    if isinstance(value, int):
        return _few(range(value))
    if not isinstance(value, str):
        return value
    seeds: list[int] = []
    for piece in value.split(","):
        low, dash, high = piece.strip().partition("-")
        try:
            wanted = range(int(low), int(high if dash else low) + 1)
        except ValueError:
            raise ValueError("seeds are a count, a list, or a text such as 0-2 or 0,4,7") from None
        seeds += _few(wanted)
    return seeds


def _bytes(value: Any) -> Any:
    """Read 2147483648, "2GiB" or "500 MB" as bytes."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKMGT]i?)?B?\s*", value)
    if match is None:
        raise ValueError('memory is a number of bytes, or a text such as "2GiB" or "500MB"')
    power = "kMGT".index(match[2][0].replace("K", "k")) + 1 if match[2] else 0
    return round(float(match[1]) * (1024 if (match[2] or "").endswith("i") else 1000) ** power)


def _address(value: str) -> str:
    if value != "auto" and not re.fullmatch(r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):\d{1,5}", value):
        raise ValueError(
            "an address is host:port or auto; the driver runs on a node of the cluster, not through ray://"
        )
    return value


def _gpus(value: float) -> float:
    if value > 1 and value != int(value):
        raise ValueError("more than one GPU is a whole number")
    return value


def _few(seeds: range) -> list[int]:
    """Refuse a range before it fills the memory."""
    if seeds.stop - seeds.start > MAX_SEEDS:
        raise ValueError(f"at most {MAX_SEEDS:,} seeds are played")
    return list(seeds)


Axis = Annotated[tuple[str, ...], BeforeValidator(_spelled)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineConfig(_Strict):
    """How cells are distributed. Only `threads` is part of the keys.

    workers: tasks at a time; by default one, and with Ray as many as the cluster has room for.
    threads: per process; by default the machine's cores divided by those at work (with Ray one), then kept with the
             run folder.
    processes: of one task, on one machine, started by torchrun. They divide the batches of a training among them; on
             GPUs each has one of its own. What else a task does, each does whole. Results differ by rounding, and
             where networks draw (dropout).
    timeout: seconds a task may take before its process is killed. With it every task has a process of its own, as
             with Ray always.
    address: of a Ray cluster, host:port or auto; without it RAY_ADDRESS, without that a cluster of this machine alone.
    gpus:    a task's share of a GPU, with Ray; by default one a process where the device is cuda.
    memory:  what a task asks of a node, with Ray: bytes, or a text such as "2GiB".
    """

    name: Literal["local", "ray"] = "local"
    workers: int | None = Field(default=None, ge=1, le=100_000)
    threads: int | None = Field(default=None, ge=1, le=1024)
    processes: int = Field(default=1, ge=1, le=64)
    timeout: float | None = Field(default=None, gt=0, le=10_000_000, allow_inf_nan=False)
    address: Annotated[str, AfterValidator(_address)] | None = None
    gpus: Annotated[float, AfterValidator(_gpus)] | None = Field(default=None, ge=0, le=64)
    memory: Annotated[int, BeforeValidator(_bytes), Field(ge=1)] | None = None


class StudyConfig(_Strict):
    """Where an audit is a table or figure of a paper: which one, and what was published.

    item:      the table or figure.
    note:      where the grid differs from the paper's.
    names:     the paper's words for entries of the axes: {EM = "error-minimizing"}; the axes may use them, too.
    published: the numbers; `report.published.published` says how they are looked up.
    results:   the folder in this project's repository that holds measured results; empty where there are none.
    size:      at which size the audit is played; filled in from what was asked for.
    """

    title: str
    paper: str
    item: str = ""
    note: str = ""
    names: dict[str, str] = Field(default_factory=dict)
    published: dict[str, Any] = Field(default_factory=dict)
    results: str = ""
    size: Literal["mini", "paper", ""] = ""


class AuditConfig(_Strict):
    """One audit: the axes of the grid and the rules for all of its cells."""

    name: str = Field(default="audit", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    arena: str = "unlearnable"
    data: Axis
    moves: Axis
    countermoves: Axis
    models: Axis
    seeds: Annotated[tuple[int, ...], BeforeValidator(_seeds)] = (0,)
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    training: dict[str, Any] = Field(default_factory=dict)
    engine: EngineConfig = EngineConfig()
    dates: dict[str, str] = Field(default_factory=dict)
    """Since when moves, countermoves and models are known, by spelling or by name; see `game.ledger`."""
    study: StudyConfig | None = None

    def axes(self) -> dict[Kind, tuple[str, ...]]:
        """Return the four spelled axes by kind."""
        return {"data": self.data, "move": self.moves, "countermove": self.countermoves, "model": self.models}


def load_config(path: Path, *, size: Size | None = None, sets: Sequence[str] = ()) -> AuditConfig:
    """Read an audit file.

    Args:
        path: a TOML file. A table ``[sizes.mini]`` or ``[sizes.paper]`` replaces top-level entries at that size.
        size: which of the two; needed to be named only where the file has sizes (default mini).
        sets: overrides such as ``training.epochs=3`` or ``seeds=0-2``.

    Raises:
        ConfigError: when the file cannot be read, holds an unknown key, or a value that is refused.
    """
    table = _read_toml(path)
    sizes = table.pop("sizes", {})
    if not isinstance(sizes, dict) or set(sizes) - {"mini", "paper"} or not _all_tables(sizes):
        raise ConfigError(f"{path}: sizes are the tables [sizes.mini] and [sizes.paper]")
    if size and sizes and size not in sizes:
        raise ConfigError(f"{path} has no size {size!r}: it has {', '.join(sorted(sizes))}")
    if sizes:
        table = _merged(table, sizes.get(size or "mini", {}))
        if isinstance(table.get("study"), dict):
            table["study"] = {**table["study"], "size": size or "mini"}
    table.setdefault("name", path.stem)
    return make_config(_in_full(apply_sets(table, sets)), where=str(path))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the audit file {path}: {error.strerror or error}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path} is too large; an audit file has at most {MAX_BYTES:,} bytes")
    try:
        text = content.decode()
        if _LONG_KEY.search(text):
            raise ConfigError(f"{path} is refused: a key has more than {spelling.MAX_DEPTH} parts")
        table = tomllib.loads(text)
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a text file in UTF-8") from None
    except (ValueError, RecursionError) as error:  # plain ValueErrors come from numbers of thousands of digits
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    if fault := spelling.why_outsized(table):
        raise ConfigError(f"{path} is refused: {fault}")
    return table


def make_config(table: Mapping[str, Any], *, where: str = "the configuration") -> AuditConfig:
    """Check a table and make the configuration.

    Raises:
        ConfigError: naming the key, the value, and what would be accepted.
    """
    try:
        config = AuditConfig.model_validate(table)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error)}") from None
    if not config.seeds or len(set(config.seeds)) < len(config.seeds) or min(config.seeds) < 0:
        raise ConfigError(f"{where}: seeds must be different whole numbers from 0 on; got {list(config.seeds)}")
    return config


def apply_sets(table: Mapping[str, Any], sets: Sequence[str]) -> dict[str, Any]:
    """Return the table with ``key=value`` overrides; dots reach into sub-tables."""
    result: dict[str, Any] = _copied(table)
    for item in sets:
        key, equals, text = item.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {item!r} is refused: write key=value, like training.epochs=3")
        *path, last = key.strip().split(".")
        target = result
        for name in path:
            target = target.setdefault(name, {})
            if not isinstance(target, dict):
                raise ConfigError(f"--set {item!r} is refused: {name!r} is no table")
        target[last] = _set_value(last, text.strip())
    return result


def _in_full(table: dict[str, Any]) -> dict[str, Any]:
    """Return the table with the study's names on the axes replaced by what they stand for."""
    study = table.get("study")
    names = study.get("names") if isinstance(study, dict) else None
    if not isinstance(names, dict):
        return table

    def full(entry: Any) -> Any:
        return names.get(entry, entry) if isinstance(entry, str) else entry

    axes = {key: table[key] for key in ("data", "moves", "countermoves", "models") if key in table}
    if isinstance(table.get("dates"), dict):
        table = table | {"dates": {full(key): date for key, date in table["dates"].items()}}
    return table | {key: [full(e) for e in v] if isinstance(v, list) else full(v) for key, v in axes.items()}


def dump_config(config: AuditConfig) -> str:
    """Write a configuration as TOML that `load_config` reads back to the same."""
    table = cast(dict[str, Any], _without_none(config.model_dump(mode="json")))
    return tomli_w.dumps(table)


def _set_value(key: str, text: str) -> Any:
    """Read an override. Axes take a TOML list, or one spelling as it stands; seeds a count, too."""
    if key in {"data", "moves", "countermoves", "models", "seeds"} and not text.startswith("["):
        return int(text) if key == "seeds" and text.isdecimal() and len(text) < 20 else text
    if len(text) > MAX_BYTES or _LONG_KEY.search(text):
        raise ConfigError(f"--set {key} is refused: its value is too long")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return spelling.parse_value(text)
    if fault := spelling.why_outsized(value):
        raise ConfigError(f"--set {key} is refused: {fault}")
    return value


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    path = [str(x) for x in first["loc"]]
    if first["type"] == "extra_forbidden":
        model = _model_at(path[:-1])
        return f"unknown key {'.'.join(path)!r}: {did_you_mean(path[-1], model.model_fields)}"
    if first["type"] == "missing":
        return f"the key {'.'.join(path)!r} is missing"
    given = repr(first["input"])
    given = given if len(given) <= 200 else f"{given[:200]}…"
    return f"{'.'.join(path)} = {given} is refused: {first['msg']}"


def _model_at(path: Sequence[str]) -> type[BaseModel]:
    return {"engine": EngineConfig, "study": StudyConfig}.get(path[0] if path else "", AuditConfig)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _all_tables(table: Mapping[str, Any]) -> bool:
    return all(isinstance(value, dict) for value in table.values())


def _copied(value: Any) -> Any:
    return {k: _copied(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list) else value
