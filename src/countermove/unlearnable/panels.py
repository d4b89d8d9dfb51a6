"""This arena's parts of the page: pictures before and after, and where in the spectrum the noise lies.

Shown is the first seed that was played; the chosen pictures are the first of each class that the mover owned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor

from countermove.errors import CountermoveError
from countermove.game.arena import Panel
from countermove.learning.scoring import Examples
from countermove.pixels.address import data_address
from countermove.pixels.rounding import to_float, to_uint8
from countermove.pixels.spectrum import PICTURES as ENOUGH
from countermove.pixels.spectrum import high_frequency_share, mean_power
from countermove.unlearnable.countermeasure import Plan, ReplyContext
from countermove.unlearnable.panel_tables import table_panels
from countermove.unlearnable.play import PICTURES

if TYPE_CHECKING:
    from countermove.game.results import Results, Row
    from countermove.game.store import RunFolder
    from countermove.unlearnable.arena import Unlearnable
    from countermove.unlearnable.dataset import Pictures

SAMPLES = 10
SHOWN_REPLIES = 3
AMPLIFIED = 8


def panels(arena: Unlearnable, run: RunFolder, results: Results) -> Sequence[Panel]:
    """Return a gallery for each move and one panel of spectra for each data set."""
    made: list[Panel] = []
    for data in results.axis("data"):
        spectra: list[str] = []
        for row in _crafted(run, results, data):
            try:
                own, moved = _moved(arena, run, row)
            except (CountermoveError, OSError) as error:
                made.append(Panel(title=f"Pictures: {row.setting.move}", html="", summary=f"Not shown: {error}"))
                continue
            train = arena.data(row.setting.data, row.setting.seed).train
            made.append(_gallery(arena, results, row, train, own, moved))
            change = to_float(moved[:ENOUGH]) - to_float(train.pictures[own[:ENOUGH]])
            spectra.append(_spectrum(row.setting.move, change))
        if spectra:
            made.append(_spectra(data, spectra))
    return [*table_panels(arena, results), *made]


def _crafted(run: RunFolder, results: Results, data: str) -> Iterator[Row]:
    """Yield one finished row for each move whose artifact is there."""
    for move in results.axis("move"):
        for row in results.rows:
            if row.ok and row.setting.data == data and row.setting.move == move and "move" in row.record["needs"]:
                if run.has_artifact(row.record["needs"]["move"]):
                    yield row
                break


def _moved(arena: Unlearnable, run: RunFolder, row: Row) -> tuple[Tensor, Tensor]:
    """Return which train pictures are the mover's, as positions [N], and what became of them, uint8 [N, 3, H, W]."""
    data = arena.data(row.setting.data, row.setting.seed)
    moved = load_file(run.artifact(row.record["needs"]["move"]) / PICTURES)["pictures"]
    return data.moved.nonzero().flatten(), moved


def _gallery(arena: Unlearnable, results: Results, row: Row, train: Pictures, own: Tensor, moved: Tensor) -> Panel:
    chosen = _first_of_each(train.labels[own])
    own, moved = own[chosen], moved[chosen]
    clean, labels = train.pictures[own], train.labels[own]
    replies = _replied(arena, results, moved, labels, row.setting.seed)
    difference = to_float(moved) - to_float(clean)
    amplified = to_uint8((0.5 + AMPLIFIED * difference).clamp(0, 1))
    figures = []
    for i, position in enumerate(own.tolist()):
        damage = float(difference[i].norm())
        name = f"{train.classes[int(labels[i])]}, {train.ids[position]}"
        frames = [("original", clean[i]), ("moved", moved[i]), (f"difference x {AMPLIFIED}", amplified[i])]
        frames += [(f"after {spelled}", pictures[i]) for spelled, pictures in replies]
        images = "".join(f'<img alt="{escape(caption)}" src="{data_address(picture)}">' for caption, picture in frames)
        figures.append(
            f'<figure class="sample" data-damage="{damage:.4f}" data-label="{escape(name, quote=True)}">{images}'
            f"<figcaption>{escape(name)}: L2 {damage:.2f}, largest change "
            f"{float(difference[i].abs().max()) * 255:.0f}/255</figcaption></figure>"
        )
    title = f"Pictures: {row.setting.move}" + (f" on {row.setting.data}" if len(results.axis("data")) > 1 else "")
    summary = "Original, moved, their difference around gray, and what squeezes make of the moved picture."
    return Panel(title=title, html=f'<div class="gallery" data-sortable>{"".join(figures)}</div>', summary=summary)


def _first_of_each(labels: Tensor) -> Tensor:
    """Return the positions of the first picture of each class, then of the second, up to SAMPLES."""
    order = []
    for k in labels.unique().tolist():
        rows = (labels == k).nonzero().flatten().tolist()
        order += [(place, k, row) for place, row in enumerate(rows[:SAMPLES])]
    return torch.tensor([row for _, _, row in sorted(order)[:SAMPLES]])


def _replied(
    arena: Unlearnable, results: Results, moved: Tensor, labels: Tensor, seed: int
) -> list[tuple[str, Tensor]]:
    """Return what the audit's squeezes make of moved pictures; other replies would have to be played for it.

    A squeeze is a reply that can be put on what the trained model judges.
    """
    shown: list[tuple[str, Tensor]] = []
    for spelled in results.config.countermoves:
        if not all(hasattr(part.method, "test") for part in arena.composed("countermove", spelled).parts):
            continue
        plan = Plan(
            received=Examples(pictures=moved, labels=labels),
            moved=torch.ones(len(moved), dtype=torch.bool),
            recipe=arena.recipe,
        )
        for part in arena.composed("countermove", spelled).parts:
            plan = part.method(plan, context=ReplyContext(seed=seed))
        pictures = plan.received.pictures
        if pictures.shape == moved.shape and not torch.equal(pictures, moved):
            shown.append((spelled, pictures))
    return shown[:SHOWN_REPLIES]


def _spectra(data: str, spectra: Sequence[str]) -> Panel:
    return Panel(
        title="Spectra of the perturbations",
        html="".join(spectra),
        summary=f"Mean magnitude of the noise over frequencies on {data}, low frequencies in the middle, on a log "
        "scale; and the share of its energy above half of the highest frequency (white noise: about 0.72).",
    )


def _spectrum(move: str, difference: Tensor) -> str:
    """Return a figure of the mean 2-D magnitude spectrum of noise [N, 3, H, W], with a number."""
    power = mean_power(difference)
    share = high_frequency_share(power)
    log = torch.fft.fftshift(power).clamp_min(1e-12).log()
    picture = to_uint8((log - log.min()) / (log.max() - log.min()).clamp_min(1e-12))
    caption = f"{move}: {share:.2f} of the energy is of high frequency"
    image = f'<img alt="Spectrum of {escape(move, quote=True)}" src="{data_address(picture.expand(3, -1, -1))}">'
    return f'<figure class="spectrum">{image}<figcaption>{escape(caption)}</figcaption></figure>'
