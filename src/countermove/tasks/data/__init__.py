"""The tasks of this arena. Each is a frozen dataclass that is called with the user's data folder."""

from __future__ import annotations

DATA: dict[str, str] = {
    "planted-words": "countermove.tasks.data.planted:PlantedWords",
    "sst-2": "countermove.tasks.data.glue:Sst2",
    "ag-news": "countermove.tasks.data.glue:AgNews",
    "cola": "countermove.tasks.data.glue:Cola",
    "rte": "countermove.tasks.data.glue:Rte",
    "pictures": "countermove.tasks.data.pictures:BundledPictures",
}
