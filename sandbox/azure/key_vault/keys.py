"""Key Vault's operations on keys, for clients over HTTPS and for Azure's own services."""

from __future__ import annotations

import re
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.azure.arm.throttling import Window, retry_after
from sandbox.azure.errors import VaultRefusedError
from sandbox.azure.key_vault import crypto
from sandbox.azure.key_vault.model import DAY, Key, KeyVersion, Vault, new_version_id

if TYPE_CHECKING:
    from sandbox.azure.clock import Clock
    from sandbox.azure.key_vault.access import VaultAccess, VaultCaller
    from sandbox.azure.timings import Timings

# Cost of one software key operation in units of RSA 2048 (https://learn.microsoft.com/azure/key-vault/general/service-limits).
_COST = {2048: 1, 3072: 4, 4096: 8}
HSM_COST = 2
"""Of half of everything that software keys may do is allowed with HSM keys."""
VAULTS_OF_A_SUBSCRIPTION = 5
"""All vaults of a subscription in a region together may do as much as so many of them."""
OUTSIDE_VALIDITY = frozenset({"encrypt", "sign", "wrapKey"})
OF_PUBLIC_KEY = frozenset({"encrypt", "wrapKey", "verify"})
"""What Key Vault goes on doing with a disabled key, as measured in https://github.com/Azure/azure-sdk-for-python/issues/45342."""
_PAST = {
    "wrapKey": "wrap",
    "unwrapKey": "unwrap",
    "encrypt": "encrypt",
    "decrypt": "decrypt",
    "sign": "sign",
    "verify": "verify",
}


