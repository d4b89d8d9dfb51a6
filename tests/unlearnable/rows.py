"""One row of tiny settings for every form of every registered method. A method without a row fails the suite.

To add a method: register it in countermove/unlearnable/methods.py and add a row here; then
``python -m tests.unlearnable.golden_update`` if it needs no network.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MoveRow:
    """How a poison is tried on 24 pictures of 16 x 16.

    settings:   as spelled between brackets.
    random:     whether another seed gives other pictures.
    radius:     whether eps is the radius that it moves by; eps = 0 must then change nothing.
    needs_file: whether it reads somebody's poison; the suite writes one.
    network:    whether its output comes from a network, so that it differs by machine.
    sees_all:   whether it looks at all pictures before it changes one, though it has no network.
    ours:       whether there is no paper to name.
    """

    settings: str = ""
    random: bool = True
    radius: bool = True
    needs_file: bool = False
    network: bool = False
    sees_all: bool = False
    ours: bool = False


@dataclass(frozen=True, kw_only=True)
class CountermoveRow:
    """How a countermeasure is tried on 24 pictures of 16 x 16.

    kind:     "squeeze" changes pictures once, "step" training batches, "model-step" those with the model's help,
              "stop" ends the training early, "selection" chooses pictures, "fitted" changes
              them by what it learned of them, "decision" does what the data ask for, if anything, "own-data" needs data
              that fit (tested by itself), or "none".
    settings: as spelled between brackets.
    ours:     whether there is no paper to name.
    """

    kind: str
    settings: str = ""
    ours: bool = False


_EM = "batch_size=8, batches=2, rounds=2, surrogate='small-cnn(width=0.1)'"
_MAX = "batch_size=8, steps=2, step=3/255, surrogate='small-cnn(width=0.1)', surrogate_epochs=1"
_STAGES = f"checkpoints=2, {_MAX.replace('epochs=1', 'epochs=2')}"
_ROBUST = "batch_size=8, rounds=2, steps=2, surrogate='small-cnn(width=0.1)'"
_GENERATOR = "batch_size=8, width=4, surrogate='small-cnn(width=0.1)'"

MOVE_ROWS: dict[str, list[MoveRow]] = {
    "none": [MoveRow(random=False, radius=False, ours=True)],
    "error-minimizing": [
        MoveRow(settings=f"{_EM}, steps=3, form=sample", network=True),
        MoveRow(settings=f"{_EM}, steps=3, form=sample, augment=false", network=True),
        MoveRow(settings=f"{_EM}, share=0.5, form=class", network=True),
        MoveRow(settings=f"{_EM}, share=0.5, form=class, patch=8", network=True),
        MoveRow(settings=f"{_EM}, steps=3, form=sample, patch=12", network=True),
        MoveRow(settings=f"{_EM}, steps=20, solver=adam", network=True),
        MoveRow(settings=f"{_EM}, steps=8, solver=lbfgs, penalty=0.01", network=True),
        MoveRow(settings=f"{_EM}, steps=2, through=gray+jpeg, qualities=[10, 50]", network=True),
        MoveRow(settings=f"{_EM}, share=0.5, form=class, through=jpeg, backward=bpda", network=True),
    ],
    "error-maximizing": [
        # The sample-wise form draws nothing: its seed lies in the surrogate, which the suite keeps.
        MoveRow(settings=f"{_MAX}, form=sample", network=True, random=False),
        MoveRow(settings=f"{_MAX}, form=class", network=True),
    ],
    "targeted-adversarial": [
        MoveRow(settings=f"{_MAX}, restarts=2", network=True),
        MoveRow(settings=f"{_MAX}, augment=false", network=True),
    ],
    # Without a random start the seed lies in the surrogate, which the suite keeps.
    "hypocritical": [
        MoveRow(settings=_MAX, network=True, random=False),
        MoveRow(settings=f"norm=l2, eps=0.5, {_MAX.replace('3/255', '0.3')}", network=True, random=False),
        MoveRow(settings=f"{_MAX}, surrogate_eps=2/255", network=True, random=False),
    ],
    "self-ensemble": [
        MoveRow(settings=f"{_STAGES}, form=plain", network=True, random=False),
        MoveRow(settings=f"{_STAGES}, form=features", network=True, random=False),
        # Which stage looks ahead is drawn, but the suite's stages are all one network.
        MoveRow(settings=f"{_STAGES}, form=variance-reduced, inner=2", network=True, random=False),
    ],
    "tensorclog": [
        MoveRow(settings=f"{_MAX}, layers=last", network=True, random=False),
        MoveRow(settings=f"{_MAX}, layers=all", network=True, random=False),
    ],
    "mixture": [
        MoveRow(settings=f'poison="error-minimizing({_EM.replace(chr(39), "")}, share=0.5, form=class)"', network=True),
        MoveRow(settings='poison="random(form=class)", partner=random', network=True),
    ],
    "ntga": [
        MoveRow(settings="steps=3, layers=2, block=10, validation=8", network=True),
        MoveRow(settings="steps=2, block=24, activation=erf", network=True),
    ],
    "shortcutgen": [
        MoveRow(settings=f"{_GENERATOR}, epochs=1, augment=before", network=True),
        MoveRow(settings=f"{_GENERATOR}, epochs=1, augment=after", network=True),
    ],
    "deep-confuse": [MoveRow(settings=f"{_GENERATOR}, rounds=2, epochs=1", network=True)],
    "random": [MoveRow(settings="form=sample"), MoveRow(settings="form=class")],
    "regions": [MoveRow(), MoveRow(settings="regions=9, eps=16/255")],
    "linear-separable": [
        MoveRow(settings="eps=0.652, patch_size=4"),
        MoveRow(settings="eps=1.0, patch_size=8"),
        MoveRow(settings="eps=0.5, patch_size=8, gray=true"),
    ],
    "autoregressive": [
        MoveRow(settings="eps=0.5, response=3"),
        MoveRow(settings="eps=0.5, response=3, stable=true"),
    ],
    "one-pixel-shortcut": [
        MoveRow(random=False, sees_all=True),
        MoveRow(settings="eps=3, score=paper", random=False, sees_all=True),
    ],
    "cuda": [MoveRow(radius=False), MoveRow(settings="blur=0.1", radius=False)],
    "robust-error-minimizing": [MoveRow(settings=f"{_ROBUST}, draws=2, adversary_steps=1", network=True)],
    "stable-error-minimizing": [MoveRow(settings=f"{_ROBUST}, draws=3, adversary_steps=1", network=True)],
    "combined": [
        MoveRow(settings="first=random, second='regions(regions=4)'", radius=False, network=True),
        MoveRow(settings="first=random, second='random(form=class, eps=3/255)', how=mean", radius=False, network=True),
        MoveRow(
            settings="first='linear-separable(patch_size=4)', second='linear-separable(patch_size=8)', how=mean",
            radius=False,
            network=True,
        ),
    ],
    "transferred": [
        MoveRow(
            settings="source='cifar10-mini(train_limit=96)', poison='random(form=class)', match=position",
            radius=False,
            network=True,
        ),
    ],
    "precomputed": [
        MoveRow(random=False, radius=False, needs_file=True, ours=True),
        MoveRow(settings="eps=8/255", random=False, radius=False, needs_file=True, ours=True),
    ],
}

COUNTERMOVE_ROWS: dict[str, list[CountermoveRow]] = {
    "none": [CountermoveRow(kind="none", ours=True)],
    "gray": [CountermoveRow(kind="squeeze")],
    "jpeg": [CountermoveRow(kind="squeeze"), CountermoveRow(kind="squeeze", settings="quality=75")],
    "bit-depth": [CountermoveRow(kind="squeeze"), CountermoveRow(kind="squeeze", settings="bits=5")],
    "median": [CountermoveRow(kind="squeeze"), CountermoveRow(kind="squeeze", settings="size=5")],
    "mean": [CountermoveRow(kind="squeeze"), CountermoveRow(kind="squeeze", settings="size=5")],
    "gaussian": [CountermoveRow(kind="squeeze"), CountermoveRow(kind="squeeze", settings="sigma=0.5, size=5")],
    "channel-mean": [CountermoveRow(kind="squeeze")],
    "single-channel": [CountermoveRow(kind="squeeze"), CountermoveRow(kind="squeeze", settings="channel=r")],
    "luma-quantization": [
        CountermoveRow(kind="squeeze"),
        CountermoveRow(kind="squeeze", settings="levels=8, chroma=5"),
    ],
    "cutout": [CountermoveRow(kind="step", settings="length=5")],
    "cutmix": [CountermoveRow(kind="step")],
    "mixup": [CountermoveRow(kind="step")],
    "fast-autoaugment": [CountermoveRow(kind="step"), CountermoveRow(kind="step", settings="policy=svhn")],
    "ueraser": [
        CountermoveRow(kind="model-step", settings="views=3, share=1"),
        CountermoveRow(kind="model-step", settings="views=1"),
    ],
    "adversarial-training": [
        CountermoveRow(kind="model-step", settings="eps=4/255, step=2/255, steps=2"),
        CountermoveRow(kind="model-step", settings="norm=l2, variant=fast"),
    ],
    "early-stopping": [CountermoveRow(kind="stop", settings="patience=3, gain=0.02")],
    "orthogonal-projection": [CountermoveRow(kind="fitted")],
    "purifier": [CountermoveRow(kind="fitted", settings="width=4, epochs=1")],
    "detect-linear": [
        CountermoveRow(kind="decision", settings="folds=2, epochs=3"),
        CountermoveRow(kind="decision", settings="folds=2, epochs=3, threshold=0.1, then=squeeze, treat=gray"),
    ],
    "detect-network": [CountermoveRow(kind="decision", settings="hidden=8, folds=2, epochs=2, threshold=0.1")],
    "detect-bias": [
        CountermoveRow(kind="decision", settings="model='small-cnn(width=0.1)', folds=2, epochs=1, threshold=0.1")
    ],
    "automatic": [CountermoveRow(kind="decision", settings="model='small-cnn(width=0.1)', epochs=1", ours=True)],
    "fine-tuning": [
        CountermoveRow(kind="own-data", settings="adaptation=bitfit, clean=20, data=cifar10-mini, epochs=1, skip=100")
    ],
    "robust-training": [
        CountermoveRow(kind="own-data", settings="known='random(form=class)', data=cifar10-mini, take=20")
    ],
    "left-out": [CountermoveRow(kind="selection")],
}
