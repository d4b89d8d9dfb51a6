"""How close fine-tuning stays to where it began: by layer, by task, by how long it goes on, beside unrelated networks.

All of a small BERT learns AG News and SST-2, three seeds each; printed are the angle of every layer to the pre-trained
one, the angle between two networks of its kind that were drawn at random, whether the two claims of the abstract hold
(Radiya-Dixit and Wang 2020, arXiv:2004.14129), and how angle and accuracy grow with the number of steps.

``python tools/closeness_by_layer.py [ROWS]``: 4,000 training texts by default, two epochs, one thread.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from countermove.finetuning.closeness import angle, layer_distances
from countermove.nets.parts import seeded
from countermove.pixels.randomness import generator
from countermove.tasks.data.glue import AgNews, Sst2
from countermove.tasks.fitting import Recipe, answers, encoded, fit
from countermove.tasks.model import build_reader
from countermove.tasks.models.small_bert import SmallBert
from countermove.tasks.task import TextTask
from countermove.tasks.tokens import needs_transformers

SEEDS = (0, 1, 2)
CLOSE, DIFFERS = 0.5, 2.0  # of the angle of unrelated networks; of the largest layer's angle to the smallest's


def main() -> None:
    """Fine-tune, measure and print."""
    torch.set_num_threads(1)
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    base = SmallBert(epochs=1).folder()
    tasks = {"AG News": AgNews(rows=rows)(), "SST-2": Sst2(rows=rows)()}
    print(f"{rows} training texts, two epochs of AdamW; small-bert(epochs=1); angles in parts of a half turn\n")
    origin, unrelated = pretrained(base), by_layer(drawn(base, 0), drawn(base, 1))
    found = {
        name: [by_layer(origin, tuned(base, task, seed=seed, epochs=2)[0]) for seed in SEEDS]
        for name, task in tasks.items()
    }
    print("| layer | " + " | ".join(f"{name} | each seed" for name in found) + " | two drawn at random |")
    print("|---" * (2 * len(found) + 2) + "|")
    for layer, apart in unrelated.items():
        cells = [
            cell
            for runs in found.values()
            for cell in (f"{fmean(run[layer] for run in runs):.4f}", ", ".join(f"{run[layer]:.4f}" for run in runs))
        ]
        print(f"| {layer} | " + " | ".join(cells) + f" | {apart:.3f} |")
    print()
    for name, runs in found.items():
        mean = {layer: fmean(run[layer] for run in runs) for layer in unrelated}
        drawn_layers = [layer for layer, apart in unrelated.items() if apart > 0]  # not the normalisations' constants
        close = max(mean[layer] / unrelated[layer] for layer in drawn_layers)
        ratio = max(mean.values()) / min(mean.values())
        most = sorted({max(run, key=run.__getitem__) for run in runs})
        print(
            f"- {name}: closer than unrelated networks in every layer that is drawn, at most {CLOSE:g} of their angle: "
            f"{close:.2f} "
            f"({'holds' if close <= CLOSE else 'does not hold'}); closeness differs by layer, the farthest at least "
            f"{DIFFERS:g} times the nearest: {ratio:.1f} ({'holds' if ratio >= DIFFERS else 'does not hold'}); the "
            f"farthest of each seed: {', '.join(most)}"
        )
    numbers = sum(tensor.numel() for tensor in origin.values())
    print(f"\nSteps beside {numbers:,} parameters (AG News, seed 0; batches of 32, the rate falls to zero):\n")
    print(
        "| texts | epochs | steps | steps a million parameters | accuracy | angle of the whole network |\n"
        + "|---" * 6
        + "|"
    )
    for part, epochs in ((8, 1), (4, 1), (2, 1), (1, 1), (1, 2), (1, 4)):
        task = AgNews(rows=rows // part)()
        state, accuracy = tuned(base, task, seed=0, epochs=epochs)
        steps = epochs * -(-(rows // part) // Recipe().batch_size)
        turned = angle(*(torch.cat([weights[name].flatten() for name in origin]) for weights in (origin, state)))
        print(
            f"| {rows // part} | {epochs} | {steps} | {steps * 1e6 / numbers:.0f} | {accuracy:.3f} | {turned:.4f} |",
            flush=True,
        )


def by_layer(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the angle of every layer that both have."""
    return {layer.name: layer.angle for layer in layer_distances(one, other)}


def tuned(base: Path, task: TextTask, *, seed: int, epochs: int) -> tuple[dict[str, Tensor], float]:
    """Fine-tune all of the network; return its body's weights and its accuracy on the test texts."""
    reader = build_reader(base, len(task.classes), source=generator(seed, "output layer"))
    train, test = (encoded(reader, texts, length=task.length) for texts in (task.train, task.test))
    _ = fit(reader.network, train, recipe=Recipe(epochs=epochs), lr=SmallBert.full_lr, seed=seed)
    right = float((answers(reader.network, test) == test.labels).float().mean())
    return body(reader.network, reader.new), right


def pretrained(base: Path) -> dict[str, Tensor]:
    """Return the weights of the body as they were published."""
    reader = build_reader(base, 2, source=generator(0, "output layer"))
    return body(reader.network, reader.new)


def drawn(base: Path, seed: int) -> dict[str, Tensor]:
    """Return the body of a network of the same kind that nobody trained."""
    transformers = needs_transformers()
    config = transformers.AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    known = pretrained(base)
    with seeded(generator(seed, "drawn at random")):
        network = transformers.AutoModelForSequenceClassification.from_config(config)
    return {name: tensor for name, tensor in body(network, ()).items() if name in known}


def body(network: torch.nn.Module, new: tuple[str, ...]) -> dict[str, Tensor]:
    """Return copies of all floating-point weights but those of the output layer."""
    return {
        name: tensor.detach().clone()
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point() and name.rpartition(".")[0] not in new
    }


if __name__ == "__main__":
    os.environ.setdefault("COUNTERMOVE_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    main()
