"""What the manifests, as the API server has them, let the operator write to each resource at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.soak.targets import Truth
    from tests.soak.world import Manifest, World


@dataclass(frozen=True, slots=True)
class Permission:
    """To which key a resource may be put (versionless, lower case), to which of its versions (None: any), and whether it may revert."""

    key: str = ""
    versions: frozenset[str] | None = None
    follows_azure: bool = False
    """Whether Azure itself uses the latest version."""
    revert: bool = False

    def covers(self, truth: Truth) -> bool:
        """Whether a resource may be put on that key."""
        if truth.uri is None:
            return self.revert
        return truth.key == self.key and (self.versions is None or truth.version in self.versions)


def permissions_of(world: World) -> dict[str, Permission]:
    """By name of the resource; what is not in it may not be written at all."""
    found = {}
    for manifest in world.manifests.values():
        permission = _permission(world, manifest)
        if permission is not None:
            found[manifest.target.name] = permission
    return found


def _permission(world: World, manifest: Manifest) -> Permission | None:
    key = world.keys[manifest.key]
    if not manifest.there or manifest.mode == "Observe" or not key.there or not world.in_scope:
        return None
    if manifest.deleting:
        return Permission(revert=True) if manifest.policy == "RevertToPlatformKey" else None
    uri = world.vault.uri(manifest.key)
    if key.pin is not None:
        return Permission(uri, frozenset({key.pin}))
    known = world.key_status(manifest.key)
    active = known.status.active_version if known is not None else None
    if key.approval == "Manual" and active is not None:
        return Permission(uri, frozenset({active, key.approved} - {None}))  # type: ignore[arg-type]
    return Permission(uri, follows_azure=key.apply != "Immediately")
