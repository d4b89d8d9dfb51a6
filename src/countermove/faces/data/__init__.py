"""The face sets of this arena. Each is a frozen dataclass that is called with the user's data folder."""

from __future__ import annotations

DATA: dict[str, str] = {
    "lfw": "countermove.faces.data.lfw:LfwFaces",
    "planted-faces": "countermove.faces.data.planted:PlantedFaces",
    "identities": "countermove.faces.data.identities:IdentityFolders",
}
