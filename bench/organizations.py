"""Organizations to measure on: one vault key for all, objects as the operator would have written them, and rows in bulk."""

from __future__ import annotations

import asyncio
import base64
import secrets
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from sqlalchemy import insert

from bench.fleet import in_batches
from cmk_keyservice.crypto.ciphertext import XAES_256_GCM
from cmk_keyservice.crypto.context import data_context, data_key_digest, encode
from cmk_keyservice.crypto.edek import seal_edek
from cmk_keyservice.crypto.suites import DataKeyPrimitive, new_material, seal
from cmk_keyservice.crypto.wrapped_payload import pack
from cmk_keyservice.store.rows import Fence, NewDataKey
from cmk_keyservice.store.tables import DATA_KEY
from cmk_keyservice.vaults.accepted import PLATFORM_KEY
from cmk_keyservice.vaults.vaults import PLATFORM_ALGORITHM

if TYPE_CHECKING:
    from collections.abc import Callable

    from cmk_keyservice.crypto.key_ring import KeyRing
    from cmk_keyservice.store.store import Store
    from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity
    from sandbox.kubernetes.cluster import Cluster
    from sandbox.kubernetes.objects import Objects

NAMESPACE = "bench-organizations"
CALLER = "orders"
SERVICE = f"{NAMESPACE}/{CALLER}"
VAULT, KEY = "bench-organizations-kv", "organization"
ALGORITHM = "RSA-OAEP-256"
PLATFORM = "platform"
"""The organization without a key of its own."""
PURPOSE = "orders"


@dataclass
class Organizations:
    """The organizations of a run: `names`, all on one vault key, and `PLATFORM`."""

    cluster: Cluster
    objects: Objects
    provider: ProviderAdministrator
    customer: CustomerAdministrator
    identity: ProviderIdentity
    names: list[str]
    kid: str = ""
    _public: rsa.RSAPublicKey | None = None

    async def prepare(self) -> None:
        """The vault with its key, a caller with its rights, and an accepted object for each organization."""
        await self.customer.consent(self.identity.application_client_id)
        await self.customer.create_vault(VAULT, rbac=False)
        version = (await self.customer.create_key(VAULT, KEY)).rsplit("/", 1)[-1]
        self.kid = f"https://{VAULT}.vault.azure.net/keys/{KEY}/{version}"
        await self.customer.set_access_policy(self.identity.application_client_id, VAULT, permissions=["wrapKey", "unwrapKey"])
        key = (await self.customer.call_vault(VAULT, "GET", f"/keys/{KEY}/{version}"))["key"]
        self._public = rsa.RSAPublicNumbers(_number(key["e"]), _number(key["n"])).public_key()
        await self.objects.create_namespace(NAMESPACE)
        await asyncio.to_thread(self._admit_caller)
        await in_batches([*self.names, PLATFORM], self._apply)

    def token(self) -> str:
        """A token of the caller."""
        return self.cluster.service_account_token(NAMESPACE, CALLER, "cmk-key-service")

    def wrapped(self, payload: bytes) -> bytes:
        """What the vault's key unwraps; its public key is enough to make it."""
        if self._public is None:
            raise RuntimeError("prepare first")
        return self._public.encrypt(payload, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None))

    def _admit_caller(self) -> None:
        kubectl, here = self.cluster.kubectl, ("--namespace", NAMESPACE)
        kubectl("create", "serviceaccount", CALLER, *here)
        kubectl("create", "role", CALLER, *here, "--verb=encrypt,decrypt", "--resource=organizationkeys.cmk-operator.dev/data")
        kubectl("create", "rolebinding", CALLER, *here, f"--role={CALLER}", f"--serviceaccount={NAMESPACE}:{CALLER}")

    async def _apply(self, name: str) -> None:
        await self.objects.apply("OrganizationKey", name, {"organization": {"id": name, "name": name}}, NAMESPACE)
        path = self.objects.path("OrganizationKey", name, NAMESPACE) + "/status"
        body = {"status": {"accepted": self._accepted(name)}}
        await self.objects.call("PATCH", path, body, "application/merge-patch+json")

    def _accepted(self, name: str) -> dict[str, Any]:
        common = {"revision": 1, "since": "2026-11-30T00:00:00Z", "probeIntervalSeconds": 60, "outageGraceSeconds": 600}
        if name == PLATFORM:
            return {**common, "mode": "PlatformManaged", "kid": PLATFORM_KEY}
        canary = secrets.token_bytes(64)
        return {
            **common,
            "mode": "CustomerManaged",
            "kid": self.kid,
            "algorithm": ALGORITHM,
            "canary": {"wrapped": _text(self.wrapped(canary)), "digest": sha256(canary).hexdigest()},
            "access": {
                "method": "Application",
                "cloud": "AzurePublic",
                "tenantId": self.customer.tenant_id,
                "providerTenantId": self.provider.tenant_id,
                "applicationClientId": self.identity.application_client_id,
                "managedIdentityClientId": self.identity.managed_identity_client_id,
                "operatorCredential": "ManagedIdentity",
            },
        }


def rows(
    organization: str, number: int, kid: str, algorithm: str, internal: KeyRing, wrap: Callable[[bytes], bytes]
) -> tuple[list[NewDataKey], list[bytes]]:
    """New rows, each of a purpose of its own, and a ciphertext under each of their data keys."""
    made, ciphertexts = [], []
    for purpose in (f"p{one}" for one in range(number)):
        key = DataKeyPrimitive(uuid4(), XAES_256_GCM, new_material())
        digest = data_key_digest(organization, key.id, SERVICE, purpose, 1, XAES_256_GCM)
        edek = seal_edek(internal, wrap(pack(key.material, digest)), organization, key.id, kid, 1)
        made.append(NewDataKey(key.id, organization, SERVICE, purpose, 1, XAES_256_GCM, kid, algorithm, edek, digest))
        ciphertexts.append(seal(key, b"a short row", data_context(organization, SERVICE, purpose, {})))
    return made, ciphertexts


def platform_rows(number: int, internal: KeyRing, platform: KeyRing) -> tuple[list[NewDataKey], list[bytes]]:
    """The same for `PLATFORM`."""
    bound_to = encode([("context", "platform key"), ("organization", PLATFORM)])
    return rows(
        PLATFORM, number, PLATFORM_KEY, PLATFORM_ALGORITHM, internal, lambda payload: platform.encrypt(payload, bound_to)
    )


async def insert_rows(store: Store, made: list[NewDataKey], fence: Fence | None = None) -> None:
    """Write rows in one statement; with `fence`, also which settings of their organization are in force."""
    if fence is not None:
        await store.observe(made[0].organization, fence, NAMESPACE)
    async with store.transaction(patience=12) as connection:
        await connection.execute(insert(DATA_KEY), [asdict(one) for one in made])


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _number(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
