"""Steps of fine-tuning: all of a BERT against its last layers, against masks, and against LoRA and biases.

Both sides take the same steps on the same made-up tokens with as many threads; what is timed is forward, backward and
AdamW. Where only the last layers are trained, autograd keeps no graph below them. Masks pay for themselves in every
step: they save bytes, not time. The weights are random, which steps do not mind. Run it alone.
"""

from __future__ import annotations

import argparse
import time

import torch

from countermove.finetuning.adaptation import read_adaptation
from countermove.pixels.randomness import generator
from countermove.tasks.fitting import Recipe, Rows, fit
from countermove.tasks.tokens import needs_transformers

CLASSES, LENGTH, BATCH = 4, 64, 32
NEW = ("bert.pooler", "classifier")
WAYS = (
    "critical-layers(last=1)",
    "critical-layers(last=2)",
    "critical-layers(layers=[bert.embeddings.word_embeddings])",
    "mask",
    "mask(embeddings=true)",
    "lora",
    "bitfit",
)


def network(width: int, layers: int) -> torch.nn.Module:
    """Return a BERT with random weights."""
    transformers = needs_transformers()
    config = transformers.BertConfig(
        vocab_size=8192,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        intermediate_size=4 * width,
        max_position_embeddings=128,
        num_labels=CLASSES,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.BertForSequenceClassification(config)


def seconds(way: str, width: int, layers: int, rows: Rows, repeats: int) -> float:
    """Return the shortest time of one epoch over the rows."""
    model = network(width, layers)
    chosen = read_adaptation(way)
    adapting = chosen.begin(model, new=NEW, seed=0)
    recipe = Recipe(epochs=1, batch_size=BATCH)
    fit(model, rows, recipe=recipe, lr=chosen.lr, seed=0)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        fit(model, rows, recipe=recipe, lr=chosen.lr, seed=0)
        times.append(time.perf_counter() - began)
    adapting.finish()
    return min(times)


def main() -> None:
    """Print a line for every way."""
    parser = argparse.ArgumentParser(description="Steps of fine-tuning, one way against another.")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    n = asked.steps * BATCH
    source = generator(0, "tokens")
    tokens = torch.randint(5, 8192, (n, LENGTH), generator=source)
    rows = Rows(tokens=tokens, segments=torch.zeros_like(tokens), labels=torch.arange(n) % CLASSES, pad=0)
    print(f"BERT of {asked.layers} layers, {asked.width} wide, {asked.steps} steps of {BATCH} x {LENGTH} tokens")
    for way in WAYS:
        whole = seconds(
            "full", asked.width, asked.layers, rows, asked.repeats
        )  # beside each, so that both see one machine
        part = seconds(way, asked.width, asked.layers, rows, asked.repeats)
        print(f"{way}: {part:.2f} s against {whole:.2f} s for full fine-tuning, {whole / part:.2f} times as fast")


if __name__ == "__main__":
    main()
