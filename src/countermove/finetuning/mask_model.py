"""Masks with the surface of the package peft: configure, wrap, train, save, load, merge.

    model = get_peft_model(network, MaskConfig(target_modules=("query", "value"), modules_to_save=("classifier",)))
    model.print_trainable_parameters()
    ...                                    # any training loop
    model.save_pretrained("my-task")       # a delta, adapter_config.json and a README
    plain = model.merge_and_unload()       # a copy; the network under the masks keeps its weights

What is saved belongs to the very weights that were wrapped and is refused by any others.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError, RunError, WeightsError, did_you_mean
from countermove.finetuning.critical_layers import hold_statistics
from countermove.finetuning.delta import Delta, difference, read_delta, restored
from countermove.finetuning.layers import inside, put
from countermove.finetuning.masks import (
    MASKED_MODULES,
    MaskInit,
    MaskStart,
    Sampler,
    masks,
    masks_off,
    put_masks,
    take_masks_off,
)
from countermove.game.methods import build

WEIGHTS, CONFIG, README = "adapter_model.safetensors", "adapter_config.json", "README.md"
KIND = "COUNTERMOVE_MASK"
_ORIGINAL, _LOGITS = ".parametrizations.weight.original", ".parametrizations.weight.0.logits"


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """Where masks go and how they start.

    target_modules:     ends of module names, or one regular expression for whole names; None: all linear and
                        convolution layers. Embeddings must be named.
    exclude_modules:    likewise; these get none.
    layers_to_transform: numbers of blocks; None: all.
    initial_sparsity:   share of zeros at the start, of every matrix.
    mask_init:          "magnitude", "random" or "ones".
    init_scale:         size of all logits at the start.
    sampler:            "threshold" or "bernoulli". In evaluation a mask is one where its logit is above 0.
    modules_to_save:    ends of names of modules that are trained and stored whole, such as an output layer.
    seed:               of a random start.
    """

    target_modules: str | tuple[str, ...] | None = None
    exclude_modules: str | tuple[str, ...] = ()
    layers_to_transform: tuple[int, ...] | None = None
    initial_sparsity: float = 0.05
    mask_init: MaskInit = "magnitude"
    init_scale: float = 0.02
    sampler: Sampler = "threshold"
    modules_to_save: tuple[str, ...] = ()
    seed: int = 0

    @property
    def start(self) -> MaskStart:
        """Return the mask that training starts from."""
        return MaskStart(init=self.mask_init, sparsity=self.initial_sparsity, seed=self.seed)

    def targets(self, network: nn.Module) -> list[str]:
        """Return the names of the modules that get masks.

        Raises:
            ConfigError: when there is none, or a name fits no module.
        """
        names = {name: module for name, module in network.named_modules() if name}
        saved = self.saved(network)
        fits = [
            name
            for name, module in names.items()
            if isinstance(module, MASKED_MODULES)
            and _fits(name, self.target_modules, otherwise=not isinstance(module, nn.Embedding))
            and not _fits(name, self.exclude_modules, otherwise=False)
            and (self.layers_to_transform is None or _number(name) in self.layers_to_transform)
            and not inside(name, saved)
        ]
        if isinstance(self.target_modules, tuple):
            for one in self.target_modules:
                if not any(_fits(name, (one,), otherwise=False) for name in names):
                    raise ConfigError(f"no module is called {one!r}: {did_you_mean(one, _ends(names))}")
        if not fits:
            raise ConfigError("no module of this network fits target_modules; nothing would be masked")
        return fits

    def saved(self, network: nn.Module) -> list[str]:
        """Return the names of the modules that are trained whole.

        Raises:
            ConfigError: when one is not there.
        """
        names = [name for name, _ in network.named_modules() if name]
        for one in self.modules_to_save:
            if not any(_fits(name, (one,), otherwise=False) for name in names):
                raise ConfigError(f"no module is called {one!r}: {did_you_mean(one, _ends(names))}")
        return [name for name in names if _fits(name, self.modules_to_save, otherwise=False)]


class MaskModel(nn.Module):
    """A network under masks."""

    def __init__(self, network: nn.Module, config: MaskConfig) -> None:
        """Wrap and freeze a network in place.

        Raises:
            ConfigError: as `MaskConfig.targets` and `put_masks`.
        """
        super().__init__()
        targets, self._saved = config.targets(network), config.saved(network)
        self._targets = targets
        self.config = config
        self._whole = {
            name: tensor.detach().clone() for name, tensor in network.state_dict().items() if inside(name, self._saved)
        }
        put_masks(network, config.start, targets, scale=config.init_scale, sampler=config.sampler)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.endswith(_LOGITS) or inside(name, self._saved))
        self.base_model = network
        self._release = hold_statistics(network)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the network."""
        return self.base_model(*args, **kwargs)

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """Return how many numbers are trained, and how many the network has without masks."""
        state = _plain_state(self.base_model)
        trained = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return trained, sum(tensor.numel() for tensor in state.values() if tensor.is_floating_point())

    def print_trainable_parameters(self) -> None:
        """Print how many numbers are trained; of a mask, one bit each is stored at most."""
        trained, total = self.get_nb_trainable_parameters()
        bits = sum(mask.logits.numel() for mask in masks(self.base_model).values())
        print(f"trainable: {trained:,} of {total:,}, {bits:,} of them mask bits")

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Let the network answer as it did before it was wrapped."""
        own = self.base_model.state_dict()
        trained = {name: own[name].clone() for name in self._whole}
        put(own, self._whole)
        try:
            with masks_off(self.base_model):
                yield
        finally:
            put(own, trained)

    def merge_and_unload(self) -> nn.Module:
        """Return a copy of the network with its masks in its weights. The wrapped network keeps the originals."""
        self._release()
        merged = copy.deepcopy(self.base_model)
        self._release = hold_statistics(self.base_model)
        take_masks_off(merged, leave="masked")
        return merged.requires_grad_(True)

    def unload(self) -> nn.Module:
        """Take the masks off in place and return the network as it was before it was wrapped."""
        self._release()
        take_masks_off(self.base_model, leave="original")
        put(self.base_model.state_dict(), self._whole)
        return self.base_model.requires_grad_(True)

    def save_pretrained(self, folder: str | Path) -> int:
        """Write the delta, its configuration and a README into a folder; return the delta's size in bytes.

        Raises:
            RunError: when they cannot be written.
        """
        folder = Path(folder)
        tuned = self.merge_and_unload().state_dict()
        base = {**_plain_state(self.base_model), **self._whole}
        starts = dict.fromkeys(masks(self.base_model), self.config.start)
        new = [name for name in tuned if inside(name, self._saved)]
        change = difference(base, tuned, starts=starts, new=new)
        named = {"target_modules": self._targets, "modules_to_save": self._saved}  # in full: a loader matches nothing
        told = {"peft_type": KIND, **asdict(self.config), **named, "base_sha256": change.base}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / CONFIG).write_text(json.dumps(told, indent=1), encoding="utf-8")
            (folder / README).write_text(_readme(change.base, self.config), encoding="utf-8")
        except OSError as error:
            raise RunError(f"{folder} cannot be written: {error.strerror}") from None
        return change.save(folder / WEIGHTS)

    @classmethod
    def from_pretrained(cls, network: nn.Module, folder: str | Path) -> MaskModel:
        """Wrap a network with saved masks, in place.

        Raises:
            WeightsError: when the folder holds no masks, they are broken, or belong to another network.
        """
        folder = Path(folder)
        config, change = _read_config(folder), read_delta(folder / WEIGHTS)
        base = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        tuned = restored(base, change)
        _check_fit(network, config, change, folder)
        model = cls(network, config)
        put(network.state_dict(), {name: tuned[name] for name in model._whole})
        for name, mask in masks(network).items():
            start = config.start.mask(name, base[name])
            kept = torch.where(base[name].cpu() == 0, start, tuned[name].cpu() != 0)
            with torch.no_grad():
                mask.logits.copy_(torch.where(kept, config.init_scale, -config.init_scale))
        return model.eval()


def get_peft_model(network: nn.Module, config: MaskConfig) -> MaskModel:
    """Wrap a network with masks.

    Raises:
        ConfigError: when the configuration does not fit it.
    """
    return MaskModel(network, config)


def _read_config(folder: Path) -> MaskConfig:
    """Read what `save_pretrained` wrote: full names of modules, never a pattern, which could be made to hang."""
    path = folder / CONFIG
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told.pop("peft_type") != KIND:
            raise WeightsError(f"{folder} holds an adapter of another kind; load it with the package peft")
        del told["base_sha256"]
        told |= {"exclude_modules": [], "layers_to_transform": None}
        if not all(isinstance(told[name], list) for name in ("target_modules", "modules_to_save")):
            raise WeightsError(f"{path} does not name its modules one by one")
        config = build(MaskConfig, told, what="masks")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigError) as error:
        raise WeightsError(f"{path} cannot be read as the settings of masks: {error}") from None
    if config.init_scale <= 0:
        raise WeightsError(f"{path}: init_scale = {config.init_scale} is refused; it is above 0")
    return config


def _check_fit(network: nn.Module, config: MaskConfig, change: Delta, folder: Path) -> None:
    """Refuse settings that do not go with the network or the delta, before anything is wrapped."""
    try:
        targets, saved = config.targets(network), config.saved(network)
    except ConfigError as error:
        raise WeightsError(f"{folder} does not fit this network: {error}") from None
    if set(targets) != set(config.target_modules or ()) or set(saved) != set(config.modules_to_save):
        raise WeightsError(f"{folder} does not fit this network: it has other modules than its settings name")
    for name, entry in change.entries.items():
        masked = entry.kind == "mask" and name.removesuffix(".weight") in targets
        if not masked and not inside(name, saved):
            raise WeightsError(f"{folder}: its delta changes {name}, which its settings neither mask nor save")


def _fits(name: str, wanted: str | tuple[str, ...] | None, *, otherwise: bool) -> bool:
    if wanted is None or wanted == ():
        return otherwise
    if isinstance(wanted, str):
        return re.fullmatch(wanted, name) is not None
    return any(name == one or name.endswith(f".{one}") for one in wanted)


def _number(name: str) -> int | None:
    numbers = [int(part) for part in name.split(".") if part.isdigit()]
    return numbers[-1] if numbers else None


def _ends(names: Any) -> set[str]:
    return {name.rpartition(".")[2] for name in names}


def _plain_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights under the masks by the names that they have without masks."""
    own = network.state_dict().items()
    return {name.replace(_ORIGINAL, ".weight"): tensor for name, tensor in own if not name.endswith(_LOGITS)}


def _readme(base: str, config: MaskConfig) -> str:
    return (
        "# Masks for a pre-trained network\n\n"
        f"`{WEIGHTS}` says which weights of the base become zero, and holds what was trained whole "
        f"({', '.join(config.modules_to_save) or 'nothing'}). It belongs to the weights with SHA-256 `{base}` (over "
        "names, kinds, shapes and bytes) and is refused by others.\n\n"
        "    from countermove.finetuning.mask_model import MaskModel\n"
        "    model = MaskModel.from_pretrained(network, folder)\n"
    )
