"""The list of what the installed command consists of: CycloneDX 1.6 in JSON, made from the locks alone.

It lies beside the wheel of a release, not inside: the wheel holds sheepfold's own code, and the list is about what is
installed with it. The same locks and ``SOURCE_DATE_EPOCH`` give the same bytes.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import sheepfold
from tools.supply_chain.locks import LOCKS, LockedPackage, packages

#: What everybody needs, and the same with the `lab` extra.
NEEDED, WITH_EXTRAS = "requirements.lock", "requirements-lab.lock"


def bill(locked: Sequence[LockedPackage], needed: Iterable[str], *, made_at_s: float) -> dict[str, Any]:
    """The list as JSON's values; ``needed`` are the names of what is no extra."""
    names = frozenset(needed)
    root = f"pkg:pypi/sheepfold@{sheepfold.__version__}"
    links: dict[str, list[str]] = {root: []} | {_purl(package): [] for package in locked}
    purls: dict[str, list[str]] = {"sheepfold": [root]}
    for package in locked:
        purls.setdefault(package.name, []).append(_purl(package))
    for package in locked:
        for dependent in (purl for name in package.wanted_by for purl in purls.get(name, [])):
            links[dependent].append(_purl(package))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(links)).urn,
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(made_at_s)),
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": "sheepfold",
                "version": sheepfold.__version__,
                "purl": root,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            },
        },
        "components": [_component(package, package.name in names) for package in locked],
        "dependencies": [{"ref": ref, "dependsOn": sorted(wanted)} for ref, wanted in sorted(links.items())],
    }


def _purl(package: LockedPackage) -> str:
    return f"pkg:pypi/{package.name}@{package.version}"


def _component(package: LockedPackage, needed: bool) -> dict[str, Any]:
    purl = _purl(package)
    scope = "required" if needed else "optional"
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": package.name,
        "version": package.version,
        "purl": purl,
        # What nobody needs while it runs builds the package.
        "scope": scope if package.wanted_by else "excluded",
        "externalReferences": [
            {
                "type": "distribution",
                "url": purl,
                "comment": "one sum for each file of the release",
                "hashes": [{"alg": "SHA-256", "content": content} for content in package.hashes],
            }
        ],
    }
    if package.marker:
        component["properties"] = [{"name": "python:marker", "value": package.marker}]
    return component


def invalid(text: str) -> str:
    """Why the text is no CycloneDX 1.6; empty when it is. For the environment of `make sbom` alone."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    return "" if error is None else str(error)


def main(arguments: Sequence[str]) -> int:
    """``python -m tools.supply_chain.sbom FILE`` writes it; exit code 1: it would have been invalid."""
    file = Path(arguments[0])
    every, needed = ((LOCKS / name).read_text(encoding="utf-8") for name in (WITH_EXTRAS, NEEDED))
    made_at_s = float(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    content = bill([*packages(every)], (package.name for package in packages(needed)), made_at_s=made_at_s)
    text = json.dumps(content, indent=1) + "\n"
    if error := invalid(text):
        print(f"sbom: {error}", file=sys.stderr)
        return 1
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
