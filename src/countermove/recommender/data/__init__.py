"""The shops of this arena. Each is a frozen dataclass that is called with the user's data folder."""

from __future__ import annotations

DATA: dict[str, str] = {
    "movielens-posters": "countermove.recommender.data.movielens:MovielensPosters",
    "planted": "countermove.recommender.data.planted:Planted",
    "shop": "countermove.recommender.data.files:ShopFiles",
    "amazon-men": "countermove.recommender.data.published:AmazonMen",
    "tradesy": "countermove.recommender.data.published:Tradesy",
}
