"""The manifest by which krew, kubectl's installer of plugins, installs `kubectl cmk`, each archive by its hash.

krew links a plugin as `NAME.exe` on Windows, which cannot be a script, so Windows is not in it. Source: krew, "Writing Your
Plugin Manifest", and `internal/installation/install.go`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from release.one_file import Platform
    from release.version import Version


def manifest(version: Version, archives: Mapping[Platform, tuple[str, bytes]], url: str) -> str:
    """The manifest of a version; `url` is the folder that serves the archives, empty if they are handed over as files."""
    body = {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "cmk"},
        "spec": {
            "version": f"v{version}",
            "shortDescription": "Show customer-managed keys, what stops when, and who must act",
            "description": (
                "Reads the custom resources of cmk-operator: the state of every tenant, key and encrypted resource, which "
                "key versions may be disabled, and what a customer has to do.\n"
            ),
            "caveats": "Needs Python 3.11 to 3.14 as python3 on the PATH.\n",
            "platforms": [
                {
                    "selector": {"matchLabels": {"os": platform.system, "arch": platform.processor}},
                    "uri": f"{url.rstrip('/')}/{name}" if url else name,
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "bin": "kubectl-cmk",
                }
                for platform, (name, content) in archives.items()
                if platform.system != "windows"
            ],
        },
    }
    return yaml.safe_dump(body, sort_keys=False, width=120)
