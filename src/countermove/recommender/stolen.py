"""A ranker of the mover's own, fitted on nothing but the lists that the target returns (model extraction)."""

from __future__ import annotations

from dataclasses import replace

import torch

from countermove.recommender.extractor import item_table
from countermove.recommender.fitting import Material
from countermove.recommender.promotion import PromotionContext
from countermove.recommender.ranker import Ranker
from countermove.recommender.visual_bpr import Settings, fit_visual_bpr

SETTINGS = Settings(factors=16, visual=32, epochs=20, lr=0.005, reg=0.001, batch_size=1024)


def ranker_from_lists(target: Ranker, context: PromotionContext, *, length: int) -> Ranker:
    """Fit a VBPR on the first `length` items that the target recommends every user, with the target's own features.

    Neither who bought what nor what users look for is read from the target: its answers are all that is used.
    """
    shop = context.shop
    rows = []
    for user in range(target.users):
        listed = target.recommend(user, shop, length)
        listed = listed[~shop.is_cold[listed]]
        rows.append(torch.stack([torch.full_like(listed, user), listed], dim=1))
    pairs = torch.cat(rows)
    order = (pairs[:, 0] * len(shop.items) + pairs[:, 1]).argsort()
    nothing = torch.full((len(shop.users),), -1)
    seen = replace(shop, train=pairs[order], validation=nothing, test=nothing)
    table = item_table(target.network, shop, device=context.device)
    material = Material(shop=seen, seed=context.seed, network=target.network, table=table, device=context.device)
    fitted = fit_visual_bpr(material, SETTINGS)
    context.meter.samples += fitted.samples
    return fitted.ranker
