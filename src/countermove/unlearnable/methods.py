"""Every method of this arena, one line each. Listing them imports none."""

from __future__ import annotations

from countermove.game.methods import Methods
from countermove.nets.registry import MODELS
from countermove.unlearnable.data import DATA

_POISONS = "countermove.unlearnable.poisons"
_COUNTERMEASURES = "countermove.unlearnable.countermeasures"

MOVES = {
    "none": f"{_POISONS}.none:NoPoison",
    "error-minimizing": f"{_POISONS}.error_minimizing:ErrorMinimizing",
    "error-maximizing": f"{_POISONS}.error_maximizing:ErrorMaximizing",
    "targeted-adversarial": f"{_POISONS}.targeted_adversarial:TargetedAdversarial",
    "hypocritical": f"{_POISONS}.hypocritical:Hypocritical",
    "self-ensemble": f"{_POISONS}.self_ensemble:SelfEnsemble",
    "tensorclog": f"{_POISONS}.tensorclog:TensorClog",
    "mixture": f"{_POISONS}.mixture:Mixture",
    "ntga": f"{_POISONS}.ntga:Ntga",
    "shortcutgen": f"{_POISONS}.shortcutgen:ShortcutGen",
    "deep-confuse": f"{_POISONS}.deep_confuse:DeepConfuse",
    "random": f"{_POISONS}.random_noise:RandomNoise",
    "regions": f"{_POISONS}.regions:Regions",
    "linear-separable": f"{_POISONS}.linear_separable:LinearSeparable",
    "autoregressive": f"{_POISONS}.autoregressive:Autoregressive",
    "one-pixel-shortcut": f"{_POISONS}.one_pixel_shortcut:OnePixelShortcut",
    "cuda": f"{_POISONS}.cuda:Cuda",
    "robust-error-minimizing": f"{_POISONS}.robust_error_minimizing:RobustErrorMinimizing",
    "stable-error-minimizing": f"{_POISONS}.stable_error_minimizing:StableErrorMinimizing",
    "combined": f"{_POISONS}.combined:Combined",
    "transferred": f"{_POISONS}.transferred:Transferred",
    "precomputed": f"{_POISONS}.precomputed:Precomputed",
}

COUNTERMOVES = {
    "none": f"{_COUNTERMEASURES}.none:NoCountermeasure",
    "gray": f"{_COUNTERMEASURES}.gray:Gray",
    "jpeg": f"{_COUNTERMEASURES}.jpeg:Jpeg",
    "bit-depth": f"{_COUNTERMEASURES}.bit_depth:BitDepth",
    "median": f"{_COUNTERMEASURES}.median:Median",
    "mean": f"{_COUNTERMEASURES}.mean:Mean",
    "gaussian": f"{_COUNTERMEASURES}.gaussian:Gaussian",
    "channel-mean": f"{_COUNTERMEASURES}.channel_mean:ChannelMean",
    "single-channel": f"{_COUNTERMEASURES}.single_channel:SingleChannel",
    "luma-quantization": f"{_COUNTERMEASURES}.luma_quantization:LumaQuantization",
    "cutout": f"{_COUNTERMEASURES}.cutout:Cutout",
    "cutmix": f"{_COUNTERMEASURES}.cutmix:CutMix",
    "mixup": f"{_COUNTERMEASURES}.mixup:MixUp",
    "fast-autoaugment": f"{_COUNTERMEASURES}.fast_autoaugment:FastAutoAugment",
    "ueraser": f"{_COUNTERMEASURES}.ueraser:UEraser",
    "adversarial-training": f"{_COUNTERMEASURES}.adversarial_training:AdversarialTraining",
    "early-stopping": f"{_COUNTERMEASURES}.early_stopping:EarlyStopping",
    "orthogonal-projection": f"{_COUNTERMEASURES}.orthogonal_projection:OrthogonalProjection",
    "purifier": f"{_COUNTERMEASURES}.purifier:Purifier",
    "detect-linear": f"{_COUNTERMEASURES}.detect_linear:DetectLinear",
    "detect-network": f"{_COUNTERMEASURES}.detect_network:DetectNetwork",
    "detect-bias": f"{_COUNTERMEASURES}.detect_bias:DetectBias",
    "automatic": f"{_COUNTERMEASURES}.automatic:Automatic",
    "fine-tuning": f"{_COUNTERMEASURES}.fine_tuning:FineTuned",
    "robust-training": f"{_COUNTERMEASURES}.known_poisons:RobustTraining",
    "left-out": f"{_COUNTERMEASURES}.left_out:LeftOut",
}

METHODS = Methods("unlearnable", {"move": MOVES, "countermove": COUNTERMOVES, "model": MODELS, "data": DATA})
