"""Five ways to fit a trained network to something new, from all of it to almost nothing.

`read_adaptation("mask(sparsity=0.1)").begin(network)` changes the network in place so that a training loop that trains
whatever requires gradients does the right thing; `finish` makes it a plain network again and says what must be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from countermove import finetuning
from countermove.errors import ConfigError, did_you_mean
from countermove.finetuning.critical_layers import Loss, hold_statistics
from countermove.finetuning.delta import Delta, difference
from countermove.finetuning.layers import inside
from countermove.finetuning.masks import MASKED_MODULES
from countermove.finetuning.ways import WAYS
from countermove.game import spelling
from countermove.game.methods import build, keyed, load
from countermove.nets.weights import first_names


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """What an adaptation gave.

    network:            plain again, with its final weights.
    parameters_changed: numbers that must be known to get there from the base: entries of trained parameters, entries
                        that a mask zeroes, LoRA's factors. What normalisations count is stored and not counted here.
    bytes_stored:       of the file that holds them.
    delta:              that file's content; None for LoRA, whose factors are multiplied out.
    facts:              such as the sparsity of masks or which layers were trained.
    """

    network: nn.Module
    parameters_changed: int
    bytes_stored: int
    delta: Delta | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


class Adapting:
    """A network that is being adapted."""

    def __init__(self, network: nn.Module, finish: Callable[[], Adapted]) -> None:
        self.network, self._finish = network, finish
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise ConfigError("nothing of this network would be trained; adapt another part of it")
        self._release = hold_statistics(network)

    def finish(self) -> Adapted:
        """Return the plain network and what its change takes. To be called once, after the training."""
        self._release()
        return self._finish()


class Adaptation(Protocol):
    """One way. Its `lr` is AdamW's."""

    version: ClassVar[int]
    lr: float

    def begin(self, network: nn.Module, *, new: Sequence[str] = (), losses: Loss | None = None, seed: int) -> Adapting:
        """Prepare a network in place.

        Args:
            network: trained before, but for the modules in `new`.
            new: modules that no published network has, such as a task's output layer: always trained, stored whole.
            losses: given a network, yields the loss of some batches, where sensitivity is to be measured.
            seed: of what is drawn.

        Raises:
            ConfigError: when the way does not fit the network.
        """
        ...


def read_adaptation(text: str) -> Adaptation:
    """Return what a spelling such as 'critical-layers(share=0.4)' stands for.

    Raises:
        ConfigError: on an unknown way or setting.
    """
    parts = spelling.parse(text)
    if len(parts) != 1 or parts[0].name not in WAYS:
        raise ConfigError(f"unknown adaptation {text!r}: {did_you_mean(text, WAYS)}")
    return build(load(WAYS[parts[0].name]), parts[0].settings, what=f"adaptation {parts[0].name!r}")


def check_adaptation(text: str) -> str:
    """Return the canonical spelling of an adaptation: settings that differ from the defaults, keys sorted.

    Raises:
        ConfigError: as `read_adaptation`.
    """
    way, name = read_adaptation(text), spelling.parse(text)[0].name
    fields = type(way).__dataclass_fields__  # pyright: ignore[reportAttributeAccessIssue]
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(way).items()}
    unusual = {key: value for key, value in plain.items() if getattr(way, key) != fields[key].default}
    return spelling.spell([spelling.Named(name, unusual)])


def identity(text: str) -> dict[str, Any]:
    """Return what of an adaptation enters a key: its settings, its version and that of this room."""
    way = read_adaptation(text)
    return {"spelling": text, "settings": keyed(way), "version": way.version, "room": finetuning.VERSION}


def key_of(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a reply's request adds to a key: its adaptation's identity, where it names one."""
    return {"adaptation": identity(asked["adaptation"])} if asked.get("adaptation") else {}


def mask_targets(
    network: nn.Module, *, layers: Collection[str], without: Collection[str], embeddings: bool
) -> list[str]:
    """Return the linear and convolution modules (and embeddings, where asked) inside some layers and outside others.

    Raises:
        ConfigError: when there is none.
    """
    kinds = MASKED_MODULES if embeddings else tuple(kind for kind in MASKED_MODULES if kind is not nn.Embedding)
    found = [
        name
        for name, module in network.named_modules()
        if isinstance(module, kinds) and (not layers or inside(name, layers)) and not inside(name, without)
    ]
    if not found:
        raise ConfigError("no linear or convolution layer is left to adapt")
    return found


def told_whole(
    network: nn.Module, new: Sequence[str], facts: Mapping[str, Any], before: dict[str, Tensor] | None = None
) -> Callable[[], Adapted]:
    """Return what tells of a network that is stored as it is: which of its numbers changed, and their file.

    before: its weights, where they were kept already.
    """
    base = weights_of(network) if before is None else before

    def finish() -> Adapted:
        network.requires_grad_(True)
        delta = difference(base, network.state_dict(), new=new_names(network, new))
        parameters = {name for name, _ in network.named_parameters()}
        numbers = sum(e.data.numel() for name, e in delta.entries.items() if e.data is not None and name in parameters)
        return told(network, delta, numbers, facts)

    return finish


def told(network: nn.Module, delta: Delta, numbers: int, facts: Mapping[str, Any]) -> Adapted:
    """Return a plain network again, with what leads to it."""
    network.requires_grad_(True)
    size = len(delta.to_bytes())
    return Adapted(network=network, parameters_changed=numbers, bytes_stored=size, delta=delta, facts=facts)


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all weights and buffers; tied ones stay one."""
    state = network.state_dict()
    firsts = first_names(state)
    copies = {name: tensor.detach().cpu().clone() for name, tensor in state.items() if firsts[name] == name}
    return {name: copies[firsts[name]] for name in state}


def new_names(network: nn.Module, new: Sequence[str]) -> list[str]:
    """Return the tensors of the modules that no published network has."""
    return [name for name in network.state_dict() if inside(name, new)]


def numbers_of(network: nn.Module, new: Sequence[str]) -> int:
    """Return how many numbers these hold."""
    state = network.state_dict()
    return sum(state[name].numel() for name in new_names(network, new))
