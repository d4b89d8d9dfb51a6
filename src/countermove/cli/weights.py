"""``countermove weights``: how far two networks lie apart, and the small file that leads from one to the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from countermove.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from countermove.finetuning.closeness import Distance

PLAIN_WIDTH = 120
FORMATS, GROUPS = ("text", "csv", "json"), ("layer", "tensor")
BASE = Annotated[
    Path, typer.Argument(help="Weights before: a file that ends in .safetensors, .pt, .pth or .ckpt, or a folder.")
]
TUNED = Annotated[Path, typer.Argument(help="Weights after, likewise.")]
DELTA = Annotated[Path, typer.Argument(help="A delta file.")]

app = typer.Typer(help="Compare two networks; pack, apply and look at what leads from one to the other.")


@app.command("closeness")
def closeness(
    base: BASE,
    tuned: TUNED,
    by: Annotated[str, typer.Option(help="layer or tensor.")] = "layer",
    form: Annotated[str, typer.Option("--format", help="text, csv or json.")] = "text",
    picture: Annotated[Path | None, typer.Option(help="Where a picture of the angles goes (.svg).")] = None,
) -> None:
    """Say how far a tuned network lies from where it began, beside what chance would give.

    Angles are in parts of a half turn. By chance: to the same numbers in random order.
    """
    for value, known, name in ((by, GROUPS, "--by"), (form, FORMATS, "--format")):
        if value not in known:
            raise ConfigError(f"{name} {value!r} is refused: {did_you_mean(value, known)}")
    from countermove.finetuning.closeness import distances, layer_distances, read_checkpoint, unshared

    before, after = read_checkpoint(base), read_checkpoint(tuned)
    found = (layer_distances if by == "layer" else distances)(before, after)
    _say(found, form)
    if form == "text":
        for names, where in zip(unshared(before, after), (base, tuned), strict=True):
            if names:
                shown = ", ".join(_plain(name) for name in names[:6])
                typer.echo(f"only in {where}: {shown}{' ...' if len(names) > 6 else ''}")
    if picture is not None:
        from countermove.finetuning.picture import layer_bars
        from countermove.game.store import write_atomic

        rows = [(one.name, one.angle, one.chance) for one in found]
        write_atomic(
            picture, layer_bars(rows, title="Angle to the base, layer by layer; a mark where chance would put it")
        )


@app.command("pack")
def pack(base: BASE, tuned: TUNED, delta: Annotated[Path, typer.Argument(help="The file to write.")]) -> None:
    """Write what leads from one network to the other, bit by bit: masks as coded bits, all else as it is."""
    from countermove.finetuning.closeness import read_checkpoint
    from countermove.finetuning.delta import difference

    before, after = read_checkpoint(base), read_checkpoint(tuned)
    size = difference(before, after).save(delta)
    whole = sum(tensor.numel() * tensor.element_size() for tensor in after.values())
    typer.echo(f"{delta}: {size:,} bytes, {size / max(1, whole):.2%} of a full copy")


@app.command("apply")
def apply(
    base: BASE, delta: DELTA, out: Annotated[Path, typer.Argument(help="Weights to write, .safetensors.")]
) -> None:
    """Write the weights that a delta leads to. Any other base than its own is refused."""
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out} does not end in .safetensors; no other file of weights is written")
    import safetensors.torch

    from countermove.finetuning.closeness import read_checkpoint
    from countermove.finetuning.delta import read_delta, restored
    from countermove.game.store import write_atomic

    weights = restored(read_checkpoint(base), read_delta(delta))
    write_atomic(out, safetensors.torch.save({name: tensor.clone() for name, tensor in weights.items()}))
    typer.echo(f"{out}: {len(weights)} tensors")


@app.command("show")
def show(delta: DELTA) -> None:
    """Say what a delta changes and to which weights it belongs."""
    from countermove.finetuning.delta import read_delta

    found = read_delta(delta)
    typer.echo(f"belongs to {found.base}\nleads to   {found.tuned}")
    for name, entry in found.entries.items():
        size = entry.data.numel() * entry.data.element_size() if entry.data is not None else 0
        more = f", {entry.flips:,} bits against {entry.start.init}" if entry.start is not None else ""
        typer.echo(f"{entry.kind:6} {size:>12,} B  {_plain(name)} {_plain(entry.dtype)} {list(entry.shape)}{more}")


def _say(found: list[Distance], form: str) -> None:
    import csv
    import json
    import sys
    from dataclasses import asdict

    rows = [asdict(one) for one in found]
    if form == "json":
        typer.echo(json.dumps(rows, indent=1))
    elif form == "csv":
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("layer", overflow="fold")
        for name in ("numbers", "changed", "L1", "L2", "angle", "angle by chance", "L1 by chance"):
            table.add_column(name, justify="right")
        for one in found:
            told = (f"{one.numel:,}", f"{one.changed / max(1, one.numel):.1%}", f"{one.l1:.4g}", f"{one.l2:.4g}")
            table.add_row(
                Text(_plain(one.name)), *told, f"{one.angle:.5f}", f"{one.chance:.3f}", f"{one.chance_l1:.4g}"
            )
        console = Console()
        console.width = console.width if console.is_terminal else PLAIN_WIDTH
        console.print(table)


def _plain(name: str) -> str:
    """Return a name from a file as one that a terminal shows and does not obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)