class Keys:
    """Look-up, life cycle and use of keys, with Key Vault's own refusals."""

    def __init__(self, access: VaultAccess, clock: Clock, timings: Timings) -> None:
        self._access = access
        self._clock = clock
        self._timings = timings
        self._operations: dict[str, Window] = {}
        self._creations: dict[str, Window] = {}
        self._backups: dict[bytes, tuple[str, Key]] = {}

    def get(self, vault: Vault, caller: VaultCaller, name: str, version: str = "") -> tuple[Key, KeyVersion]:
        """A version, or the latest; a soft-deleted key is not found."""
        self._appeared(vault, name, version)
        self._access.check(vault, caller, "get", name)
        self.throttle(vault, 1)
        key, found = self.find(vault, name, version)
        if not found.enabled and self._timings.get_of_disabled_key_is_refused:
            raise disabled("get")
        return key, found

    @staticmethod
    def find(vault: Vault, name: str, version: str = "") -> tuple[Key, KeyVersion]:
        """Without a check of permissions. Raises VaultRefusedError 404 KeyNotFound."""
        key = vault.keys.get(name.lower())
        found = None
        if key is not None:
            found = key.versions.get(version.lower()) if version else key.latest
        if key is None or found is None:
            raise _not_found(name, version)
        return key, found

    def _appeared(self, vault: Vault, name: str, version: str) -> None:
        """Raises VaultRefusedError 404, whatever the caller may do, while a recovered key has not appeared.

        "we will get ResourceNotFoundError until the resource is recovered, at which point we'll get a 403": azure-keyvault-keys,
        DeleteRecoverPollingMethod.
        """
        key = vault.keys.get(name.lower())
        if key is not None and self._appears(key.recovered, self._timings.recovered_key_appears_seconds):
            raise _not_found(name, version)

    def _appears(self, since: float | None, seconds: float) -> bool:
        """Whether what began at `since` still takes place."""
        return since is not None and self._clock.now() < since + seconds

    def recovered_before(self) -> float:
        """The data plane of a vault that was recovered after this moment does not answer yet."""
        return self._clock.now() - self._timings.recovered_vault_appears_seconds

    def listed(self, vault: Vault) -> list[Key]:
        """The keys that have appeared."""
        seconds = self._timings.recovered_key_appears_seconds
        return [key for key in vault.keys.values() if not self._appears(key.recovered, seconds)]

    def listed_deleted(self, vault: Vault) -> list[Key]:
        """The deleted keys that have appeared."""
        self.forget_expired(vault)
        seconds = self._timings.deleted_key_appears_seconds
        return [key for key in vault.deleted_keys.values() if not self._appears(key.deleted, seconds)]

    def _settled(self, key: Key | None) -> None:
        """Raises VaultRefusedError 409 while a key is being deleted or recovered."""
        if key is None:
            return
        for what, since, seconds in (
            ("Deleted", key.deleted, self._timings.deleted_key_appears_seconds),
            ("Recovered", key.recovered, self._timings.recovered_key_appears_seconds),
        ):
            if self._appears(since, seconds):
                message = f"Key {key.name} is currently being {what.lower()}."
                raise VaultRefusedError(409, "Conflict", message, inner=f"ObjectIsBeing{what}")

    def use(self, vault: Vault, caller: VaultCaller, operation: str, name: str, version: str) -> KeyVersion:
        """The version for a cryptographic operation: permitted, enabled, within its time, and meant for it."""
        self._appeared(vault, name, version)
        self._access.check(vault, caller, operation, name)
        _, found = self.find(vault, name, version)
        self.throttle(vault, _cost(found))
        now = self._clock.now()
        served = operation in OF_PUBLIC_KEY and now < found.updated + self._timings.disabled_key_wraps_seconds
        if not found.enabled and not served:
            raise disabled(_PAST[operation])
        if operation in OUTSIDE_VALIDITY:
            if found.not_before is not None and now < found.not_before:
                # No source names an inner code for these two; clients must judge by the key's attributes.
                raise VaultRefusedError(
                    403, "Forbidden", f"Operation {_PAST[operation]} is not allowed on a key that is not yet valid."
                )
            if found.expires is not None and now >= found.expires:
                raise VaultRefusedError(403, "Forbidden", f"Operation {_PAST[operation]} is not allowed on an expired key.")
        if operation not in found.operations:
            raise VaultRefusedError(
                403, "Forbidden", f"Operation {_PAST[operation]} is not permitted on this key.", inner="KeyOperationForbidden"
            )
        return found

    def wrap(
        self, vault: Vault, caller: VaultCaller, name: str, version: str, algorithm: str, value: bytes
    ) -> tuple[KeyVersion, bytes]:
        """Wrap a symmetric key."""
        found = self.use(vault, caller, "wrapKey", name, version)
        return found, crypto.encrypt(found.private, algorithm, value)

    def unwrap(self, vault: Vault, caller: VaultCaller, name: str, version: str, algorithm: str, value: bytes) -> bytes:
        """Unwrap a symmetric key."""
        found = self.use(vault, caller, "unwrapKey", name, version)
        return crypto.decrypt(found.private, algorithm, value)

    def throttle(self, vault: Vault, units: float) -> None:
        """Raises VaultRefusedError 429 past the limit of ten seconds: of the vault, or of its subscription in the region."""
        self._count(self._operations, vault, self._timings.vault_software_key_operations_per_10_seconds, units)

    def throttle_creation(self, vault: Vault, key_type: str) -> None:
        """The lower limit on making keys."""
        units = HSM_COST if key_type.endswith("-HSM") else 1
        self._count(self._creations, vault, self._timings.vault_software_key_creations_per_10_seconds, units)

    def _count(self, windows: dict[str, Window], vault: Vault, limit: float, units: float) -> None:
        of_all = f"{_subscription(vault)} {vault.location}"
        for name, times in ((vault.host, 1), (of_all, VAULTS_OF_A_SUBSCRIPTION)):
            self._throttled(windows.setdefault(name, Window(10)).take(limit * times, units))

    @staticmethod
    def _throttled(wait: float) -> None:
        if wait:
            raise VaultRefusedError(
                429,
                "Throttled",
                "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached",
                headers={"Retry-After": retry_after(wait)},
            )

    def may_create(self, vault: Vault, name: str) -> None:
        """Raises VaultRefusedError 409 while a deleted key still holds the name."""
        self.forget_expired(vault)
        self._settled(vault.deleted_keys.get(name.lower()) or vault.keys.get(name.lower()))
        if name.lower() in vault.deleted_keys:
            raise VaultRefusedError(
                409,
                "Conflict",
                f"Key {name} is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the key can "
                "only be recovered or purged.",
                inner="ObjectIsDeletedButRecoverable",
            )

    def add_version(self, vault: Vault, name: str, version: KeyVersion) -> Key:
        """A new key, or a new version of one."""
        key = vault.keys.setdefault(name.lower(), Key(name))
        key.versions[version.version] = version
        return key

    def rotated(self, vault: Vault, key: Key, private: rsa.RSAPrivateKey | None) -> KeyVersion:
        """A new version like the latest; its expiry follows the rotation policy."""
        latest = key.latest
        now = self._clock.now()
        if private is None and not isinstance(latest.private, rsa.RSAPrivateKey):
            new_private: object = crypto.new_ec(latest.public_jwk()["crv"])
        else:
            new_private = private
        version = KeyVersion(
            version=new_version_id(),
            key_type=latest.key_type,
            private=new_private,  # type: ignore[arg-type] # one of the two kinds above
            operations=list(latest.operations),
            enabled=True,
            not_before=None,
            expires=self.expiry_by_policy(key),
            created=now,
            updated=now,
            tags=dict(latest.tags),
        )
        self.add_version(vault, key.name, version)
        return version

    def expiry_by_policy(self, key: Key) -> int | None:
        """When a version that is made now expires."""
        duration = ((key.rotation_policy or {}).get("attributes") or {}).get("expiryTime")
        return int(self._clock.now() + duration_seconds(duration)) if duration else None

    def delete(self, vault: Vault, name: str) -> Key:
        """To the recoverable state."""
        key, _ = self.find(vault, name)
        self._settled(key)
        now = self._clock.now()
        key.deleted, key.purge_at = now, now + vault.retention_days * DAY
        vault.deleted_keys[name.lower()] = vault.keys.pop(name.lower())
        return key

    def get_deleted(self, vault: Vault, caller: VaultCaller, name: str) -> Key:
        """A deleted key; while it has not appeared, 404 whatever the caller may do, and 403 for who may not get keys after that."""
        key = vault.deleted_keys.get(name.lower())
        if key is not None and self._appears(key.deleted, self._timings.deleted_key_appears_seconds):
            raise _deleted_not_found(name)
        self._access.check(vault, caller, "get", name)
        return self.deleted(vault, name)

    def deleted(self, vault: Vault, name: str) -> Key:
        """Raises VaultRefusedError 404 if it was purged or never deleted."""
        self.forget_expired(vault)
        key = vault.deleted_keys.get(name.lower())
        if key is None:
            raise _deleted_not_found(name)
        return key

    def recover(self, vault: Vault, name: str) -> Key:
        """Back to life with all versions."""
        key = self.deleted(vault, name)
        self._settled(key)
        key.deleted, key.purge_at, key.recovered = None, None, self._clock.now()
        vault.keys[name.lower()] = vault.deleted_keys.pop(name.lower())
        return key

    def purge(self, vault: Vault, name: str) -> None:
        """For ever; refused under purge protection."""
        self._settled(self.deleted(vault, name))
        if vault.purge_protection:
            raise VaultRefusedError(
                403,
                "Forbidden",
                f'Operation "purge" is not allowed because purge protection is enabled for this vault. Key Vault: {vault.name}.',
                inner="PurgeNotAllowed",
            )
        del vault.deleted_keys[name.lower()]

    def backup(self, vault: Vault, name: str) -> bytes:
        """All versions as they are now, in a form that only Key Vault reads."""
        key, _ = self.find(vault, name)
        blob = secrets.token_bytes(64)
        self._backups[blob] = (_subscription(vault), self._copy(key))
        return blob

    def restore(self, vault: Vault, blob: bytes) -> Key:
        """The key with its name, versions and ids; only within the subscription, and where nothing has the name."""
        subscription, key = self._backups.get(blob, ("", None))
        if key is None or subscription != _subscription(vault):
            raise VaultRefusedError(
                400, "BadParameter", "Backup blob is either corrupt or from another subscription or geography."
            )
        self.may_create(vault, key.name)
        if key.name.lower() in vault.keys:
            raise VaultRefusedError(409, "Conflict", f"Key {key.name} already exists.", inner="KeyAlreadyExists")
        vault.keys[key.name.lower()] = self._copy(key)
        return vault.keys[key.name.lower()]

    @staticmethod
    def _copy(key: Key) -> Key:
        return replace(key, versions={name: replace(one) for name, one in key.versions.items()})

    def forget_expired(self, vault: Vault) -> None:
        """What the retention has ended for."""
        now = self._clock.now()
        for name in [one for one, key in vault.deleted_keys.items() if key.purge_at is not None and key.purge_at <= now]:
            del vault.deleted_keys[name]


