"""Five ways to fit a trained network to something new, from all of it to almost nothing.

`read_adaptation("mask(sparsity=0.1)").begin(network)` changes the network in place so that a training loop that trains
whatever requires gradients does the right thing; `finish` makes it a plain network again and says what must be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import safetensors.torch
import torch
from torch import Tensor, nn

from countermove import finetuning
from countermove.errors import ConfigError, did_you_mean
from countermove.finetuning.critical_layers import (
    Loss,
    choose,
    first_or_last,
    gradient_sensitivity,
    hold_statistics,
    train_only,
    trained_and_rewound,
    within,
)
from countermove.finetuning.delta import Delta, difference
from countermove.finetuning.layers import blocks, check_layers, inside
from countermove.finetuning.masks import (
    MASKED_MODULES,
    MaskInit,
    MaskStart,
    Sampler,
    masks,
    put_masks,
    sparsity,
    take_masks_off,
)
from countermove.game import spelling
from countermove.game.methods import build, keyed
from countermove.nets.parts import seeded
from countermove.nets.weights import first_names
from countermove.pixels.randomness import generator

Sensitivity = Literal["gradients", "rewinding"]
WAYS = ("full", "critical-layers", "mask", "lora", "bitfit")


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
    known = {"full": Full, "critical-layers": CriticalLayers, "mask": Masked, "lora": Lora, "bitfit": BitFit}
    if len(parts) != 1 or parts[0].name not in known:
        raise ConfigError(f"unknown adaptation {text!r}: {did_you_mean(text, WAYS)}")
    return build(known[parts[0].name], parts[0].settings, what=f"adaptation {parts[0].name!r}")


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


@dataclass(frozen=True, kw_only=True)
class Full:
    """Everything is trained.

    lr: of AdamW.
    """

    version: ClassVar[int] = 1
    lr: float = 5e-4

    def begin(self, network: nn.Module, *, new: Sequence[str] = (), losses: Loss | None = None, seed: int) -> Adapting:
        """Train everything."""
        network.requires_grad_(True)
        return Adapting(network, _told_whole(network, new, {}))


@dataclass(frozen=True, kw_only=True)
class CriticalLayers:
    """Some layers are trained, all others frozen; the backward pass ends at the first that is trained.

    layers:  names of blocks or modules, or beginnings of such names.
    first, last: instead: so many of the numbered blocks.
    share:   instead: the most sensitive blocks that hold at most this share of all numbers, on the task's own data.
    by:      what sensitivity is. "gradients": how much a small step of a block's numbers lowers the loss, a number,
             before anything is trained. "rewinding": a copy is trained in full for a few steps; how much its loss
             rises when a block alone goes back to the published weights.
    steps:   of that training, by AdamW at this lr.
    without: blocks that are not chosen, such as embeddings.
    lr:      of AdamW.

    What measuring takes is part of the price. Gradients choose badly in small networks: blocks whose numbers have the
    largest gradients need not be those that can carry a task.
    """

    version: ClassVar[int] = 1
    keyed_when_set: ClassVar[tuple[str, ...]] = ("by", "steps")
    layers: tuple[str, ...] = ()
    first: int = 0
    last: int = 0
    share: float = 0.0
    by: Sensitivity = "gradients"
    steps: int = 64
    without: tuple[str, ...] = ()
    lr: float = 5e-4

    def __post_init__(self) -> None:
        ways = [bool(self.layers), bool(self.first or self.last), self.share > 0]
        if sum(ways) > 1 or min(self.first, self.last) < 0 or not 0 <= self.share <= 1:
            raise ConfigError("critical-layers: give layers, or first and last, or a share in (0, 1]; only one of them")
        if self.by == "rewinding" and sum(ways[:2]):
            raise ConfigError("critical-layers: named layers are not measured; give by a share, or leave it out")
        if self.steps < 1:
            raise ConfigError(f"critical-layers: steps = {self.steps} is refused; a copy is trained for at least 1")

    def begin(self, network: nn.Module, *, new: Sequence[str] = (), losses: Loss | None = None, seed: int) -> Adapting:
        """Freeze all but the chosen layers. With no setting at all, half of all numbers may change."""
        every = [name for name, _ in network.named_parameters()]
        published = [name for name in every if not inside(name, new)]
        check_layers(self.without, published)
        names = [name for name in published if not inside(name, self.without)]
        held, facts = blocks(names), dict[str, Any]()
        if self.layers:
            trained = within(every, self.layers, without=self.without)
        elif self.first or self.last:
            trained = [name for block in first_or_last(names, first=self.first, last=self.last) for name in held[block]]
        else:
            if losses is None:
                raise ConfigError("critical-layers: there are no data to measure sensitivity on; name layers")
            network.requires_grad_(True)
            found = self._measured(network, losses, names)
            own = dict(network.named_parameters())
            numbers = {block: sum(own[name].numel() for name in inner) for block, inner in held.items()}
            most = (self.share or 0.5) * sum(own[name].numel() for name in published)
            allowed = {block: found[block] for block in held}
            trained = [name for block in choose(allowed, numbers, most=most) for name in held[block]]
            facts["sensitivity"] = allowed
        before = _kept(network)
        train_only(network, {*trained, *(name for name in every if inside(name, new))})
        return Adapting(network, _told_whole(network, new, {**facts, "layers": list(blocks(trained))}, before))

    def _measured(self, network: nn.Module, losses: Loss, names: Collection[str]) -> dict[str, float]:
        if self.by == "rewinding":
            return trained_and_rewound(network, losses, steps=self.steps, lr=self.lr, names=names)
        return gradient_sensitivity(network, losses)


@dataclass(frozen=True, kw_only=True)
class Masked:
    """Weights stay; which of them become zero is learned, Radiya-Dixit and Wang 2020, arXiv:2004.14129.

    sparsity: share of zeros at the start, of every matrix.
    init:     the first zeros are the smallest entries ("magnitude"), any ("random"), or none ("ones").
    scale:    size of all logits at the start.
    sampler:  "threshold" (logits above 0 are ones) or "bernoulli" (drawn anew in every step of the training).
    layers:   blocks or modules whose matrices get masks; empty: all.
    without:  those that get none.
    embeddings: whether tables of embeddings get masks, too.
    lr:       of AdamW, for the logits.
    """

    version: ClassVar[int] = 1
    sparsity: float = 0.05
    init: MaskInit = "magnitude"
    scale: float = 0.02
    sampler: Sampler = "threshold"
    layers: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    embeddings: bool = False
    lr: float = 1e-2

    def __post_init__(self) -> None:
        MaskStart(init=self.init, sparsity=self.sparsity)

    def begin(self, network: nn.Module, *, new: Sequence[str] = (), losses: Loss | None = None, seed: int) -> Adapting:
        """Freeze the network under trainable masks."""
        names = [name for name, _ in network.named_parameters()]
        check_layers([*self.layers, *self.without], names)
        chosen = mask_targets(
            network, layers=self.layers, without=(*self.without, *new), embeddings=self.embeddings or bool(self.layers)
        )
        before, start = _kept(network), MaskStart(init=self.init, sparsity=self.sparsity, seed=seed)
        put_masks(network, start, chosen, scale=self.scale, sampler=self.sampler)
        for name, parameter in network.named_parameters():
            if inside(name, new):
                parameter.requires_grad_(True)

        def finish() -> Adapted:
            final = {name: mask.mask.cpu() for name, mask in masks(network).items()}
            take_masks_off(network, leave="masked")
            delta = difference(before, network.state_dict(), starts=dict.fromkeys(final, start), new=_new(network, new))
            zeros = sum(int((~mask).sum()) for mask in final.values())
            flipped = sum(entry.flips for entry in delta.entries.values())
            facts = {"sparsity": sparsity(final), "flipped": flipped / sum(mask.numel() for mask in final.values())}
            return _adapted(network, delta, zeros + _numbers(network, new), facts)

        return Adapting(network, finish)


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank updates of linear and convolution layers, Hu et al. 2021, arXiv:2106.09685, by the package peft.

    rank, alpha: of the updates; they are scaled by alpha / rank.
    embeddings:  whether tables of embeddings get updates, too.
    lr:          of AdamW.
    """

    version: ClassVar[int] = 1
    rank: int = 8
    alpha: float = 16.0
    embeddings: bool = False
    lr: float = 2e-3

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise ConfigError("lora: rank is at least 1 and alpha above 0")

    def begin(self, network: nn.Module, *, new: Sequence[str] = (), losses: Loss | None = None, seed: int) -> Adapting:
        """Put low-rank updates beside all linear and convolution layers."""
        peft = needs_peft()
        targets = [
            name
            for name in mask_targets(network, layers=(), without=new, embeddings=self.embeddings)
            if getattr(network.get_submodule(name), "groups", 1) == 1
        ]
        config = peft.LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules=targets, lora_dropout=0.0)
        with seeded(generator(seed, "lora")):
            wrapped = peft.LoraModel(network, config, "default")
        for name, parameter in network.named_parameters():
            if inside(name, new):
                parameter.requires_grad_(True)

        def finish() -> Adapted:
            factors = {
                n: p.detach().cpu().clone(memory_format=torch.contiguous_format)
                for n, p in network.named_parameters()
                if ".lora_" in n
            }
            wrapped.merge_and_unload()
            network.requires_grad_(True)
            own = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
            stored = {**factors, **{name: own[name] for name in _new(network, new)}}
            return Adapted(
                network=network,
                parameters_changed=sum(tensor.numel() for tensor in stored.values()),
                bytes_stored=len(safetensors.torch.save(stored)),
                facts={"modules": len(targets)},
            )

        return Adapting(network, finish)


