"""Made-up scenes whose views are known, for tests and demonstrations without any download."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from countermove.errors import ConfigError
from countermove.retrieval.data.reading import check_least, check_sides
from countermove.retrieval.data.scenes import LUCK, SHAPE, SHAPES, views

if TYPE_CHECKING:
    from countermove.retrieval.collection import Collection

GRAIN = 0.03


@dataclass(frozen=True, kw_only=True)
class PlantedScenes:
    """Drawn scenes: patterned boxes and ellipses on a waved ground, in colours that all scenes share.

    Views of a scene differ in a shift, a turn and a size, in the light's strength, colour and direction, and in pixel
    noise. The first view of each scene is a query, the others are indexed, among distractors that show further scenes
    once. Still other scenes are the public's. Rates on these scenes are not rates on photographs.

    scenes:       how many are searched for.
    views:        of each, with the query.
    distractors:  indexed pictures of scenes that nobody searches for.
    public:       scenes on which backbones may be trained.
    public_views: of each of these.
    side:         pictures are side x side pixels.
    shift:        views are moved by up to this share of half a side.
    turn:         views are turned by up to so many degrees.
    zoom:         views are enlarged or shrunk by up to this share.
    seed:         another seed draws other scenes.
    """

    version: ClassVar[int] = 1
    scenes: int = 16
    views: int = 5
    distractors: int = 64
    public: int = 40
    public_views: int = 8
    side: int = 64
    shift: float = 0.25
    turn: float = 15.0
    zoom: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        check_sides("planted-scenes", side=self.side)
        check_least(
            "planted-scenes",
            scenes=(self.scenes, 1),
            views=(self.views, 2),
            distractors=(self.distractors, 0),
            public=(self.public, 0),
            public_views=(self.public_views, 1),
        )
        if not (0 <= self.shift <= 1 and 0 <= self.turn <= 180 and 0 <= self.zoom < 1):
            raise ConfigError(
                f"planted-scenes: shift = {self.shift:g}, turn = {self.turn:g}, zoom = {self.zoom:g} are refused: "
                "shift is 0 to 1, turn 0 to 180 degrees, zoom 0 to below 1"
            )

    def __call__(self, *, root: Path | None = None) -> Collection:
        """Draw everything; nothing is read."""
        import torch

        from countermove.retrieval.collection import Collection, Wanted

        parts = [("scene", self.scenes, self.views), ("distractor", self.distractors, 1)]
        parts.append(("public", self.public, self.public_views))
        drawn, ids, group = [], [], []
        for kind, count, each in parts:
            for scene in range(count):
                drawn.append(self._draw(kind, scene, each))
                ids += [f"{kind}-{scene:04d}/view-{view:03d}" for view in range(each)]
                group += [(kind, scene, view) for view in range(each)]
        pictures = torch.from_numpy(np.concatenate(drawn)).permute(0, 3, 1, 2).contiguous()
        rows = {kind: [i for i, (of, _, _) in enumerate(group) if of == kind] for kind, _, _ in parts}
        queries = [row for row in rows["scene"] if group[row][2] == 0]
        found = [torch.arange(row + 1, row + self.views) for row in queries]
        return Collection(
            name="planted-scenes",
            pictures=pictures,
            ids=tuple(ids),
            indexed=torch.cat([*found, torch.tensor(rows["distractor"], dtype=torch.int64)]),
            queries=torch.tensor(queries),
            boxes=(None,) * len(queries),
            wanted={"": tuple(Wanted(positive=mine) for mine in found)},
            public=torch.tensor(rows["public"], dtype=torch.int64),
            public_labels=torch.tensor([group[row][1] for row in rows["public"]], dtype=torch.int64),
            public_classes=tuple(f"public-{scene:04d}" for scene in range(self.public)),
        )

    def _draw(self, kind: str, scene: int, count: int) -> np.ndarray:
        """Draw a scene's views: uint8 [count, side, side, 3]. They depend on its number, the seed and the settings."""
        low, high = np.array(list(SHAPE.values())).T
        shapes = low + (high - low) * self._uniform(kind, scene, shape=(SHAPES, len(SHAPE)))
        # Large shapes first, so that none hides all the others.
        shapes = shapes[np.argsort(-shapes[:, list(SHAPE).index("size")])]
        ground = self._uniform(kind, scene, "ground", shape=(6,))
        shares = np.stack([self._uniform(kind, scene, view, shape=(len(LUCK),)) for view in range(count)])
        luck = {
            name: (least + (most - least) * shares[:, i])[:, None, None]
            for i, (name, (least, most)) in enumerate(LUCK.items())
        }
        luck["right"], luck["down"] = self.shift * luck["right"], self.shift * luck["down"]
        luck["roll"] = np.radians(self.turn) * luck["roll"]
        luck["scale"] = (1 + self.zoom) ** luck["scale"]
        drawn = views(shapes, ground, luck, self.side)
        size = (self.side, self.side, 3)
        grain = np.stack([self._uniform(kind, scene, view, "grain", shape=size) for view in range(count)])
        return np.round((drawn + GRAIN * (2 * grain - 1)).clip(0, 1) * 255).astype(np.uint8)

    def _uniform(self, *purpose: str | int, shape: tuple[int, ...]) -> np.ndarray:
        import torch

        from countermove.pixels.randomness import generator

        source = generator(self.seed, "planted-scenes", *purpose)
        return torch.rand(shape, generator=source, dtype=torch.float64).numpy()
