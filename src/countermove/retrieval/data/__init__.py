"""The collections of this arena. Each is a frozen dataclass that is called with the user's data folder."""

from __future__ import annotations

DATA: dict[str, str] = {
    "grocery": "countermove.retrieval.data.grocery:Grocery",
    "landmarks": "countermove.retrieval.data.landmarks:Landmarks",
    "planted-scenes": "countermove.retrieval.data.planted:PlantedScenes",
    "folder": "countermove.retrieval.data.folder:Folder",
    "oxford": "countermove.retrieval.data.buildings:Oxford",
    "paris": "countermove.retrieval.data.buildings:Paris",
}
