"""From digests to metrics; pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.metrics import families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.core import GaugeMetricFamily

    from cmk_operator.kubernetes.client import ObjectReference
    from cmk_operator.metrics.digests import (
        IdentityDigest,
        KeyDigest,
        OrganizationDigest,
        ResourceDigest,
        TenantDigest,
    )
    from cmk_operator.metrics.families import Family

    Digest = IdentityDigest | TenantDigest | KeyDigest | ResourceDigest | OrganizationDigest


@dataclass(frozen=True, slots=True)
class Objects:
    """The digests of all objects at one moment."""

    identities: Mapping[ObjectReference, IdentityDigest] = field(default_factory=dict)
    tenants: Mapping[ObjectReference, TenantDigest] = field(default_factory=dict)
    keys: Mapping[ObjectReference, KeyDigest] = field(default_factory=dict)
    resources: Mapping[ObjectReference, ResourceDigest] = field(default_factory=dict)
    organizations: Mapping[ObjectReference, OrganizationDigest] = field(default_factory=dict)

    def by_kind(self) -> Iterator[tuple[str, Mapping[ObjectReference, Digest]]]:
        """All of them, by the kind's plural."""
        yield FederatedIdentity.plural, self.identities
        yield CustomerTenant.plural, self.tenants
        yield CustomerManagedKey.plural, self.keys
        yield EncryptedResource.plural, self.resources
        yield OrganizationKey.plural, self.organizations

    def oldest(self, age: Callable[[ObjectReference], float]) -> dict[str, float]:
        """By kind, the age of what is known of the object that is Ready and was not seen for the longest time."""
        ages = {kind: [age(reference) for reference, one in of.items() if one.ready] for kind, of in self.by_kind()}
        return {kind: max(found) for kind, found in ages.items() if found}


def families_of(objects: Objects, now: float, *, each_resource: bool) -> Iterator[GaugeMetricFamily]:
    """All families about objects, at a Unix time; one after the other, so that only one of them is in memory."""
    yield families.OBJECTS_NOT_SEEN.of(
        ((kind,), sum(one.not_seen for one in of.values())) for kind, of in objects.by_kind() if of
    )
    yield from _above_keys(objects)
    yield from _of_keys(objects.keys, now)
    yield from _of_resources(objects.resources)
    yield from _of_organizations(objects.organizations)
    yield from _of_notifications(objects)
    samples = (
        ((reference.namespace, reference.name, digest.kind, digest.key), float(digest.ready))
        for reference, digest in objects.resources.items()
        if each_resource
    )
    yield families.RESOURCE_READY.of(samples)


def _above_keys(objects: Objects) -> Iterator[GaugeMetricFamily]:
    identities, tenants = objects.identities.items(), objects.tenants.items()
    yield families.IDENTITY_READY.of(((reference.name,), float(digest.ready)) for reference, digest in identities)
    yield families.TENANT_READY.of(((reference.name,), float(digest.ready)) for reference, digest in tenants)
    yield families.TENANT_CONSENT.of(((reference.name, digest.consent), 1.0) for reference, digest in tenants)


def _of_keys(keys: Mapping[ObjectReference, KeyDigest], now: float) -> Iterator[GaugeMetricFamily]:
    named = {(reference.namespace, reference.name): digest for reference, digest in keys.items()}
    plain: tuple[tuple[Family, Callable[[KeyDigest], float | None]], ...] = (
        (families.KEY_READY, lambda digest: float(digest.ready)),
        (families.KEY_ACCESS_START, lambda digest: digest.since),
        (families.KEY_CUT_OFF, lambda digest: digest.cut_off),
        (families.KEY_EXPIRATION, lambda digest: digest.expires),
        (families.KEY_USERS_KNOWN, lambda digest: float(digest.users_known)),
        (families.KEY_RESOURCES_WITHOUT_MANIFEST, lambda digest: digest.without_manifest or None),
        (families.KEY_LOST_OLD_VERSIONS, lambda digest: digest.lost_old_versions),
        (
            families.KEY_LOST_SUPERSEDED_VERSIONS,
            lambda digest: sum(version.is_lost_too_early(now) for version in digest.versions) or None,
        ),
    )
    for family, value_of in plain:
        values = ((name, value_of(digest)) for name, digest in named.items())
        yield family.of((name, value) for name, value in values if value is not None)
    yield families.KEY_ACCESS.of(((*name, digest.state), 1.0) for name, digest in named.items())
    yield families.KEY_SERVICE_STOP.of(
        ((*name, service), time) for name, digest in named.items() for service, time in digest.stops
    )
    yield families.KEY_AWAITING_APPROVAL.of((name, 1.0) for name, digest in named.items() if digest.awaits_approval)
    yield families.KEY_PREREQUISITES.of(
        ((*name, result), count) for name, digest in named.items() for result, count in digest.prerequisites
    )
    yield families.KEY_PREREQUISITE_FAILED.of(
        ((*name, prerequisite), 1.0) for name, digest in named.items() for prerequisite in digest.failed
    )
    phases: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for name, digest in named.items():
        for version in digest.versions:
            phases[*name, version.phase(now).value] += 1
    yield families.KEY_VERSIONS.of(phases.items())
    yield families.KEY_SAFE_TO_DISABLE.of(
        ((*name, version.version), version.safe_to_disable_after)
        for name, digest in named.items()
        for version in digest.versions
        if version.safe_to_disable_after is not None
    )


