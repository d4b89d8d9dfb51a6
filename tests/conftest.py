"""What all rooms' tests share: the toy arena as an installed plugin, the development data, and made-up pictures."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from countermove.pixels.batch import Batch

TESTS = Path(__file__).parent
PLUGINS = str(TESTS / "plugins")

# Entry points are found along the path: this process's, and that of every process that a test starts.
sys.path.insert(0, PLUGINS)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [PLUGINS, os.environ.get("PYTHONPATH")]))

# No test is timed: a busy machine is no failure.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with the development data sets; tests that need it skip where it is absent."""
    root = Path(os.environ.get("COUNTERMOVE_DATA", TESTS.parent.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(
            f"needs the development data sets; {root} is no folder (set COUNTERMOVE_DATA to the one that holds them)"
        )
    return root


@pytest.fixture(scope="session")
def pictures() -> Batch:
    """24 made-up pictures of 16 x 16 in three classes, told apart by colour and a little by their pattern."""
    import torch

    from countermove.pixels.batch import Batch
    from countermove.pixels.randomness import generator

    labels = torch.arange(24) % 3
    colours = torch.tensor([[0.8, 0.2, 0.2], [0.2, 0.8, 0.2], [0.2, 0.2, 0.8]])
    waves = torch.sin(torch.arange(16) * (labels[:, None] + 1.0))[:, None, None, :] * 0.1
    noise = torch.rand(24, 3, 16, 16, generator=generator(0, "made-up pictures")) * 0.2 - 0.1
    mixed = (colours[labels][:, :, None, None] + waves + noise).clamp(0, 1)
    eight_bit = (mixed * 255).round() / 255
    ids = tuple(f"made-up-{i:02d}" for i in range(24))
    return Batch(pictures=eight_bit, labels=labels, ids=ids, classes=("red", "green", "blue"))
