"""From a configuration to cells and the artifacts they share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from countermove.errors import ConfigError
from countermove.game.arena import Arena, Rules, arena_class
from countermove.game.cell import Setting, Task
from countermove.game.config import AuditConfig
from countermove.game.dates import Dates
from countermove.game.methods import Kind


@dataclass(frozen=True)
class Grid:
    """A resolved audit.

    config: with canonical spellings and the resolved device and threads.
    cells:  every cell of the audit, references and controls included, each once.
    tasks:  cells and artifacts, each once, in an order in which they can be done.
    """

    config: AuditConfig
    rules: Rules
    arena: Arena
    cells: tuple[Task, ...]
    tasks: tuple[Task, ...]

    @property
    def artifacts(self) -> tuple[Task, ...]:
        """Return the shared artifacts."""
        return tuple(task for task in self.tasks if task.setting is None)


def expand(config: AuditConfig, *, rehash: bool = False) -> Grid:
    """Resolve a configuration into its grid. Everything that can be wrong with it is found here.

    Move none and countermove none are always played, and the arena's positive control and diagnostics with them.

    Raises:
        ConfigError: on anything that the arena or a method refuses.
    """
    assert config.engine.threads is not None, "resolve the machine first"
    assert config.device != "auto", "resolve the machine first"
    rules = Rules(training=config.training, device=config.device, threads=config.engine.threads, rehash=rehash)
    arena = arena_class(config.arena)(rules)
    axes = {kind: _canonical(arena, kind, spelled) for kind, spelled in config.axes().items()}
    axes["move"] = _with_none(axes["move"])
    axes["countermove"] = _with_none(axes["countermove"])
    arena.check(axes)
    resolved = {"data": "data", "moves": "move", "countermoves": "countermove", "models": "model"}
    spelled = {text: arena.methods.compose(k, text).spelling for k, texts in config.axes().items() for text in texts}
    dates = {spelled.get(key, key): date for key, date in config.dates.items()}
    config = config.model_copy(update={"dates": dates, **{field: axes[kind] for field, kind in resolved.items()}})
    _ = Dates(config)
    settings = (s for setting in _settings(arena, config) for s in (arena.reference(setting), setting))
    cells = tuple(dict.fromkeys(_played(arena, setting) for setting in dict.fromkeys(settings)))
    return Grid(config, rules, arena, cells, _ordered(cells))


def _settings(arena: Arena, config: AuditConfig) -> Iterable[Setting]:
    for data in config.data:
        pairs = [(move, reply) for move in config.moves for reply in config.countermoves]
        for control in arena.controls(data):
            pairs += [("none", control.countermove), (control.move, "none"), (control.move, control.countermove)]
        pairs += [(move, extra) for extra in arena.extra_countermoves(data) for move in config.moves if move != "none"]
        for model in config.models:
            for seed in config.seeds:
                for move, reply in dict.fromkeys(pairs):
                    yield Setting(config.arena, data, move, reply, model, seed)


def _played(arena: Arena, setting: Setting) -> Task:
    cell = arena.cell(setting)
    reference = arena.reference(setting)
    return cell if reference == setting else replace(cell, reference=arena.cell(reference))


def _ordered(cells: Sequence[Task]) -> tuple[Task, ...]:
    """Return every task once, after all that it needs; the cells of one artifact stand together."""
    done: dict[Task, None] = {}

    def visit(task: Task) -> None:
        if task not in done:
            for earlier in task.before:
                visit(earlier)
            done[task] = None

    for cell in cells:
        visit(cell)
    return tuple(done)


def _canonical(arena: Arena, kind: Kind, spelled: Sequence[str]) -> tuple[str, ...]:
    if not spelled:
        raise ConfigError(f"the audit names no {kind}")
    return tuple(dict.fromkeys(arena.methods.compose(kind, text).spelling for text in spelled))


def _with_none(spelled: tuple[str, ...]) -> tuple[str, ...]:
    return ("none", *(text for text in spelled if text != "none"))
