"""What the operator has accepted for an organization, as this service reads it: `status.accepted` and `status.earlier`.

The operator tests settings before it accepts them, so nothing here reads `spec`, except for the organization's id, which never
changes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cmk_operator.azure.credentials import IdentityChain
from cmk_operator.core.identifiers.cloud import CLOUDS, CloudName
from cmk_operator.core.identifiers.key_uri import KeyUri, key_uri_or_none

PLATFORM_KEY: Final = "platform-key"
"""The `kid` of data keys that the platform's own key ring wraps, for organizations without a key of their own."""
LONGEST_ID: Final = 63
DEFAULT_PROBE_INTERVAL: Final = 60.0
DEFAULT_OUTAGE_GRACE: Final = 600.0


@dataclass(frozen=True, slots=True)
class Canary:
    """64 random bytes that the operator wrapped under the key when it accepted it; the digest is of the 64 bytes."""

    wrapped: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class ApplicationAccess:
    """Access by the platform's multitenant application in the organization's tenant."""

    chain: IdentityChain
    tenant_id: str


@dataclass(frozen=True, slots=True)
class CredentialReference:
    """One credential of a registration: a key of a Secret in the OrganizationKey's namespace."""

    secret: str
    key: str
    certificate: bool
    """A PEM with certificate and private key; else a client secret."""


@dataclass(frozen=True, slots=True)
class RegistrationAccess:
    """Access by the organization's own registration in its tenant; two credentials overlap while one is renewed."""

    cloud: CloudName
    tenant_id: str
    client_id: str
    credentials: tuple[CredentialReference, ...]


Access = ApplicationAccess | RegistrationAccess


@dataclass(frozen=True, slots=True)
class Accepted:
    """One accepted configuration. `kid` names a key version; `access` and `canary` are None for the platform's key."""

    revision: int
    kid: str
    algorithm: str
    access: Access | None = None
    canary: Canary | None = None
    probe_interval: float = DEFAULT_PROBE_INTERVAL
    """Seconds between two looks at the key."""
    outage_grace: float = DEFAULT_OUTAGE_GRACE
    """Seconds after the last success for which data keys are served while nobody can be asked."""
    encrypts: bool = True
    """Whether new data may be encrypted; False for an organization that is view-only. It may always be decrypted."""
    until: str = ""
    """When it was replaced, in RFC 3339; empty for the one in force."""

    @property
    def by_platform(self) -> bool:
        """Whether the platform's key ring wraps, and no vault."""
        return self.kid == PLATFORM_KEY

    @property
    def key(self) -> KeyUri | None:
        """The key version; None for the platform's key."""
        return key_uri_or_none(self.kid)


@dataclass(frozen=True, slots=True)
class Organization:
    """One organization as its OrganizationKey says. `accepted` is None until the operator has accepted a first configuration."""

    id: str
    uid: str
    namespace: str
    name: str
    resource_version: int = 0
    created: str = ""
    accepted: Accepted | None = None
    earlier: tuple[Accepted, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """`status.accepted` as it was read, to keep for older data keys."""
    reported: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """`status.dataKeys` as it was read: what some replica last said."""

    def accepted_for(self, kid: str) -> Accepted | None:
        """The newest configuration with this key version, the one in force first; None if the status names none."""
        known = ((self.accepted,) if self.accepted is not None else ()) + self.earlier
        return next((one for one in known if one.kid == kid), None)


def read_organization(body: Mapping[str, Any]) -> Organization | None:
    """Read an OrganizationKey; None if it names no organization. What cannot be read of its status counts as not accepted."""
    metadata, spec, status = (_mapping(body.get(name)) for name in ("metadata", "spec", "status"))
    organization_id = _mapping(spec.get("organization")).get("id")
    if not isinstance(organization_id, str) or not 0 < len(organization_id) <= LONGEST_ID:
        return None
    version = str(metadata.get("resourceVersion", "0"))
    raw = _mapping(status.get("accepted"))
    earlier = status.get("earlier")
    return Organization(
        id=organization_id,
        uid=str(metadata.get("uid", "")),
        namespace=str(metadata.get("namespace", "")),
        name=str(metadata.get("name", "")),
        resource_version=int(version) if version.isdecimal() else 0,
        created=str(metadata.get("creationTimestamp", "")),
        accepted=read_accepted(raw),
        earlier=tuple(
            found
            for one in (earlier if isinstance(earlier, list) else ())
            if (found := read_accepted(_mapping(one))) is not None
        ),
        raw=raw,
        reported=_mapping(status.get("dataKeys")),
    )


def read_accepted(status: Mapping[str, Any]) -> Accepted | None:
    """Read one accepted configuration; None if a part that is needed to unwrap is missing or of another form."""
    revision, kid = status.get("revision"), status.get("kid")
    if not isinstance(revision, int) or isinstance(revision, bool) or revision < 1 or not isinstance(kid, str):
        return None
    until, encrypts = str(status.get("until", "")), status.get("encrypt") != "Refused"
    if kid == PLATFORM_KEY:
        return Accepted(revision, PLATFORM_KEY, "", encrypts=encrypts, until=until)
    key = key_uri_or_none(kid)
    access, algorithm = read_access(_mapping(status.get("access"))), status.get("algorithm")
    if key is None or key.version is None or access is None or not isinstance(algorithm, str) or not algorithm:
        return None
    return Accepted(
        revision,
        kid,
        algorithm,
        access,
        _canary(_mapping(status.get("canary"))),
        _seconds(status.get("probeIntervalSeconds"), DEFAULT_PROBE_INTERVAL, least=1.0),
        _seconds(status.get("outageGraceSeconds"), DEFAULT_OUTAGE_GRACE, least=0.0),
        encrypts,
        until,
    )


def read_access(access: Mapping[str, Any]) -> Access | None:
    """Read by whom the key is used; None if a part is missing."""
    cloud = access.get("cloud")
    tenant = access.get("tenantId")
    if cloud not in set(CloudName) or not isinstance(tenant, str) or not tenant:
        return None
    if access.get("method") == "Application":
        provider, application = access.get("providerTenantId"), access.get("applicationClientId")
        identity = access.get("managedIdentityClientId")
        if not isinstance(provider, str) or not isinstance(application, str) or not isinstance(identity, str):
            return None
        by_service_account = access.get("operatorCredential") == "ServiceAccount"
        endpoints = CLOUDS[CloudName(cloud)]
        chain = IdentityChain(endpoints, provider, identity, application, by_service_account=by_service_account)
        return ApplicationAccess(chain, tenant)
    client, listed = access.get("clientId"), access.get("credentials")
    if access.get("method") != "Registration" or not isinstance(client, str) or not isinstance(listed, list):
        return None
    credentials = tuple(
        CredentialReference(str(one["secret"]), str(one["key"]), one.get("type") == "Certificate")
        for one in map(_mapping, listed)
        if one.get("secret") and one.get("key")
    )
    return RegistrationAccess(CloudName(cloud), tenant, client, credentials) if credentials else None


def _canary(canary: Mapping[str, Any]) -> Canary | None:
    wrapped, digest = canary.get("wrapped"), canary.get("digest")
    if not isinstance(wrapped, str) or not isinstance(digest, str):
        return None
    try:
        padded = wrapped + "=" * (-len(wrapped) % 4)
        return Canary(base64.b64decode(padded, altchars=b"-_", validate=True), bytes.fromhex(digest))
    except (ValueError, binascii.Error):
        return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _seconds(value: object, default: float, *, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    return max(least, float(value))
