"""How Azure Disk Storage uses a customer's key through a disk encryption set, and what happens when it can no longer.

https://learn.microsoft.com/azure/virtual-machines/disk-encryption: a new version is followed within an hour; when the key is
disabled, deleted or expired, machines are shut down and do not boot, and after an hour the disks themselves fail.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sandbox.azure.clock import utc
from sandbox.azure.compute.model import CONFIDENTIAL, DiskKey
from sandbox.azure.errors import ArmRefusedError, EntraRefusedError
from sandbox.azure.key_vault.crypto import new_data_key
from sandbox.azure.key_vault.service_access import Barrier, KeyUnreachableError, ServiceIdentity, rsa_size

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandbox.azure.clock import Clock
    from sandbox.azure.compute.model import Disk, EncryptionSet, Fleet, KeyUrl, SetSettings
    from sandbox.azure.key_vault.model import KeyVersion
    from sandbox.azure.key_vault.service_access import EnteredVault, ServiceAccess
    from sandbox.azure.schedule import Schedule
    from sandbox.azure.timings import Timings

RSA_SIZES = frozenset({2048, 3072, 4096})


class SetProtection:
    """Wraps the disks' data keys under the sets' keys, follows new versions, and notices lost keys."""

    def __init__(self, access: ServiceAccess, fleet: Fleet, schedule: Schedule, clock: Clock, timings: Timings) -> None:
        self._access = access
        self._fleet = fleet
        self._schedule = schedule
        self._clock = clock
        self._timings = timings

    async def _entered(self, encryption_set: EncryptionSet, settings: SetSettings, key: KeyUrl) -> EnteredVault:
        """As the first of the set's identities that Entra lets through."""
        tenant_id, client = encryption_set.tenant_id, settings.federated_client_id
        identities = [
            ServiceIdentity(tenant_id, user_assigned_identity=one, federated_client_id=client)
            for one in settings.identity.user_assigned
        ] or [ServiceIdentity(tenant_id, system_principal=settings.identity.system_principal, federated_client_id=client)]
        failures: list[KeyUnreachableError] = []
        for identity in identities:
            try:
                return await self._access.enter(identity, key.vault_uri)
            except KeyUnreachableError as error:
                failures.append(error)
        raise failures[0]

    @staticmethod
    def _usable(vault: EnteredVault, key: KeyUrl, at: float) -> KeyVersion:
        """The version, enabled and within its time. Raises KeyUnreachableError, ArmRefusedError."""
        version = vault.get(key.name, key.version)
        if not version.enabled:
            raise _not_enabled(key)
        if version.expires is not None and version.expires <= at:
            raise _forbidden(f"Unable to access key '{key.text}'. Key is expired: {utc(version.expires):%Y-%m-%dT%H:%M:%SZ}.")
        if version.not_before is not None and version.not_before > at:
            raise _forbidden(f"Unable to access key '{key.text}'. Key is not yet valid.")
        return version

    async def wrapped(self, encryption_set: EncryptionSet, settings: SetSettings, plain: bytes) -> DiskKey:
        """Wrap a data key and prove that it unwraps. Raises ArmRefusedError with the disk service's codes."""
        key = settings.key
        if key is None:
            raise missing("encryptionSet.activeKey")
        try:
            vault = await self._entered(encryption_set, settings, key)
            self._fit(encryption_set, vault, key)
            secret = vault.wrap(key.name, key.version, plain)
        except KeyUnreachableError as error:
            raise _refusal(error, settings, key) from error
        return DiskKey(secret, key, self._clock.now())

    def _fit(self, encryption_set: EncryptionSet, vault: EnteredVault, key: KeyUrl) -> None:
        version = self._usable(vault, key, self._clock.now())
        if vault.vault.location != encryption_set.location:
            raise ArmRefusedError(
                400,
                "KeyVaultAndDiskInDifferentRegions",
                f"The key vault '{vault.vault.name}' is in region '{vault.vault.location}' and the disk encryption set "
                f"'{encryption_set.name}' is in region '{encryption_set.location}'. They must be in the same region.",
            )
        if "Purgeable" in vault.vault.recovery_level:
            raise ArmRefusedError(
                400,
                "KeyVaultNotPurgeProtectionEnabled",
                f"Key vault '{vault.vault.name}' must have soft delete and purge protection enabled for encryption at rest.",
            )
        if rsa_size(version) not in RSA_SIZES:
            raise invalid("encryptionSet.activeKey.keyUrl", "The key must be an RSA key of 2048, 3072 or 4096 bits.")

    async def proven(self, encryption_set: EncryptionSet, settings: SetSettings) -> None:
        """The set can use its key. A set with only its own new identity is not asked: nobody can have granted it yet."""
        if settings.identity.user_assigned:
            await self.wrapped(encryption_set, settings, new_data_key())

    async def unwrapped(self, disk: Disk, at: float | None = None) -> bytes:
        """Ask the customer's key for the disk's data key. Raises ArmRefusedError."""
        held, owner = disk.key, self._fleet.sets.find(disk.set_id or disk.secure_set_id or "")
        if held is None or owner is None:
            return disk.plain
        moment = self._clock.now() if at is None else at
        try:
            vault = await self._entered(owner, owner.settings, held.key)
            self._usable(vault, held.key, moment)
            plain = vault.unwrap(held.key.name, held.key.version, held.wrapped)
        except KeyUnreachableError as error:
            raise _refusal(error, owner.settings, held.key) from error
        held.verified = moment
        return plain

    async def readable(self, disk: Disk) -> None:
        """The disk's content can be read. Raises ArmRefusedError once the loss of its key is an hour old."""
        try:
            await self.unwrapped(disk)
        except ArmRefusedError:
            if disk.key and self._clock.now() - disk.key.verified >= self._timings.disk_io_failure_seconds:
                raise

    def rotate(self, encryption_set: EncryptionSet, settings: SetSettings, at: float) -> None:
        """Make the settings those of the set; its disks follow a new key in the background, and `previousKeys` says so."""
        old, new = encryption_set.settings.key, settings.key
        encryption_set.settings = settings
        if old is None or new is None or (old.same_key(new) and old.version == new.version):
            return
        encryption_set.rotated = at
        if self._fleet.disks_of(encryption_set):
            encryption_set.previous = (*encryption_set.previous, old)
            confidential = encryption_set.encryption_type == CONFIDENTIAL  # its machines are stopped, so nothing is waited for
            delay = 0 if confidential else self._timings.disk_rotation_seconds
            self._schedule.at(at + delay, lambda _: self._move(encryption_set))

    async def _move(self, encryption_set: EncryptionSet) -> None:
        """Wrap each disk's data key anew; while an old key cannot be used, its disks stay, and it is tried again."""
        if not encryption_set.previous:
            return
        try:
            for disk in self._fleet.disks_of(encryption_set):
                if disk.key is not None and disk.key.key != encryption_set.settings.key:
                    disk.key = await self.wrapped(encryption_set, encryption_set.settings, await self.unwrapped(disk))
        except ArmRefusedError as error:
            encryption_set.rotation_error = {"code": error.code, "message": error.message}
            again = self._clock.now() + max(self._timings.disk_rotation_seconds, 1)
            self._schedule.at(again, lambda _: self._move(encryption_set))
            return
        encryption_set.previous, encryption_set.rotation_error = (), None

    def watch(self, encryption_set: EncryptionSet) -> None:
        """Look for a new version and for the loss of the key, at their intervals, as long as the set exists."""

        def repeated(interval: Callable[[], float], work: Callable[[EncryptionSet, float], Awaitable[None]]) -> None:
            async def do(moment: float) -> None:
                if self._fleet.sets.find(encryption_set.id) is not encryption_set:
                    return
                await work(encryption_set, moment)
                # Nothing changes without a request: when time leaps, only the first and the last look of the leap can differ.
                skipped = int((self._clock.now() - moment) // max(interval(), 1))
                self._schedule.at(moment + max(interval(), 1) * max(skipped, 1), do)

            self._schedule.at(self._clock.now() + max(interval(), 1), do)

        repeated(lambda: self._timings.disk_key_version_check_seconds, self._follow)
        repeated(lambda: self._timings.disk_loss_notice_seconds, self._notice)

    async def _notice(self, encryption_set: EncryptionSet, moment: float) -> None:
        """Shut down the machines whose disks' keys are lost; a throttled vault is no loss."""
        for disk in self._fleet.disks_of(encryption_set):
            machine = self._fleet.machine_of(disk)
            try:
                await self.unwrapped(disk, moment)
            except ArmRefusedError as error:
                if error.status != 429 and machine is not None and machine.power == "running":
                    machine.power = "stopped"

    async def _follow(self, encryption_set: EncryptionSet, moment: float) -> None:
        settings = encryption_set.settings
        key = settings.key
        if encryption_set.encryption_type == CONFIDENTIAL:
            return  # "Automatic key rotation isn't currently supported for confidential VMs."
        if key is None or not settings.auto or encryption_set.previous or encryption_set.state in {"Creating", "Updating"}:
            return
        try:
            vault = await self._entered(encryption_set, settings, key)
            latest = key.at(vault.get(key.name, as_of=moment).version)
            self._usable(vault, latest, moment)
        except KeyUnreachableError as error:
            refusal = _refusal(error, settings, key)
        except ArmRefusedError as error:
            refusal = error
        else:
            encryption_set.rotation_error = None
            if latest.version != key.version:
                self.rotate(encryption_set, replace(settings, key=latest), moment)
            return
        if refusal.status != 429:
            encryption_set.rotation_error = _rotation_error(encryption_set, refusal)


def _rotation_error(encryption_set: EncryptionSet, refusal: ArmRefusedError) -> dict[str, str]:
    """What a set tells of a rotation that it gave up; the words of a lost identity are those of the REST examples."""
    if refusal.code == "ManagedServiceIdentityNotFound":
        message = (
            f"Auto-key rotation was disabled as managed service identity associated with DiskEncryptionSet '{encryption_set.name}' was not "
            "found. Please update the resource with correct identity to re-enable auto-key rotation."
        )
        return {"code": refusal.code, "message": message}
    return {"code": refusal.code, "message": refusal.message}


def invalid(parameter: str, reason: str) -> ArmRefusedError:
    """Compute's 400 for a value it does not take."""
    message = f"The value of parameter {parameter} is invalid. {reason}"
    return ArmRefusedError(400, "InvalidParameter", message, target=parameter)


def missing(parameter: str) -> ArmRefusedError:
    """Compute's 400 for a value it needs."""
    message = f"Required parameter '{parameter}' is missing (null)."
    return ArmRefusedError(400, "InvalidParameter", message, target=parameter)


def _forbidden(message: str) -> ArmRefusedError:
    return ArmRefusedError(400, "KeyVaultAccessForbidden", message)


def _not_enabled(key: KeyUrl) -> ArmRefusedError:
    return ArmRefusedError(
        400,
        "KeyVaultKeyNotEnabled",
        f"The key vault key used for disk encryption set is not in enabled state. Key: '{key.text}'.",
    )


def _refusal(error: KeyUnreachableError, settings: SetSettings, key: KeyUrl) -> ArmRefusedError:
    """How the disk service says that it could not use the key."""
    cause = error.cause
    identities = settings.identity.user_assigned
    who = f"user-assigned identity '{identities[0]}'" if identities else "the identity of the disk encryption set"
    if error.throttled:
        return ArmRefusedError(429, "TooManyRequests", "The key vault is throttling requests.", headers={"Retry-After": "10"})
    if error.barrier is Barrier.IDENTITY:
        return ArmRefusedError(400, "ManagedServiceIdentityNotFound", f"Managed service identity not found: {who}.")
    if error.barrier is Barrier.VAULT:
        return ArmRefusedError(400, "KeyVaultNotFound", f"Key vault '{key.vault}' was not found.")
    if isinstance(cause, EntraRefusedError):
        return _forbidden(f"Unable to access key vault resource '{key.text}' to enable encryption at rest: {cause.description}")
    if cause is not None and cause.status == 404:
        return ArmRefusedError(400, "KeyVaultKeyNotFound", f"The key vault key '{key.text}' was not found.")
    if getattr(cause, "inner", None) == "KeyDisabled":
        return _not_enabled(key)
    return _forbidden(
        f"Unable to access key vault resource '{key.text}' to enable encryption at rest. Please grant get, wrap and unwrap key "
        f"permissions to {who}. Please visit https://aka.ms/keyvaultaccessssecmk for more information."
    )
