"""Speech networks with weights from elsewhere."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from torch import Tensor

from countermove.errors import ConfigError, WeightsError
from countermove.game.content import fingerprint_files
from countermove.nets.parts import seeded
from countermove.nets.pretrained import hub_files, package
from countermove.nets.weights import check_sha256
from countermove.profiles.dataset import Medium, Profiles
from countermove.profiles.extractor import ItemNetwork, check_medium
from countermove.profiles.sound import resample

FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
KINDS = ("wav2vec2", "wavlm", "hubert", "unispeech-sat")
_AT_ONCE = 16  # clips: the first layers of these networks hold 512 numbers for every fifth sample
_UNUSED = re.compile(r"masked_spec_embed|lm_head\..*")


@dataclass(frozen=True, kw_only=True)
class Speech:
    """wav2vec 2.0, WavLM and their kin with public weights: the mean of the last hidden layer over all frames.

    Baevski et al. 2020, arXiv:2006.11477; Chen et al. 2022, arXiv:2110.13900. Clips are brought to the rate that the
    network was trained at (16 kHz), and to mean 0 and deviation 1 where it was trained like that. It is not trained
    further, and its features are not standardised.

    weights: a folder with config.json, preprocessor_config.json and model.safetensors, or the name of such files on the
             Hugging Face hub (facebook/wav2vec2-base-960h) that lie in its cache on this machine. Nothing is fetched.
    folder:  of the cache, where it is another than the library's own.
    sha256:  of model.safetensors, where it is to be checked.
    """

    version: ClassVar[int] = 1
    media: ClassVar[tuple[Medium, ...]] = ("speech",)
    stored: ClassVar[bool] = False
    learned: ClassVar[bool] = False
    weights: str
    folder: str = ""
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", self.sha256):
            raise ConfigError(f"sha256={self.sha256} is refused; a SHA-256 is 64 hexadecimal digits")

    def fingerprint(self, *, rehash: bool = False) -> str:
        """Return what identifies the three files."""
        return fingerprint_files([(path.name, path) for path in self._files()], rehash=rehash)

    def blank(self, data: Profiles, *, seed: int) -> ItemNetwork:
        """Return the network with its weights.

        Raises:
            ConfigError: when these are no clips, or clips too short, or the network is of another kind.
            WeightsError: when transformers or the weights are absent, or are others than they should be.
        """
        check_medium(self, data, "speech")
        network = _Hidden(*_load(self._files(), self.sha256), rate=data.rate)
        least = network.least()
        if data.items.shape[1] < least:
            raise ConfigError(
                f"extractor 'speech' needs clips of at least {least} samples; {data.name} has {data.items.shape[1]}"
            )
        return network

    def fit(self, data: Profiles, *, seed: int, device: str = "cpu") -> tuple[ItemNetwork, int]:
        """Return the network; there is nothing to train.

        Raises:
            ConfigError: when these are no clips, or clips too short, or the network is of another kind.
            WeightsError: when transformers or the weights are absent, or are others than they should be.
        """
        return self.blank(data, seed=seed), 0

    def _files(self) -> list[Path]:
        own = Path(self.weights).expanduser()
        if own.is_dir():
            absent = [name for name in FILES if not (own / name).is_file()]
            if absent:
                raise WeightsError(
                    f"{own} lacks {', '.join(absent)}. Where it has its weights in another form, load them with "
                    f"transformers where you trust them, and write them with save_pretrained({str(own)!r})"
                )
            return [own / name for name in FILES]
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.weights):
            raise WeightsError(f"there is no folder {own}, and {self.weights!r} is no name on the Hugging Face hub")
        package("huggingface_hub", "transformers", "profiles")
        cache = Path(self.folder).expanduser() if self.folder else None
        return hub_files(self.weights, FILES, self.weights, cache, False, None)


def _load(files: list[Path], sha256: str | None) -> tuple[Any, dict[str, Any]]:
    """Return the network and how its sound is prepared."""
    transformers = package("transformers", "transformers", "profiles")
    try:
        config, preset = (json.loads(path.read_text(encoding="utf-8")) for path in files[:2])
    except (OSError, ValueError) as error:
        raise WeightsError(f"{files[0].parent} holds no readable settings ({error}); fetch it again") from error
    if config.get("model_type") not in KINDS:
        raise ConfigError(f"{files[0]} is of a {config.get('model_type')!r}; {', '.join(KINDS)} are read")
    if sha256 is not None:
        check_sha256(files[-1], sha256)
    with seeded(torch.Generator().manual_seed(0)):
        try:
            model, info = transformers.AutoModel.from_pretrained(
                files[0].parent, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            raise WeightsError(f"{files[-1]} does not fit its network: {error}") from error
    lacking = sorted(name for name in info["missing_keys"] if not _UNUSED.fullmatch(name))
    if lacking:
        raise WeightsError(f"{files[-1]} lacks {', '.join(lacking[:8])}; transformers would fill them at random")
    return model.float(), preset


class _Hidden(ItemNetwork):
    """A frozen network: clips [N, T] to the mean of its last hidden layer."""

    def __init__(self, model: Any, preset: dict[str, Any], *, rate: int) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.rate, self.wanted = rate, int(preset.get("sampling_rate", 16000))
        self.normal = bool(preset.get("do_normalize", True))
        super().train(False)

    @property
    def dim(self) -> int:
        return int(self.model.config.hidden_size)

    def least(self) -> int:
        """Return how many samples give one frame."""
        needed = 1
        for kernel, stride in zip(
            self.model.config.conv_kernel[::-1], self.model.config.conv_stride[::-1], strict=True
        ):
            needed = (needed - 1) * stride + kernel
        return -(-needed * self.rate // self.wanted)

    def forward(self, items: Tensor) -> Tensor:
        return torch.cat([self._read(part) for part in items.split(_AT_ONCE)])

    def _read(self, clips: Tensor) -> Tensor:
        clips = resample(clips, self.rate, self.wanted)
        if self.normal:
            clips = (clips - clips.mean(1, keepdim=True)) / (clips.var(1, correction=0, keepdim=True) + 1e-7).sqrt()
        return self.model(clips).last_hidden_state.mean(1)

    def train(self, mode: bool = True) -> _Hidden:
        return self
