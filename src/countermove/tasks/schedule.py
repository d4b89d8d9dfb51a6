"""AdamW's learning rate over time."""

from __future__ import annotations


def linear_schedule(step: int, steps: int, warmup: float) -> float:
    """Return the factor on the learning rate: up in a line over a share of all steps, then down to zero in one."""
    rising = warmup * steps
    return (step + 1) / (rising + 1) if step < rising else (steps - step) / max(1.0, steps - rising)
