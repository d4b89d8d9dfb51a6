"""A tiny BERT that was pre-trained on made-up texts, and one thread for every test of this room."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.threads import one_thread as one_thread

from countermove.tasks.bases import save_model
from countermove.tasks.data.planted import PlantedWords
from countermove.tasks.pretraining import BertSize, pretrain

TINY = BertSize(width=32, layers=2, heads=2, vocabulary=400, length=32, epochs=2, batch_size=32, lr=3e-3)


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return list(PlantedWords(train=600)().train.texts)


@pytest.fixture(scope="session")
def tiny(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny BERT, as transformers writes it."""
    folder = tmp_path_factory.mktemp("bases") / "tiny"
    made = pretrain(texts, TINY, seed=0)
    save_model(made.model, made.tokenizer, folder)
    return folder
