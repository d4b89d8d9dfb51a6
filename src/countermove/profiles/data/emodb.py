"""Acted speech as profiles."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from countermove.errors import ConfigError, DataError, did_you_mean
from countermove.game.content import fingerprint_files
from countermove.profiles.data.drafts import Draft, Plan, check_least, cut, shuffled
from countermove.profiles.data.reading import read_rows, set_folder

if TYPE_CHECKING:
    from torch import Tensor

    from countermove.profiles.dataset import Profiles

FOLDER = "emodb"
FILES = ("emodb.npz", "labels.csv")
COLUMNS = ("file", "speaker", "gender", "text_code", "emotion_from_filename")
LONGEST = 2.0
STORED_RATE = 22050
ITEMS = {"gender": 5, "emotion": 3}


@dataclass(frozen=True, kw_only=True)
class EmodbProfiles:
    """Emo-DB, ten German sentences by ten actors, a subset of 350 clips, Burkhardt et al. 2005.

    Read from emodb/ in the data folder: emodb.npz and labels.csv, 35 clips of 2 s of each of five women and five men;
    no licence is stated. A profile holds clips of one speaker, chosen by id and seed, in the order of their names. Of
    either gender, some speakers are tested and some, who are in no profile, are the background; all others are trained
    on. Emotions are those that file names say; they were acted. The background also is what extractors may learn from,
    with clips of speakers who are trained on that no profile holds; the labels are the sentences. With so few voices
    a fold more or less is a matter of luck; average over folds.

    attribute:  "gender": profiles of women and men; "emotion": profiles of clips with an emotion, and as many of the
                same speaker's without it.
    emotion:    which one.
    against:    the one it is told from; without it, all others.
    items:      of each profile; without it, 5 for gender and 3 for emotion.
    rate:       samples a second, resampled from 22,050.
    seconds:    clips are cut off after so many.
    test:       speakers of either gender who are tested.
    background: speakers of either gender in the background.
    validation: speakers of either gender for validation.
    fold:       0 to 4 moves on which speakers these are, one by one.
    split_seed: another seed orders speakers otherwise, and puts other clips together.
    """

    version: ClassVar[int] = 1
    attribute: Literal["gender", "emotion"] = "gender"
    emotion: str = "anger"
    against: str | None = None
    items: int | None = None
    rate: int = 11025
    seconds: float = LONGEST
    test: int = 2
    background: int = 1
    validation: int = 0
    fold: int = 0
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_least("emodb", self, items=1, rate=1000, test=1, background=0, validation=0, fold=0)
        if self.attribute not in ITEMS:
            raise ConfigError(f"emodb: attribute = {self.attribute!r} is refused; it is gender or emotion")
        if self.rate > STORED_RATE:
            raise ConfigError(f"emodb: rate = {self.rate} is refused: clips have {STORED_RATE} samples a second")
        if not 0.1 <= self.seconds <= LONGEST:
            raise ConfigError(f"emodb: seconds = {self.seconds:g} is refused: it lies in 0.1..{LONGEST:g}")
        if self.against == self.emotion:
            raise ConfigError(f"emodb: against = {self.against!r} is refused: it is the emotion itself")

    def __call__(self, *, root: Path | None = None) -> Profiles:
        """Read, cut and resample the clips in use.

        Raises:
            DataError: when the data are not there, or there are too few speakers or clips for the settings.
        """
        folder = set_folder(FOLDER, root, *FILES)
        plan = self._plan(folder)
        clips = _clips(folder, plan.ids(), rate=self.rate, seconds=self.seconds)
        return plan.filled(f"emodb, {self.attribute}", "speech", clips, rate=self.rate)

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over both files."""
        folder = set_folder(FOLDER, root, *FILES)
        return fingerprint_files([(name, folder / name) for name in FILES], rehash=rehash)

    def _plan(self, folder: Path) -> Plan:
        rows = {row["file"]: row for row in read_rows(folder / "labels.csv", *COLUMNS)}
        clips: dict[str, list[str]] = defaultdict(list)
        for name in shuffled(list(rows), seed=self.split_seed, purpose="emodb, clips"):
            clips[rows[name]["speaker"]].append(name)
        classes, value = self._values(rows)
        split = self._speakers({row["speaker"]: row["gender"] for row in rows.values()})
        drafts: list[Draft] = []
        for speaker in sorted(clips):
            if split[speaker] != "background":
                drafts += self._drafted(speaker, clips[speaker], value, split[speaker])
        if not drafts:
            raise DataError("emodb: nobody has enough clips of both values for a profile of each; lower items")
        inside = {name for draft in drafts for name in draft.items}
        background = [name for name in sorted(rows) if split[rows[name]["speaker"]] == "background"]
        left = [name for name in rows if split[rows[name]["speaker"]] == "train" and name not in inside]
        public = sorted([*background, *left])
        sentences = tuple(sorted({rows[name]["text_code"] for name in public}))
        return Plan(
            drafts=tuple(drafts),
            classes=classes,
            background=tuple(background),
            kinds=tuple(value[name] for name in background),
            public=tuple(public),
            public_labels=tuple(sentences.index(rows[name]["text_code"]) for name in public),
            public_classes=sentences,
        )

    def _values(self, rows: dict[str, dict[str, str]]) -> tuple[tuple[str, str], dict[str, int]]:
        """Return the attribute's values and every clip's, -1 for those that count as neither."""
        if self.attribute == "gender":
            return ("female", "male"), {name: int(row["gender"] == "male") for name, row in rows.items()}
        felt = {name: row["emotion_from_filename"] for name, row in rows.items()}
        for setting in ("emotion", "against"):
            wanted = getattr(self, setting)
            if wanted is not None and wanted not in felt.values():
                hint = did_you_mean(wanted, set(felt.values()))
                raise ConfigError(f"emodb: {setting} = {wanted!r} is refused: {hint}")
        others = set(felt.values()) - {self.emotion} if self.against is None else {self.against}
        value = {name: 1 if e == self.emotion else 0 if e in others else -1 for name, e in felt.items()}
        return (self.against or f"not {self.emotion}", self.emotion), value

    def _speakers(self, gender: dict[str, str]) -> dict[str, str]:
        """Return what every speaker is for."""
        purposes = ["test"] * self.test + ["background"] * self.background + ["validation"] * self.validation
        split: dict[str, str] = {}
        for which in sorted(set(gender.values())):
            mine = shuffled([s for s in gender if gender[s] == which], seed=self.split_seed, purpose="emodb, speakers")
            if len(purposes) >= len(mine):
                raise DataError(
                    f"emodb: test, background and validation take {len(purposes)} of {len(mine)} {which} speakers, and "
                    "none is left to train on; lower one of them"
                )
            turned = [mine[(i + self.fold) % len(mine)] for i in range(len(mine))]
            split |= dict.fromkeys(turned, "train") | dict(zip(turned, purposes, strict=False))
        return split

    def _drafted(self, speaker: str, clips: list[str], value: dict[str, int], split: str) -> list[Draft]:
        size = self.items or ITEMS[self.attribute]
        of_value = {label: cut([name for name in clips if value[name] == label], size, None) for label in (0, 1)}
        if self.attribute == "emotion":
            fewest = min(map(len, of_value.values()))
            of_value = {label: bags[:fewest] for label, bags in of_value.items()}
        labelled = [(label, bag) for label, bags in of_value.items() for bag in bags]
        return [
            Draft(owner=speaker, label=label, items=tuple(sorted(bag)), part=part, split=split)
            for part, (label, bag) in enumerate(labelled)
        ]


def _clips(folder: Path, names: list[str], *, rate: int, seconds: float) -> Tensor:
    """Return the clips of these files, int16 [N, T]."""
    import torch

    from countermove.pixels.files import read_npz
    from countermove.profiles.dataset import as_float, as_stored
    from countermove.profiles.sound import resample

    row = {line["file"]: i for i, line in enumerate(read_rows(folder / "labels.csv", "file"))}
    file = read_npz(folder / FILES[0], ["audio", "sample_rate"])
    audio, held = file["audio"], int(file["sample_rate"])
    if audio.ndim != 2 or audio.dtype != "int16" or len(audio) != len(row):
        raise DataError(
            f"{folder / FILES[0]} holds audio {audio.dtype} {list(audio.shape)}, not {len(row)} clips int16"
        )
    clips = torch.from_numpy(audio[[row[name] for name in names], : round(seconds * held)])
    if rate == held:
        return clips.contiguous()
    return as_stored(resample(as_float(clips, "speech"), held, rate), "speech")