@dataclass(slots=True)
class _Group:
    """The resources of one kind on one key."""

    total: int = 0
    not_ready: int = 0
    not_encrypted: int = 0
    on_old_version: int = 0
    stalled: int = 0
    operations: int = 0
    databases: int = 0
    rotation_errors: int = 0
    not_covered: int = 0
    contested: int = 0
    lag_since: float | None = None
    operation_since: float | None = None

    def add(self, digest: ResourceDigest) -> None:
        """Count one more."""
        self.total += 1
        self.not_ready += not digest.ready
        self.not_encrypted += not digest.encrypted
        self.on_old_version += digest.lag_since is not None
        self.stalled += digest.stalled
        self.operations += digest.operation_since is not None
        self.databases += digest.inaccessible_databases
        self.rotation_errors += digest.rotation_error
        self.not_covered += digest.not_covered
        self.contested += digest.contested
        self.lag_since = _earlier(self.lag_since, digest.lag_since)
        self.operation_since = _earlier(self.operation_since, digest.operation_since)


def _earlier(one: float | None, other: float | None) -> float | None:
    return min((time for time in (one, other) if time is not None), default=None)


def _of_resources(resources: Mapping[ObjectReference, ResourceDigest]) -> Iterator[GaugeMetricFamily]:
    groups: defaultdict[tuple[str, str, str], _Group] = defaultdict(_Group)
    for reference, digest in resources.items():
        groups[reference.namespace, digest.key, digest.kind].add(digest)
    plain: tuple[tuple[Family, Callable[[_Group], float | None]], ...] = (
        (families.RESOURCES, lambda group: group.total),
        (families.RESOURCES_NOT_READY, lambda group: group.not_ready),
        (families.RESOURCES_NOT_ENCRYPTED, lambda group: group.not_encrypted),
        (families.RESOURCES_ON_OLD_VERSION, lambda group: group.on_old_version),
        (families.RESOURCES_STALLED, lambda group: group.stalled),
        (families.LAG_START, lambda group: group.lag_since),
        (families.OPERATIONS, lambda group: group.operations or None),
        (families.OPERATION_START, lambda group: group.operation_since),
    )
    for family, value_of in plain:
        values = ((labels, value_of(group)) for labels, group in groups.items())
        yield family.of((labels, value) for labels, value in values if value is not None)
    rare: tuple[tuple[Family, Callable[[_Group], int]], ...] = (
        (families.INACCESSIBLE_DATABASES, lambda group: group.databases),
        (families.ROTATION_ERRORS, lambda group: group.rotation_errors),
        (families.RESOURCES_NOT_COVERED, lambda group: group.not_covered),
        (families.RESOURCES_CONTESTED, lambda group: group.contested),
    )
    for family, count_of in rare:
        counts: defaultdict[tuple[str, str], int] = defaultdict(int)
        for (namespace, key, _), group in groups.items():
            counts[namespace, key] += count_of(group)
        yield family.of((labels, count) for labels, count in counts.items() if count)


def _of_organizations(organizations: Mapping[ObjectReference, OrganizationDigest]) -> Iterator[GaugeMetricFamily]:
    named = {(reference.namespace, reference.name): digest for reference, digest in organizations.items()}
    yield families.ORGANIZATION_READY.of((name, float(digest.ready)) for name, digest in named.items())
    yield families.ORGANIZATION_CONDITION.of(
        ((*name, *condition), 1.0) for name, digest in named.items() for condition in digest.conditions
    )
    yield families.ORGANIZATION_REVISION.of(
        (name, digest.revision) for name, digest in named.items() if digest.revision is not None
    )
    yield families.ORGANIZATION_DATA_KEYS.of(
        ((*name, where), number) for name, digest in named.items() for where, number in digest.data_keys
    )
    yield families.ORGANIZATION_CREDENTIAL_EXPIRATION.of(
        (name, digest.credential_expires) for name, digest in named.items() if digest.credential_expires is not None
    )


def _of_notifications(objects: Objects) -> Iterator[GaugeMetricFamily]:
    """By tenant: that of a resource is its key's. An object whose key was deleted has no receiver."""
    tenants = {(reference.namespace, reference.name): digest.tenant for reference, digest in objects.keys.items()}
    of_organizations = [(digest.tenant, digest.notifications) for digest in objects.organizations.values()]
    named = dict.fromkeys((*tenants.values(), *(tenant for tenant, _ in of_organizations if tenant is not None)), 0)
    pending, dropped = dict(named), dict(named)
    of_keys = ((digest.tenant, digest.notifications) for digest in objects.keys.values())
    of_resources = (
        (tenants.get((reference.namespace, digest.key)), digest.notifications)
        for reference, digest in objects.resources.items()
    )
    for tenant, counts in (*of_keys, *of_resources, *of_organizations):
        if tenant is not None:
            pending[tenant] += counts.pending
            dropped[tenant] += counts.dropped
    yield families.NOTIFICATIONS_PENDING.of(((tenant,), count) for tenant, count in pending.items())
    yield families.NOTIFICATIONS_DROPPED.of(((tenant,), count) for tenant, count in dropped.items() if count)
