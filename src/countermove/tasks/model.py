"""What a published network is to this arena: a folder as transformers writes it, and how to build it for a task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from safetensors import SafetensorError
from torch import Generator, nn

from countermove.errors import WeightsError
from countermove.nets.parts import seeded
from countermove.nets.weights import BROKEN
from countermove.tasks.pretraining import Watch
from countermove.tasks.tokens import needs_transformers, read_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class BaseMethod(Protocol):
    """A model of this arena. `full_lr` is the learning rate at which all of it is fine-tuned."""

    version: ClassVar[int]
    full_lr: float

    def check(self) -> None:
        """Raise where it cannot be had, before anything is computed."""
        ...

    def content(self, *, device: str = "cpu", rehash: bool = False) -> str:
        """Return what identifies the weights without training them."""
        ...

    def folder(self, *, device: str = "cpu", watch: Watch = lambda *_: None) -> Path:
        """Return the folder with config, weights and tokenizer; trained and kept where it is not there yet."""
        ...


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A network for a task, and its tokenizer.

    network: of transformers, with an output for every class.
    new:     its modules that were not published: drawn at random, to be trained in any case.
    longest: tokens that it can read.
    """

    network: nn.Module
    tokenizer: PreTrainedTokenizerFast
    new: tuple[str, ...]
    longest: int


def build_reader(folder: Path, classes: int, *, source: Generator) -> Reader:
    """Read a published network and give it an output layer.

    Raises:
        WeightsError: when the folder holds no such network, or its weights are of another one.
        DataError: when the tokenizer does not belong to it.
    """
    transformers = needs_transformers()
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, num_labels=classes
        )
        with seeded(source):
            network, info = transformers.AutoModelForSequenceClassification.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (SafetensorError, ImportError, *BROKEN) as error:
        raise WeightsError(f"{folder} holds no network that can be read: {error}") from error
    missing = sorted(info["missing_keys"])
    new = tuple(sorted({name.rpartition(".")[0] for name in missing}))
    body = network.base_model_prefix
    lacking = [name for name in missing if name.startswith(f"{body}.") and ".pooler." not in name]
    if lacking or info.get("mismatched_keys"):
        raise WeightsError(
            f"the weights in {folder} lack {', '.join(lacking[:4]) or 'the right shapes'}; they are of another network"
        )
    tokenizer = read_tokenizer(folder, config.vocab_size)
    return Reader(
        network=network.float().eval(), tokenizer=tokenizer, new=new, longest=int(config.max_position_embeddings)
    )