def _not_found(name: str, version: str) -> VaultRefusedError:
    shown = f"{name}/{version}" if version else name
    return VaultRefusedError(
        404,
        "KeyNotFound",
        f"A key with (name/id) {shown} was not found in this key vault. If you recently deleted this key you may be able to "
        "recover it using the correct recovery command. For help resolving this issue, please see "
        "https://go.microsoft.com/fwlink/?linkid=2125182",
    )


def _deleted_not_found(name: str) -> VaultRefusedError:
    return VaultRefusedError(404, "KeyNotFound", f"Deleted Key not found: {name}")


def _subscription(vault: Vault) -> str:
    return vault.id.lower().split("/")[2]


def disabled(operation: str) -> VaultRefusedError:
    """The refusal of a disabled key."""
    return VaultRefusedError(403, "Forbidden", f"Operation {operation} is not allowed on a disabled key.", inner="KeyDisabled")


def _cost(version: KeyVersion) -> float:
    times = HSM_COST if version.key_type.endswith("-HSM") else 1
    if isinstance(version.private, rsa.RSAPrivateKey):
        return times * _COST.get(version.private.key_size, 1)
    return times


def checked_rotation_policy(key_id: str, sent: dict[str, Any], now: float) -> dict[str, Any]:
    """The policy as it is kept: no trigger below 7 days, no life below 28. Raises VaultRefusedError 400.

    https://learn.microsoft.com/azure/key-vault/keys/how-to-configure-key-rotation
    """
    actions = [
        {"trigger": one["trigger"], "action": {"type": one["action"]["type"].capitalize()}}
        for one in sent.get("lifetimeActions") or []
    ]
    expiry = (sent.get("attributes") or {}).get("expiryTime")
    kinds = [one["action"]["type"] for one in actions]
    if len(set(kinds)) < len(kinds):
        raise crypto.bad_parameter("A rotation policy has at most one action of each type.")
    for action in actions:
        trigger = action["trigger"]
        if len(trigger) != 1:
            raise crypto.bad_parameter("A trigger is either timeAfterCreate or timeBeforeExpiry.")
        if "timeBeforeExpiry" in trigger and action["action"]["type"] == "Rotate" and not expiry:
            raise crypto.bad_parameter("timeBeforeExpiry needs an expiryTime.")
        if any(duration_seconds(text) < 7 * DAY for text in trigger.values()):
            raise crypto.bad_parameter("The trigger must be at least 7 days.")
    if expiry and duration_seconds(expiry) < 28 * DAY:
        raise crypto.bad_parameter("expiryTime must be at least 28 days.")
    if all(one["action"]["type"] != "Notify" for one in actions):
        # Key Vault adds it (recordings of TestRotateKey).
        actions.append({"trigger": {"timeBeforeExpiry": "P30D"}, "action": {"type": "Notify"}})
    attributes = {"expiryTime": expiry, "created": int(now), "updated": int(now)}
    return {"id": f"{key_id}/rotationpolicy", "lifetimeActions": actions, "attributes": attributes}


def duration_seconds(text: str) -> float:
    """An ISO 8601 duration in years, months or days, as rotation policies carry it. Raises VaultRefusedError 400."""
    match = re.fullmatch(r"P(?=\d)(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,5})D)?", text, re.ASCII)
    if match is None:
        raise crypto.bad_parameter(f"Invalid duration '{text}'")
    years, months, days = (int(one or 0) for one in match.groups())
    return (years * 365 + months * 30 + days) * DAY
