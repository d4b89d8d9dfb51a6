"""Write the software bill of materials: the pinned packages that an installation brings, as CycloneDX 1.5 JSON.

``python tools/make_sbom.py`` reads requirements/run.txt and writes docs/sbom.json. The same pins give the same bytes:
there is no time and no random serial number in it.
"""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PINS = ROOT / "requirements" / "run.txt"
OUT = ROOT / "docs" / "sbom.json"

_PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^ ;\\\s]+)(?:\s*;\s*(?P<where>[^\\]+))?")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def components(pins: str) -> list[dict[str, Any]]:
    """Return one component a pinned package, sorted by name.

    Raises:
        ValueError: when a line is neither a pin nor a hash of one, or a pin has no hash.
    """
    found: list[dict[str, Any]] = []
    for line in pins.splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        hashes = _HASH.findall(text)
        pin = _PIN.match(text)
        if pin:
            found.append(_component(pin["name"], pin["version"], (pin["where"] or "").strip()))
        elif not hashes:
            raise ValueError(f"{text!r} is neither a pinned package nor a hash")
        found[-1]["_hashes"] += hashes
    for part in found:
        hashes = sorted(part.pop("_hashes"))
        if not hashes:
            raise ValueError(f"{part['name']} has no hash")
        # Those of all files of the release, a source archive and wheels: an installation takes one of them.
        part["properties"] += [{"name": "countermove:sha256", "value": value} for value in hashes]
    return sorted(found, key=lambda part: part["name"])


def _component(name: str, version: str, where: str) -> dict[str, Any]:
    plain = re.sub(r"[-_.]+", "-", name).lower()
    purl = f"pkg:pypi/{plain}@{version}"
    only = [{"name": "countermove:only-where", "value": where}] if where else []
    return {
        "type": "library",
        "bom-ref": purl,
        "name": plain,
        "version": version,
        "purl": purl,
        "scope": "optional" if where else "required",
        "properties": only,
        "_hashes": [],
    }


def render() -> str:
    """Return the bill as it should stand in docs/sbom.json."""
    text = PINS.read_text(encoding="utf-8")
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, text)}",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": "countermove", "name": "countermove"}},
        "components": components(text),
    }
    return json.dumps(bill, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write docs/sbom.json."""
    OUT.write_text(render(), encoding="utf-8")
    print(f"{OUT.relative_to(ROOT)}: {len(json.loads(render())['components'])} packages")


if __name__ == "__main__":
    main()