@dataclass(frozen=True, kw_only=True)
class BitFit:
    """Only biases are trained, Ben Zaken et al. 2021, arXiv:2106.10199.

    lr: of AdamW.
    """

    version: ClassVar[int] = 1
    lr: float = 2e-3

    def begin(self, network: nn.Module, *, new: Sequence[str] = (), losses: Loss | None = None, seed: int) -> Adapting:
        """Freeze everything but biases."""
        before = _kept(network)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.rpartition(".")[2] == "bias" or inside(name, new))
        return Adapting(network, _told_whole(network, new, {}, before))


def needs_peft() -> Any:
    """Return the package peft; importing it takes seconds, which are no part of a price.

    Raises:
        ConfigError: when it is not installed.
    """
    try:
        import peft
    except ImportError:
        raise ConfigError("lora is made with the package peft: countermove[finetuning]") from None
    return peft


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


def _told_whole(
    network: nn.Module, new: Sequence[str], facts: Mapping[str, Any], before: dict[str, Tensor] | None = None
) -> Callable[[], Adapted]:
    base = _kept(network) if before is None else before

    def finish() -> Adapted:
        network.requires_grad_(True)
        delta = difference(base, network.state_dict(), new=_new(network, new))
        parameters = {name for name, _ in network.named_parameters()}
        numbers = sum(e.data.numel() for name, e in delta.entries.items() if e.data is not None and name in parameters)
        return _adapted(network, delta, numbers, facts)

    return finish


def _adapted(network: nn.Module, delta: Delta, numbers: int, facts: Mapping[str, Any]) -> Adapted:
    network.requires_grad_(True)
    size = len(delta.to_bytes())
    return Adapted(network=network, parameters_changed=numbers, bytes_stored=size, delta=delta, facts=facts)


def _kept(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all weights and buffers; tied ones stay one."""
    state = network.state_dict()
    firsts = first_names(state)
    copies = {name: tensor.detach().cpu().clone() for name, tensor in state.items() if firsts[name] == name}
    return {name: copies[firsts[name]] for name in state}


def _new(network: nn.Module, new: Sequence[str]) -> list[str]:
    return [name for name in network.state_dict() if inside(name, new)]


def _numbers(network: nn.Module, new: Sequence[str]) -> int:
    state = network.state_dict()
    return sum(state[name].numel() for name in _new(network, new))
