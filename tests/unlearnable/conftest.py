"""One thread for every test of this room; what the tests of poisons and countermeasures share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.threads import one_thread as one_thread
from tests.unlearnable.rows import MOVE_ROWS, MoveRow

from countermove.game.methods import Composition
from countermove.nets.small import SmallCnn
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.poison import Context

MOVE_CASES = [(name, row) for name, rows in MOVE_ROWS.items() for row in rows]


class Bench:
    """A poison of the table on the made-up pictures."""

    def __init__(self, name: str, row: MoveRow, batch: Batch, folder: Path) -> None:
        self.name, self.row, self.batch = name, row, batch
        settings = row.settings
        if row.needs_file:
            settings = f"path={_published(batch, folder)}" + (f", {settings}" if settings else "")
        self.spelled = f"{name}({settings})" if settings else name
        self.surrogate = SmallCnn(width=0.1)(len(batch.classes), batch.pictures.shape[-1], generator(0, "conformance"))
        for name_of, buffer in self.surrogate.named_buffers():
            if "running_var" in name_of:  # numbers that training mode would overwrite
                buffer.uniform_(0.5, 1.5, generator=generator(1))

    @property
    def composition(self) -> Composition:
        return METHODS.compose("move", self.spelled)

    def context(self, seed: int = 0) -> Context:
        return Context(seed=seed, networks=lambda asked: [self.surrogate] * max(1, asked.checkpoints))

    def moved(self, batch: Batch | None = None, *, seed: int = 0, **settings: object) -> Batch:
        """Return what the poison makes of the pictures, with some settings changed."""
        poison = self.composition.method
        if settings:
            poison = type(poison)(**{**vars(poison), **settings})
        return poison(batch or self.batch, context=self.context(seed))


@pytest.fixture(params=MOVE_CASES, ids=lambda case: f"{case[0]}({case[1].settings})")
def bench(request: pytest.FixtureRequest, pictures: Batch, tmp_path: Path) -> Bench:
    name, row = request.param
    return Bench(name, row, pictures, tmp_path)


def _published(batch: Batch, folder: Path) -> Path:
    """Write noise within 8/255 for the pictures, in another order, as somebody else would publish it."""
    levels = np.random.default_rng(0).integers(-8, 9, tuple(batch.pictures.shape))
    order = np.arange(len(batch))[::-1]
    clean = (batch.pictures * 255).round().numpy()
    levels = np.clip(clean + levels, 0, 255) - clean
    path = folder / "published.npz"
    np.savez(path, noise=(levels / 255).astype(np.float32)[order], ids=np.array(batch.ids)[order])
    return path
