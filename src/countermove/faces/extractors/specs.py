"""Face networks whose weights others published: what is known of each file. Importing this loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_HALF = (0.5, 0.5, 0.5)
_FACENET = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9"
_INSIGHTFACE = "https://github.com/deepinsight/insightface/tree/master/recognition/arcface_torch#model-zoo"
_NON_COMMERCIAL = "non-commercial research only"


@dataclass(frozen=True, kw_only=True)
class EmbedderSpec:
    """A published file of weights, and how pictures must come to the network.

    key:           what it is called here.
    architecture:  inception-resnet-v1, one of iresnet's BLOCKS or of ir's DEPTHS, or a spelling of `nets.load`.
    side:          of the pictures it was trained on.
    channel_order: what it was trained on.
    mean, std:     one number a channel in that order, in [0, 1] pixel units.
    width:         numbers in an embedding.
    trained_on:    the photos, and the loss where the name does not say it.
    year:          of the paper whose training it is; the file may be younger.
    licence:       as its publishers state it; the photos have their own terms.
    filename:      what the file must be called to be found.
    url:           the file itself where `direct`, else the page that leads to it.
    direct:        whether it can be fetched without a person.
    sha256:        of the file; None where we know of no published one.
    eps:           of the batch normalisations.
    nested:        whether the tensors lie under "state_dict".
    prefix:        what stands before the names of the network's tensors.
    dropped:       names of tensors that the file holds and the embedding does not need.
    """

    key: str
    architecture: str
    side: int
    trained_on: str
    year: int
    licence: str
    filename: str
    url: str
    channel_order: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = _HALF
    std: tuple[float, float, float] = _HALF
    width: int = 512
    direct: bool = False
    sha256: str | None = None
    eps: float = 1e-5
    nested: bool = False
    prefix: str = ""
    dropped: tuple[str, ...] = ()


def _facenet(name: str, *, file: str, trained_on: str, sha256: str | None) -> EmbedderSpec:
    return EmbedderSpec(
        key=f"facenet-{name}",
        architecture="inception-resnet-v1",
        side=160,
        std=(128 / 255, 128 / 255, 128 / 255),
        trained_on=trained_on,
        year=2015,
        licence="MIT (facenet-pytorch, ported from D. Sandberg's facenet)",
        filename=file,
        url=f"{_FACENET}/{file}",
        direct=True,
        sha256=sha256,
        eps=1e-3,
        dropped=("logits.weight", "logits.bias"),
    )


def _insightface(key: str, *, depth: int, folder: str, trained_on: str, year: int) -> EmbedderSpec:
    return EmbedderSpec(
        key=key,
        architecture=f"iresnet-{depth}",
        side=112,
        trained_on=trained_on,
        year=year,
        licence=_NON_COMMERCIAL,
        filename=f"{folder}_backbone.pth",
        url=f"{_INSIGHTFACE} ({folder}/backbone.pth there)",
    )


def _adaface(depth: int, *, trained_on: str) -> EmbedderSpec:
    file = f"adaface_ir{depth}_{trained_on.lower()}.ckpt"
    return EmbedderSpec(
        key=f"adaface-ir{depth}",
        architecture=f"ir-{depth}",
        side=112,
        channel_order="bgr",
        trained_on=trained_on,
        year=2022,
        licence="MIT (AdaFace)",
        filename=file,
        url=f"https://github.com/mk-minchul/AdaFace#pretrained-models ({file} there)",
        nested=True,
        prefix="model.",
        dropped=("head.kernel", "head.t", "head.batch_mean", "head.batch_std"),
    )


EMBEDDERS: dict[str, EmbedderSpec] = {
    spec.key: spec
    for spec in (
        _facenet(
            "vggface2",
            file="20180402-114759-vggface2.pt",
            trained_on="VGGFace2, 8,631 people, softmax",
            sha256="281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b",
        ),
        _facenet(
            "casia-webface",
            file="20180408-102900-casia-webface.pt",
            trained_on="CASIA-WebFace, 10,575 people, softmax",
            sha256=None,
        ),
        _insightface("arcface-r50", depth=50, folder="ms1mv3_arcface_r50_fp16", trained_on="MS1MV3", year=2018),
        _insightface("arcface-r100", depth=100, folder="ms1mv3_arcface_r100_fp16", trained_on="MS1MV3", year=2018),
        _insightface(
            "cosface-r100", depth=100, folder="glint360k_cosface_r100_fp16_0.1", trained_on="Glint360K", year=2018
        ),
        EmbedderSpec(
            key="magface-r100",
            architecture="iresnet-100",
            side=112,
            channel_order="bgr",
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            trained_on="MS1MV2",
            year=2021,
            licence="Apache-2.0 (MagFace)",
            filename="magface_epoch_00025.pth",
            url="https://github.com/IrvingMeng/MagFace#model-zoo",
            sha256="cfeba792dada6f1f30d1e118aff077d493dd95dd76c77c30f57f90fd0164ad58",
            eps=2e-5,
            nested=True,
            prefix="features.module.",
            dropped=("fc.weight", "parallel_fc.weight"),
        ),
        _adaface(50, trained_on="MS1MV2"),
        _adaface(101, trained_on="WebFace12M"),
        EmbedderSpec(
            key="clip-b32",
            architecture="open_clip:ViT-B-32/openai",
            side=224,
            mean=(0.48145466, 0.4578275, 0.40821073),
            std=(0.26862954, 0.26130258, 0.27577711),
            trained_on="400 million captioned pictures, no faces in particular",
            year=2021,
            licence="MIT (OpenAI CLIP)",
            filename="open_clip_model.safetensors",
            url="https://huggingface.co/timm/vit_base_patch32_clip_224.openai",
            direct=True,
        ),
    )
}
"""By key. The names and shapes were read in the publishers' code; no file was at hand, so none was tried."""
