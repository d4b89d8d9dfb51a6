"""Made-up profiles whose evidence is known, for tests and demonstrations without any download."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from countermove.errors import ConfigError
from countermove.profiles.data.drafts import Draft, Plan, Split, check_least, check_split, split_drafts

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from countermove.profiles.dataset import Profiles

CLASSES = {"spread": ("cool", "warm"), "concentrated": ("plain", "marked")}
SHOWN = ("cool, faint", "cool, strong", "warm, faint", "warm, strong")
HELD_BY = {"picture": 0.08, "speech": 0.4}
"""How far one unit of evidence moves a colour, or the logarithm of a tone's loudness."""

RATE = 8000
TONES = (500.0, 900.0, 1400.0)
FEATURES = 12
STYLE = 3
GRAIN = 0.05
HISS = 0.02


@dataclass(frozen=True, kw_only=True)
class PlantedProfiles:
    """Drawn items that carry a known amount of evidence. A mean over a profile's items tells its value.

    Evidence is one number an item. In a picture it is how warm or cool level stripes are; in speech, how loud a low
    tone is against a high one; in a table, a direction among features. Items differ besides in a second thing of the
    same kind that says nothing (upright stripes, a third tone, another direction), in their owner's own style, in light
    and noise. With "spread" evidence it is normal around +lean or -lean, so that most items lean to their owner's
    value. With "concentrated" evidence a share of the items of a marked profile carry a mark and all others, of both
    values, none: most items of a marked profile look like a plain one's, and a vote of items fails. Rates on these are
    not rates on photographs or speech.

    medium:     "picture", "speech" (8 kHz) or "table" (12 features).
    profiles:   how many, half of each value.
    items:      of each profile.
    fewest:     profiles have fewest to `items` items, drawn evenly; without it, all have `items`.
    per_owner:  profiles of each owner, who has one style.
    side:       pictures are side x side pixels.
    samples:    of each sound.
    evidence:   "spread" or "concentrated".
    lean:       of spread evidence, in its standard deviations.
    share:      of concentrated evidence: the part of a marked profile's items that carry it, one at least.
    mark:       and how much these carry, in the same unit.
    background: items that anybody may add, made like the items of profiles, half of each value.
    public:     items for extractors, half of them cool, half warm; labelled with that, and with the second thing.
    validation: share of owners.
    test:       share of owners.
    split:      "owners" keeps all of an owner's profiles in one split; "profiles" does not, and warns.
    split_seed: another seed chooses other owners.
    seed:       another seed draws other items.
    """

    version: ClassVar[int] = 1
    medium: Literal["picture", "speech", "table"] = "picture"
    profiles: int = 120
    items: int = 8
    fewest: int | None = None
    per_owner: int = 1
    side: int = 16
    samples: int = 4000
    evidence: Literal["spread", "concentrated"] = "spread"
    lean: float = 0.8
    share: float = 0.25
    mark: float = 3.0
    background: int = 200
    public: int = 400
    validation: float = 0.1
    test: float = 0.4
    split: Split = "owners"
    split_seed: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_split("planted-profiles", self)
        check_least(
            "planted-profiles",
            self,
            profiles=4,
            items=1,
            fewest=1,
            per_owner=1,
            side=8,
            samples=400,
            background=0,
            public=0,
        )
        if self.profiles % (2 * self.per_owner) or self.profiles < 4 * self.per_owner:
            raise ConfigError(
                f"planted-profiles: profiles = {self.profiles} is refused: it must be a multiple of twice per_owner = "
                f"{self.per_owner}, so that both values have equally many, and at least four times that"
            )
        if self.fewest is not None and self.fewest > self.items:
            raise ConfigError(f"planted-profiles: fewest = {self.fewest} is refused: items = {self.items} is less")
        if not 0 < self.share <= 1:
            raise ConfigError(f"planted-profiles: share = {self.share:g} is refused: it lies in 0..1, above 0")
        if not (math.isfinite(self.lean) and math.isfinite(self.mark)):
            raise ConfigError("planted-profiles: lean and mark must be finite numbers")
        if self.medium not in ("picture", "speech", "table"):
            raise ConfigError(f"planted-profiles: medium = {self.medium!r} is refused; it is picture, speech or table")
        if self.evidence not in CLASSES:
            raise ConfigError(
                f"planted-profiles: evidence = {self.evidence!r} is refused; it is spread or concentrated"
            )

    def __call__(self, *, root: Path | None = None) -> Profiles:
        """Draw everything; nothing is read."""
        import torch

        drafts: list[Draft] = []
        drawn: dict[str, Tensor] = {}
        for number in range(self.profiles):
            owner, part = divmod(number, self.per_owner)
            who = f"owner-{owner:04d}"
            count = self._length(who, part)
            names = [f"{who}/{part}-{i:03d}" for i in range(count)]
            drawn |= zip(names, self._person(who, part, count, owner % 2), strict=True)
            drafts.append(Draft(owner=who, label=owner % 2, items=tuple(names), part=part))
        split, warning = split_drafts(drafts, self)
        background = [f"background-{i:04d}" for i in range(self.background)]
        for start in range(0, self.background, self.items):
            mine = background[start : start + self.items]
            drawn |= zip(mine, self._person(f"stranger-{start}", 0, len(mine), start // self.items % 2), strict=True)
        public = [f"public-{i:04d}" for i in range(self.public)]
        drawn |= zip(public, self._shown(), strict=True)
        plan = Plan(
            drafts=tuple(split),
            classes=CLASSES[self.evidence],
            background=tuple(background),
            kinds=tuple(i // self.items % 2 for i in range(self.background)),
            public=tuple(public),
            public_labels=tuple(i % 4 for i in range(self.public)),
            public_classes=SHOWN,
            warning=warning,
        )
        items = torch.stack([drawn[name] for name in plan.ids()])
        return plan.filled("planted-profiles", self.medium, items, rate=RATE if self.medium == "speech" else 0)

    def _length(self, who: str, part: int) -> int:
        import torch

        if self.fewest is None:
            return self.items
        return int(torch.randint(self.fewest, self.items + 1, (), generator=self._generator("length", who, part)))

    def _person(self, who: str, part: int, count: int, value: int) -> Tensor:
        """Draw so many items of an owner with a value."""
        import torch

        luck = self._generator("evidence", who, part)
        if self.evidence == "spread":
            evidence = torch.randn(count, generator=luck) + (2 * value - 1) * self.lean
        else:
            evidence = torch.randn(count, generator=luck) / 2
            marked = torch.randperm(count, generator=luck)[: value * max(1, round(self.share * count))]
            evidence[marked] += self.mark
        style = torch.randn(STYLE, generator=self._generator("style", who)).expand(count, STYLE)
        other = torch.randn(count, generator=luck) + style[:, 0]
        return self._draw(evidence, other, style, self._generator("item", who, part))

    def _shown(self) -> Tensor:
        """Draw the public items, whose labels count through SHOWN."""
        import torch

        luck = self._generator("public")
        number = torch.arange(self.public)
        evidence = torch.randn(self.public, generator=luck) / 2 + 2 * (2.0 * (number % 4 // 2) - 1)
        other = torch.randn(self.public, generator=luck) / 2 + 2 * (2.0 * (number % 2) - 1)
        style = torch.randn(self.public, STYLE, generator=luck)
        return self._draw(evidence, other, style, luck)

    def _draw(self, evidence: Tensor, other: Tensor, style: Tensor, luck: torch.Generator) -> Tensor:
        """Make stored items of their evidence [N], the second thing [N] and their owner's style [N, 3]."""
        draw = {"picture": self._pictures, "speech": self._sounds, "table": self._features}[self.medium]
        return draw(evidence, other, style, luck)

    def _pictures(self, evidence: Tensor, other: Tensor, style: Tensor, luck: torch.Generator) -> Tensor:
        import torch

        count, at = len(evidence), torch.arange(self.side) / self.side
        phase = torch.rand(2, count, 1, generator=luck)
        stripes = 0.5 + 0.5 * torch.cos(2 * math.pi * (4 * at + phase))
        level = evidence[:, None] * stripes[0]
        upright = other[:, None] * stripes[1]
        slope = torch.randn(2, count, 1, generator=luck) * 0.1 * (at - 0.5)
        gray = 0.5 + slope[0][:, :, None] + slope[1][:, None, :] + 0.05 * style[:, 1, None, None]
        warm, green = torch.tensor([1.0, 0.0, -1.0]), torch.tensor([-0.5, 1.0, -0.5])
        colours = HELD_BY["picture"] * (
            warm[:, None, None] * level[:, None, :, None] + green[:, None, None] * upright[:, None, None, :]
        )
        tint = 0.05 * style[:, 2, None] * green
        noise = GRAIN * torch.randn(count, 3, self.side, self.side, generator=luck)
        return self._stored(gray[:, None] + colours + tint[:, :, None, None] + noise)

    def _sounds(self, evidence: Tensor, other: Tensor, style: Tensor, luck: torch.Generator) -> Tensor:
        import torch

        count, time = len(evidence), torch.arange(self.samples) / RATE
        loudness = 0.1 * torch.exp(HELD_BY["speech"] * torch.stack([evidence, -evidence, other]))
        pitch = torch.tensor(TONES)[:, None] * (1 + 0.03 * style[:, 1])
        phase = torch.rand(3, count, 1, generator=luck)
        tones = loudness[:, :, None] * torch.sin(2 * math.pi * (pitch[:, :, None] * time + phase))
        return self._stored(tones.sum(0) + HISS * torch.randn(count, self.samples, generator=luck))

    def _features(self, evidence: Tensor, other: Tensor, style: Tensor, luck: torch.Generator) -> Tensor:
        import torch

        plain = torch.randn(len(evidence), FEATURES, generator=luck)
        plain[:, 0], plain[:, 1] = evidence, other
        plain[:, 2 : 2 + STYLE] += style
        square = torch.randn(FEATURES, FEATURES, generator=self._generator("directions"), dtype=torch.float64)
        return self._stored(plain @ torch.linalg.qr(square)[0].float())

    def _stored(self, items: Tensor) -> Tensor:
        from countermove.profiles.dataset import as_stored

        return as_stored(items, self.medium)

    def _generator(self, *purpose: str | int) -> torch.Generator:
        from countermove.pixels.randomness import generator

        return generator(self.seed, "planted-profiles", *purpose)
