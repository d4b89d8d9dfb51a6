"""``countermove demo``: the main job on the pictures that ship with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

QUICK = [
    "moves=linear-separable",
    "countermoves=gray",
    "models=small-cnn(width=0.5)",
    "training.epochs=5",
    "training.batch_size=48",
]


def demo(
    out: Annotated[Path | None, typer.Option(help="The run folder; runs/demo or runs/demo-quick by default.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One move, one reply, half a minute on two cores.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Play a first game: pictures made unlearnable, and the replies that undo it. Three minutes on two cores."""
    from countermove.cli.audit import run_audit
    from countermove.game.config import load_config
    from countermove.studies import studies

    config = load_config(studies()["demo"], sets=QUICK if quick else [])
    run_audit(config, out or Path("runs") / ("demo-quick" if quick else "demo"), as_json=as_json)
