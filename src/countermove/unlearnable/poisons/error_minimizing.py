"""Error-minimising noise: pictures that look already learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.nets.registry import check_network
from countermove.pixels.balls import Norm, check_radius
from countermove.pixels.batch import Batch
from countermove.pixels.jpeg import check_quality
from countermove.unlearnable.bilevel import Bilevel, against, class_wise, sample_wise
from countermove.unlearnable.class_noise import strongest
from countermove.unlearnable.descent import Descent, Solver
from countermove.unlearnable.patches import check_patch, cut, put
from countermove.unlearnable.poison import Context, by_class
from countermove.unlearnable.views import Backward, Modules, Through


@dataclass(frozen=True, kw_only=True)
class ErrorMinimizing:
    """Error-minimizing noise (EM), Huang et al. 2021, arXiv:2101.04898.

    A surrogate is trained for a few batches on the noisy pictures, then the noise takes steps that lower its loss on
    them; again and again until the surrogate's error is below `stop_error`. A learner finds nothing left to learn.

    eps:        L-infinity radius of the noise (paper: 8/255 for small pictures, 16/255 for ImageNet).
    form:       "sample": one noise a picture. "class": one noise a class, found on `share` of the pictures.
    step:       length of one sign step, or Adam's learning rate (paper: eps / 10 = 0.8/255; for Adam not stated); 0
                means eps / 10. L-BFGS searches its own along the line.
    steps:      steps for each sweep over the pictures; 0 means the paper's: 20 sample-wise, 1 class-wise, 200 in the
                penalty form (solver adam or lbfgs).
    batches:    surrogate batches before each sweep (paper: M = 10 on CIFAR-10, 100 in the penalty form).
    batch_size: pictures in a surrogate batch.
    rounds:     sweeps at most. The stop error may never be reached: this is the bound, and the manifest says so.
    stop_error: stop when the surrogate errs less often than this; 0 means the paper's: 0.01 and 0.1.
    share:      of the pictures used to find class-wise noise (paper: 0.2).
    augment:    the surrogate sees random crops and flips, as a learner will.
    augment_sweep: the sweeps see them too, so that the noise survives them, at the price of lower frequencies.
    surrogate:  the network, spelled like a model of the grid (paper: resnet-18).
    lr:         of the surrogate (paper: 0.025 in the text, 0.1 in the code).
    solver:     how the noise descends. "pgd": steps along the gradient's sign. "adam", "lbfgs": the penalty form of
                appendix I, cross entropy + penalty x |noise|^2, which is then cut to eps (paper: "L-BFGS ... using
                Adam").
    penalty:    the weight of that form (paper: c = 1.0).
    patch:      side of the square that the noise covers, at a random place in each picture that follows its id; 0 means
                the whole picture (paper, appendix F: 8, 16, 24 and 32).
    through:    differentiable squeezes that the pictures pass in the surrogate's batches and in the sweeps, before crop
                and flip: "gray", "jpeg" or "gray+jpeg"; "" is none. EM-Gray, EM-JPEG and EM-G&J of the adaptive poisons
                in Image Shortcut Squeezing (Liu et al. 2023, arXiv:2301.13838).
    qualities:  of that JPEG (there: 10). Of several, one is drawn for every step: an ensemble at the price of one.
    backward:   "differentiable": JPEG is imitated with soft rounding. "bpda": the real codec, and its gradient is taken
                for the identity. Gray has its own gradient in both.

    Differs from the paper: with `augment` the surrogate and the sweeps see the crop and flip that a learner will use.
    Without it the noise of small data sets does not survive the learner's augmentation. The paper does not say
    whether noise in the penalty form is cut to eps; here it is, after every sweep. A class's patch lies somewhere else
    in every step and picture, as in the paper; sample-wise a picture's patch stays where it will be published.
    Differs from the released code: its loader adds the noise in 8 bits and clamps it at zero first, so the negative
    half is lost; here both halves are kept. Its surrogate sees pictures outside [0, 1]; ours does not.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Norm | None] = "linf"
    streams: ClassVar[bool] = False

    eps: float = 8 / 255
    form: Literal["sample", "class"] = "sample"
    step: float = 0.0
    steps: int = 0
    batches: int = 10
    batch_size: int = 128
    rounds: int = 15
    stop_error: float = 0.0
    share: float = 0.2
    augment: bool = True
    augment_sweep: bool = True
    surrogate: str = "small-cnn"
    lr: float = 0.1
    solver: Solver = "pgd"
    penalty: float = 1.0
    patch: int = 0
    through: Modules = ""
    qualities: tuple[int, ...] = (10,)
    backward: Backward = "differentiable"

    def __post_init__(self) -> None:
        check_radius(self.eps, norm="linf")
        check_network(self.surrogate)
        if min(self.steps, self.step, self.stop_error) < 0 or min(self.batches, self.batch_size, self.rounds) < 1:
            raise ConfigError("error-minimizing: steps and errors are not negative; batches and rounds at least 1")
        if self.stop_error >= 1:
            raise ConfigError(
                f"error-minimizing: stop_error = {self.stop_error} is refused: every surrogate errs less often, so no "
                "noise would be made; take a number below 1, or 0 for the paper's"
            )
        if self.lr <= 0:
            raise ConfigError(f"error-minimizing: lr = {self.lr} is refused: a learning rate is above 0")
        if not 0 < self.share <= 1:
            raise ConfigError(f"error-minimizing: share = {self.share} is refused: a share is above 0 and at most 1")
        if self.patch < 0 or self.penalty < 0:
            raise ConfigError("error-minimizing: patch and penalty are not negative; patch = 0 is the whole picture")
        if not self.qualities:
            raise ConfigError("error-minimizing: qualities = [] is refused: name at least one, like [10] or [10, 50]")
        for quality in self.qualities:
            check_quality(quality)
        if "jpeg" not in self.through and (self.qualities != (10,) or self.backward != "differentiable"):
            raise ConfigError(
                f"error-minimizing: qualities and backward are settings of JPEG, which through = {self.through!r} "
                "leaves out; write through=jpeg or through=gray+jpeg"
            )

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return pictures [N, 3, H, W] within eps of the given ones."""
        game = self._game(batch)
        network = context.fresh_network(self.surrogate, batch)
        if self.form == "class":
            noise = class_wise(batch, network, game, self.share, context)
            return self._with_class_noise(batch, noise, context)
        noise = sample_wise(batch, network, game, context)
        context.kept[self._name(context)] = (network, context.meter.facts["rounds"])
        return batch.with_pictures((batch.pictures + noise).clamp(0, 1))

    def on_test(self, test: Batch, *, clean: Batch, moved: Batch, context: Context) -> Batch:
        """Return new pictures with their class's noise, or with noise made against the last surrogate.

        Sample-wise the surrogate stays as it is, and the noise makes as many sweeps as the train pictures' made. A
        context that did not make the poison makes it first, at its price.
        """
        game = self._game(test)
        if self.form == "class":
            places = game.places(clean, context.seed)
            changes = cut(moved.pictures - clean.pictures, places, self.patch)
            return self._with_class_noise(test, strongest(changes, clean.labels, len(clean.classes)), context)
        if self._name(context) not in context.kept:
            self(clean, context=context)
        network, rounds = self._kept(context)
        return test.with_pictures((test.pictures + against(test, network, game, rounds, context)).clamp(0, 1))

    def _with_class_noise(self, batch: Batch, noise: Tensor, context: Context) -> Batch:
        places = self._game(batch).places(batch, context.seed)
        noise = put(by_class(noise, batch.labels), places, *batch.pictures.shape[2:])
        return batch.with_pictures((batch.pictures + noise).clamp(0, 1))

    def _kept(self, context: Context) -> tuple[nn.Module, int]:
        return context.kept[self._name(context)]

    def _name(self, context: Context) -> str:
        return f"{self!r} with seed {context.seed}"

    def _game(self, batch: Batch) -> Bilevel:
        sample, (height, width) = self.form == "sample", batch.pictures.shape[2:]
        check_patch(self.patch, height, width)
        usual = 200 if self.solver != "pgd" else 20 if sample else 1
        return Bilevel(
            descent=Descent(
                eps=self.eps,
                step=self.step or self.eps / 10,
                steps=self.steps or usual,
                solver=self.solver,
                penalty=self.penalty,
            ),
            batches=self.batches,
            batch_size=self.batch_size,
            rounds=self.rounds,
            stop_error=self.stop_error or (0.01 if sample else 0.1),
            augment=self.augment,
            augment_sweep=self.augment_sweep,
            lr=self.lr,
            patch=0 if self.patch == height == width else self.patch,
            through=Through(modules=self.through, qualities=self.qualities, backward=self.backward),
        )
