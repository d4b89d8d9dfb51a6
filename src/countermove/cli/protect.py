"""``countermove protect``: change a folder of files before it is published."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from countermove.game.methods import Composition, Methods
    from countermove.pixels.published import Protected

PROTECTS = {
    "faces": "countermove.faces.protect",
    "profiles": "countermove.profiles.protect",
    "retrieval": "countermove.retrieval.protect",
    "unlearnable": "countermove.unlearnable.protect",
}
"""Arena to the module that has its METHODS and its protect_folder. It may have OPTIONS, what that takes more than all
others do: their names with the values they may have (none: any text); DEFAULTS, settings by method where nobody gives
them; and UNIT, what it calls that of which a folder has many."""

_OPTIONS = ("with", "seed", "model", "data", "on-broken", "json")
_USAGE = "countermove protect ARENA IN OUT --with METHOD [--eps 8/255 …]"


def protect(
    ctx: typer.Context,
    arena: Annotated[str, typer.Argument(help="faces, profiles, retrieval or unlearnable.")],
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="The originals, never written to. unlearnable: one folder a class.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder; the same command goes on in it.")],
    with_: Annotated[str, typer.Option("--with", metavar="METHOD", help="A move: lowkey, nat-i, pire-final, …")],
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    model: Annotated[
        str | None, typer.Option(help="The surrogate, where there is one; profiles: the profiler.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="What it learns from; unlearnable: else IN itself.")] = None,
    on_broken: Annotated[str, typer.Option(help="fail ends at a broken file, skip leaves it out.")] = "fail",
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")] = False,
) -> None:
    """Change a folder of pictures before it is published. The same command goes on where an earlier one ended.

    Every setting of the method is an option too: --eps 8/255 --patch-size 4. See `countermove show METHOD`.

    In faces there are --faces detect|aligned (find them, or take each photo for one crop), --several all|largest, and
    --no-face report|skip|copy: a photo without a face is left out and the call ends with 3, left out, or copied.

    In profiles nothing is changed: IN is what you have published, --candidates a folder of what you would be willing to
    publish, --attribute your own value of what the profile set of --data asks. OUT gets what to add, in additions.json
    the order and the expected effect.

    In retrieval IN holds queries that an engine shall not understand. --longest 512 is the size at which backbones see
    them; --against FOLDER searches there, by --engine, and writes OUT/results.html: what each finds before and after.
    """
    from importlib import import_module

    from countermove.errors import ConfigError

    names, settings = read_arguments([arena, str(source), str(out), *ctx.args])
    arena, source, out = names[0], Path(names[1]), Path(names[2])
    if arena not in PROTECTS:
        raise ConfigError(f"protect does not know the arena {arena!r}; it knows: {', '.join(sorted(PROTECTS))}")
    if on_broken not in {"fail", "skip"}:
        raise ConfigError(f"--on-broken {on_broken!r} is refused: fail or skip")
    module = import_module(PROTECTS[arena])
    options = take_options(getattr(module, "OPTIONS", {}), settings)
    composition = compose(
        module.METHODS,
        with_,
        settings,
        options=getattr(module, "OPTIONS", {}),
        defaults=getattr(module, "DEFAULTS", {}),
    )
    unit = getattr(module, "UNIT", "pictures")
    try:
        with _watching(unit, quiet=json_) as watch:
            done = module.protect_folder(
                source,
                out,
                composition,
                seed=seed,
                model=model,
                data=data,
                on_broken=on_broken,
                watch=watch,
                **options,
            )
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    if json_:
        _print_json(done, unit)
    else:
        _print(done, unit)
    if done.undone:
        raise typer.Exit(3)


def read_arguments(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Tell ARENA, IN and OUT from the method's settings, which may stand anywhere between them.

    Returns:
        The three names, and the settings as text, with underscores in their names.

    Raises:
        ConfigError: on a setting without a value or given twice, and on more or fewer than three names.
    """
    from countermove.errors import ConfigError

    names: list[str] = []
    settings: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            names.append(word)
            continue
        option, equals, value = word.partition("=")
        key = option.removeprefix("--").replace("-", "_")
        if not option.startswith("--") or not key.isidentifier():
            raise ConfigError(f"{word!r} is no option; settings of the method are written like --eps 8/255")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise ConfigError(f"{option} needs a value: {option} VALUE, or {option} true for a switch")
            value = rest.pop(0)
        if key in settings:
            raise ConfigError(f"{option} is given twice; keep one")
        settings[key] = value
    if len(names) < 3:
        raise ConfigError(f"{('ARENA', 'IN', 'OUT')[len(names)]} is missing: {_USAGE}")
    if len(names) > 3:
        raise ConfigError(f"unexpected argument {names[3]!r}: {_USAGE}")
    return names, settings


