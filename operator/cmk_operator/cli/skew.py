"""Whether the definitions in the cluster fit this version, read beside a command's own requests so that nobody waits for it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cmk_operator import __version__
from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.fields import DOCUMENT, differences, listed
from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.api.preflight import Preflight

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cmk_operator.api.fields import Difference

MODELS: Final = (FederatedIdentity, CustomerTenant, CustomerManagedKey, EncryptedResource, OrganizationKey, Preflight)
"""The kinds that the command line reads."""
_PATIENCE: Final = 5.0
"""Seconds for the description once the command itself has ended."""


@dataclass(slots=True)
class ServedDefinitions:
    """The API server's description of the kinds, asked for once."""

    _asked: subprocess.Popen[str] | None = None

    def ask(self, kubectl: Sequence[str]) -> None:
        """Start to read, if that has not been done; `kubectl` is the program with the options of the connection."""
        if self._asked is None:
            command = [*kubectl, "get", "--raw", DOCUMENT]
            self._asked = subprocess.Popen(  # noqa: S603 - arguments of our own, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
            )

    def answer(self, patience: float | None = None) -> dict[str, Any] | str:
        """The description, or why there is none; may be asked for once."""
        asked, self._asked = self._asked, None
        if asked is None:
            return "nothing was asked"
        try:
            text, error = asked.communicate(timeout=patience)
            document = json.loads(text) if asked.returncode == 0 else None
        except (subprocess.TimeoutExpired, ValueError) as problem:
            text, error, document = "", str(problem), None
        finally:
            if asked.poll() is None:
                asked.kill()
                asked.communicate()
        return document if isinstance(document, dict) else error.strip() or "no description"

    def warnings(self) -> tuple[str, ...]:
        """What to tell the person, if anything was asked and something does not fit."""
        if self._asked is None:
            return ()
        found = self.answer(_PATIENCE)
        return told(differences(found, MODELS)) if not isinstance(found, str) else ()


def told(found: Sequence[Difference]) -> tuple[str, ...]:
    """One sentence if the cluster is older, one if it is newer; each says who does what."""
    older = [one for one in found if one.lacks]
    newer = [one for one in found if one.adds]
    sentences = []
    if older:
        lacking = "; ".join(f"{one} lacks {listed(one.lacks)}" for one in older)
        sentences.append(
            f"the cluster's definitions are older than this kubectl cmk ({__version__}): {lacking}. What they lack is not shown. Use the "
            "kubectl cmk of the operator's release, or let the cluster's administrator upgrade"
        )
    if newer:
        having = "; ".join(f"{one} has {listed(one.adds)}" for one in newer)
        sentences.append(
            f"the cluster's definitions are newer than this kubectl cmk ({__version__}): {having}. What is new is not shown. Install the "
            "kubectl cmk of the operator's release; kubectl cmk version shows which that is"
        )
    return tuple(sentences)


def state_of(model_name: str, document: Mapping[str, Any], difference: Difference | None) -> str:
    """One word for the definition of a kind: Fits, Older, Newer, Different or NotInstalled."""
    schemas = document.get("components", {}).get("schemas", {}).values()
    kinds = {kind.get("kind") for schema in schemas for kind in schema.get("x-kubernetes-group-version-kind", ())}
    if model_name not in kinds:
        return "NotInstalled"
    if difference is None:
        return "Fits"
    if difference.lacks and difference.adds:
        return "Different"
    return "Older" if difference.lacks else "Newer"
