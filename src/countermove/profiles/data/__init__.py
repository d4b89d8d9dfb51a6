"""The profile sets of this arena. Each is a frozen dataclass that is called with the user's data folder."""

from __future__ import annotations

DATA: dict[str, str] = {
    "planted-profiles": "countermove.profiles.data.planted:PlantedProfiles",
    "themes": "countermove.profiles.data.themes:Themes",
    "faces": "countermove.profiles.data.faces:FaceProfiles",
    "posters": "countermove.profiles.data.posters:PosterProfiles",
    "emodb": "countermove.profiles.data.emodb:EmodbProfiles",
    "folder": "countermove.profiles.data.folder:ProfileFolder",
    "csv": "countermove.profiles.data.table:ProfileTable",
    "musk": "countermove.profiles.data.musk:Musk",
    "instances": "countermove.profiles.data.instances:Instances",
}