def take_options(known: Mapping[str, Sequence[str]], settings: dict[str, str]) -> dict[str, str]:
    """Take an arena's own options out of the settings.

    Raises:
        ConfigError: on a value that such an option does not have.
    """
    from countermove.errors import ConfigError

    taken = {key: settings.pop(key) for key in known if key in settings}
    for key, value in taken.items():
        if known[key] and value not in known[key]:
            raise ConfigError(f"--{key.replace('_', '-')} {value!r} is refused: {' or '.join(known[key])}")
    return taken


def compose(
    methods: Methods,
    spelled: str,
    settings: dict[str, str],
    *,
    options: Iterable[str] = (),
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
) -> Composition:
    """Build a method from its spelling and the settings that were given as options.

    Args:
        methods: of the arena.
        spelled: one method.
        settings: options' names, with underscores, and what was given for them.
        options: the arena's own, for hints.
        defaults: settings by method, where neither gives them.

    Raises:
        ConfigError: on an unknown method or setting, one that is given twice, or a refused value.
    """
    from countermove.errors import ConfigError, did_you_mean
    from countermove.game.spelling import Named, parse, parse_value, spell

    parts = parse(spelled)
    if len(parts) != 1:
        raise ConfigError(f"--with {spelled!r} joins several methods; name one")
    (named,) = parts
    known = [name for name, _, _ in methods.sheet("move", named.name).fields]
    for key in settings:
        option = f"--{key.replace('_', '-')}"
        if key not in known:
            hint = did_you_mean(option, [f"--{name.replace('_', '-')}" for name in (*known, *options, *_OPTIONS)])
            raise ConfigError(f"{option} is neither an option of protect nor a setting of {named.name!r}; {hint}")
        if key in named.settings:
            raise ConfigError(f"{key!r} is given twice, in --with and as {option}; keep one")
    given = {key: parse_value(value) for key, value in settings.items()}
    usual = (defaults or {}).get(named.name, {})
    return methods.compose("move", spell([Named(named.name, {**usual, **named.settings, **given})]))


@contextmanager
def _watching(unit: str, *, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Show progress on standard error: a bar on a terminal, else a line at each tenth."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield lambda *_: None
    elif console.is_terminal:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}"))
        with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
            bars: dict[str, Any] = {}

            def on_bar(what: str, done: int, total: int) -> None:
                if what not in bars:
                    bars[what] = progress.add_task(what, total=total)
                progress.update(bars[what], completed=done, total=total)

            yield on_bar
    else:
        told: set[tuple[str, int]] = set()

        def on_line(what: str, done: int, total: int) -> None:
            tenth = 10 * done // max(1, total)
            if (what, tenth) not in told:
                told.add((what, tenth))
                typer.echo(f"{what}: {done} of {total} {unit}", err=True)

        yield on_line


def _print(done: Protected, unit: str) -> None:
    for message in done.skipped:
        typer.echo(f"left out: {message}", err=True)
    for message in done.undone:
        typer.echo(f"not done: {message}", err=True)
    if done.gone:
        typer.echo(
            f"{len(done.gone)} {unit} in {done.out} have no original any more, the first is {done.gone[0]!r}; "
            "they were left there",
            err=True,
        )
    typer.echo(f"{done.pictures} {unit} are in {done.out}, {done.written} of them written now.")
    _print_change(done.budget, unit)
    for sentence in done.told:
        typer.echo(sentence)
    typer.echo(f"manifest {done.manifest}")


def _print_change(budget: Mapping[str, Any], unit: str) -> None:
    """Print how far items were changed; nothing where they were not."""
    if not budget:
        return
    promise = "" if budget["radius"] is None else f", promised {_number(budget['radius'], budget['norm'])}"
    typer.echo(
        f"change ({budget['norm']}): largest {_number(budget['largest'], budget['norm'])}, "
        f"mean {_number(budget['mean'], budget['norm'])}{promise}"
    )
    if budget["kept"] is False:
        typer.echo(f"The promised radius is not kept by all {unit}; the manifest says by which.", err=True)


def _print_json(done: Protected, unit: str) -> None:
    import json

    told = {
        "out": str(done.out),
        "manifest": str(done.manifest),
        unit: done.pictures,
        "written": done.written,
        "skipped": list(done.skipped),
        "undone": list(done.undone),
        "gone": list(done.gone),
        "budget": done.budget,
        **done.facts,
    }
    typer.echo(json.dumps(told, indent=1))


def _number(value: float, norm: str) -> str:
    """Write a size as a person reads it: levels for L-infinity, pixels for L0."""
    if norm == "linf":
        return f"{value * 255:.4g}/255"
    return f"{value:.0f} pixels" if norm == "l0" else f"{value:.4g}"
