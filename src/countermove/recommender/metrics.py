"""What promotions and defences are measured by. Legend: U users, C cold items."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy import stats
from torch import Tensor

from countermove.recommender.ranking import LENGTHS, Lists, hits_together

COUNTED = LENGTHS[0]
"""Length of the lists that the payoff, the test and the availability count: the papers' top five."""
CLEAN_LENGTH = LENGTHS[-1]
"""Length of the lists that the clean hit rate counts: longer, for one tested item a user is little to count."""


def item_metrics(lists: Lists, before: Tensor, after: Tensor, together: int) -> dict[str, float]:
    """Return hit rates, ranks and their test, from scores [U, C] of cooperative and of promoted pictures.

    Both are put in alone, or both in groups; ranks are always those of an item alone.
    """
    metrics: dict[str, float] = {}
    for length in LENGTHS:
        suffix = "" if length == COUNTED else f"_{length}"
        metrics[f"hr_before{suffix}"] = float(hits_together(lists, before, length, together).double().mean())
        metrics[f"hr_after{suffix}"] = float(hits_together(lists, after, length, together).double().mean())
    rates = [hits_together(lists, scores, COUNTED, together).double().mean(0) for scores in (before, after)]
    metrics |= paired_test((rates[1] - rates[0]).tolist())
    metrics["users_reached"] = float(hits_together(lists, after, COUNTED, together).any(dim=1).double().mean())
    metrics["rank_before"], metrics["rank_after"] = (float(lists.ranks(s).float().median()) for s in (before, after))
    return metrics


def paired_test(differences: Sequence[float]) -> dict[str, float]:
    """Test whether the mean of item-level differences is zero: two-sided paired t-test, effect size, 95 % interval.

    Where all differences are equal the test has no spread to divide by: if they are zero, nothing changed (p = 1);
    else every item changed alike (p = 0). The effect size is Cohen's d of paired differences, 0 where undefined.
    """
    n = len(differences)
    mean = math.fsum(differences) / n
    spread = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (n - 1)) if n > 1 else 0.0
    if spread < 1e-12:
        p = 1.0 if abs(mean) < 1e-12 else 0.0
        return {"p_value": p, "effect_size": 0.0, "hr_change": mean, "hr_change_low": mean, "hr_change_high": mean}
    error = spread / math.sqrt(n)
    p = float(2 * stats.t.sf(abs(mean / error), n - 1))
    half = float(stats.t.ppf(0.975, n - 1)) * error
    return {
        "p_value": p,
        "effect_size": mean / spread,
        "hr_change": mean,
        "hr_change_low": mean - half,
        "hr_change_high": mean + half,
    }


def clean_metrics(lists: Lists) -> dict[str, float]:
    """Return how well the lists place what users really touched next: hit rate and share of won comparisons (AUC).

    A ranker that gives all items one score has learned nothing: a tie is half a win, and no hit.
    """
    rivals = lists.scores.isfinite().sum(1) - 1
    known = lists.has_test & (rivals > 0)
    if not known.any():
        return {"clean_hr": 0.0, "clean_auc": 0.5}
    won = 1 - (lists.before + lists.level / 2)[known] / rivals[known]
    return {
        "clean_hr": float((lists.before + lists.level < CLEAN_LENGTH)[known].double().mean()),
        "clean_auc": float(won.mean()),
    }


def availability(lists: Lists, before: Tensor, after: Tensor, together: int) -> float:
    """Return how the tested items' hit rate changes when the items beside them are promoted; below zero is a loss.

    With several promoted items in a list, all those of a group push at once.
    """
    known = lists.has_test
    if not known.any():
        return 0.0
    rates = [pushed_hits(lists, scores, together)[known].mean() for scores in (before, after)]
    return float(rates[1] - rates[0])


def pushed_hits(lists: Lists, outside: Tensor, together: int) -> Tensor:
    """Return how often each user's tested item stays among the first beside items from outside: float [U]."""
    if together == 1:
        return lists.test_hits(COUNTED, outside).double().mean(1)
    groups = outside.split(together, dim=1)
    stays = [(lists.before + (group > lists.tested[:, None]).sum(1) < COUNTED) & lists.has_test for group in groups]
    return torch.stack(stays).double().mean(0)
