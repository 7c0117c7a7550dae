"""A small copy of every custom resource, from the watches and lists, with an index of references between them.

Bodies are kept as compact JSON and parsed on use: 5,000 parsed objects would take more memory than everything else together.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.api.preflight import Preflight
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.key_uri import KeyUri, key_uri_or_none
from cmk_operator.core.identifiers.resource_id import limit_of, resource_type_of
from cmk_operator.kubernetes.bounded_answer import KEPT_METADATA, kept_annotations, kept_finalizers
from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.providers.registry import OWN_IDENTIFIERS, named_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cmk_operator.core.identifiers.resource_id import ResourceId

ResourceT = TypeVar("ResourceT", FederatedIdentity, CustomerTenant, CustomerManagedKey, EncryptedResource, OrganizationKey)
CustomResource = FederatedIdentity | CustomerTenant | CustomerManagedKey | EncryptedResource | OrganizationKey

MODELS: Final[Mapping[str, type[CustomResource]]] = {
    model.plural: model for model in (FederatedIdentity, CustomerTenant, CustomerManagedKey, EncryptedResource, OrganizationKey)
}
WATCHED: Final = (*MODELS, Preflight.plural)
"""The kinds that are reconciled with Azure, and Preflight, which the inventory does not hold."""

_ABOVE: Final[Mapping[str, str]] = MappingProxyType(
    {"key": CustomerManagedKey.plural, "tenant": CustomerTenant.plural, "identity": FederatedIdentity.plural}
)
"""Relations that lead from an object towards its identity, with the plural of what they lead to."""

_RESTS_ON: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        FederatedIdentity.plural: frozenset(),
        CustomerTenant.plural: frozenset({FederatedIdentity.plural}),
        CustomerManagedKey.plural: frozenset({FederatedIdentity.plural, CustomerTenant.plural, EncryptedResource.plural}),
        EncryptedResource.plural: frozenset({FederatedIdentity.plural, CustomerTenant.plural, CustomerManagedKey.plural}),
        OrganizationKey.plural: frozenset({FederatedIdentity.plural, CustomerTenant.plural}),
        Preflight.plural: frozenset(MODELS),
    }
)
"""Without which kinds nothing true can be said of an object: what it refers to, and for a key what uses it."""


def rests_on(plural: str) -> frozenset[str]:
    """The kinds that must be known before anything is said or done about an object of a kind."""
    return _RESTS_ON[plural]


@dataclass(frozen=True, slots=True)
class _Entry:
    uid: str
    resource_version: int
    trigger: tuple[int, bool, tuple[tuple[str, str], ...], tuple[str, ...], str]
    """Generation, deletion, annotations that request something, finalizers, and what the key service reports of an
    OrganizationKey. Only a change of these enqueues the object."""
    points_to: tuple[tuple[str, str], ...]
    version: str
    """For a resource: the key version that Azure reports for it, or an empty string."""
    target_type: str
    """For a resource: the type of its target, in lower case, or an empty string."""
    machines: tuple[str, ...]
    """For disks: the virtual machines that use them."""
    operator_class: str
    """For an identity: the class of the operator that serves it, or an empty string."""
    probe_interval: float
    """For an OrganizationKey: seconds between probes of the key in force; 0 otherwise."""
    raw: bytes

    @property
    def is_deleting(self) -> bool:
        """Whether its deletion has begun."""
        return self.trigger[1]


@dataclass(frozen=True, slots=True)
class Standing:
    """An EncryptedResource, and the key that its service last reported."""

    reference: ObjectReference
    key: str
    """The key without its version, in lower case; empty if none was reported."""
    version: str
    """Empty if the service does not report it."""

    def is_on(self, key: KeyUri) -> bool:
        """Whether the service reported this key, at any version."""
        return bool(self.key) and self.key == _pointer_of(key)


class Inventory:
    """The latest known version of every custom resource, with an index of references."""

    def __init__(self) -> None:
        self._entries: dict[ObjectReference, _Entry] = {}
        self._pointers: defaultdict[tuple[str, str], set[ObjectReference]] = defaultdict(set)
        self._departed: dict[ObjectReference, tuple[str, ...]] = {}
        self._with_class: set[ObjectReference] = set()
        self.unlisted = set(MODELS)
        """The kinds that have not been listed yet: their objects are not known, which does not mean that there are none."""
        self.is_listed_as_allowed = False
        """Whether every kind has been listed, but for those that RBAC forbids."""

    @property
    def complete(self) -> bool:
        """Whether every kind has been listed once: until then, a resource may have a manifest that is not known yet."""
        return not self.unlisted

    def waits_for(self, reference: ObjectReference) -> frozenset[str]:
        """The kinds that must be listed before anything is said or done about an object.

        A deletion waits for all of them: an object that is not known yet may need what is deleted.
        """
        entry = self._entries.get(reference)
        if entry is not None and entry.is_deleting:
            return frozenset(self.unlisted)
        return rests_on(reference.plural) & self.unlisted

    def put(self, plural: str, body: Mapping[str, Any], *, answered: bool = False) -> tuple[ObjectReference, bool]:
        """Store an object from a watch, a list or an answer (`answered`); returns its reference and whether to reconcile it now.

        It is reconciled if it is new, or if its spec, deletion, finalizers or requesting annotations changed. Versions older
        than the stored one are ignored. So are late events of a deleted object of the same name: resource versions grow over
        all objects of a kind. An answer never adds an object: one that is not stored was deleted in the meantime.
        """
        metadata: Mapping[str, Any] = body["metadata"]
        reference = ObjectReference(plural, metadata.get("namespace", ""), metadata["name"])
        held = self._entries.get(reference)
        if held is None and answered:
            return reference, False
        # A watch event repeats the answer to a status write, and a read before a write repeats a watch event.
        if held is not None and held.resource_version >= int(metadata.get("resourceVersion", "0")):
            return reference, False
        reference, entry = _read(plural, body)
        self._replace(reference, entry)
        same = held is not None and held.uid == entry.uid and held.trigger == entry.trigger
        return reference, not same

    def remove(self, reference: ObjectReference, uid: str | None = None) -> bool:
        """Remove an object if it still has this `uid` (None: any); returns whether it was removed."""
        held = self._entries.get(reference)
        if held is None or (uid is not None and held.uid != uid):
            return False
        self._replace(reference, None)
        return True

    def planned(self, bodies: Iterable[tuple[str, Mapping[str, Any]]]) -> Inventory:
        """A copy of this inventory with these objects, each with its kind's plural; this inventory does not change."""
        copy = Inventory()
        copy._entries.update(self._entries)
        copy._pointers.update((pointer, set(references)) for pointer, references in self._pointers.items())
        for plural, body in bodies:
            copy._replace(*_read(plural, body))
        return copy

    def absent(self, plural: str, listed: set[ObjectReference], resource_version: int) -> set[ObjectReference]:
        """Stored objects that are not in a list of that resource version: deleted without a watch event.

        kopf does not report objects that were deleted while a watch was interrupted. Objects newer than the list are not absent.
        """
        return {
            reference
            for reference, entry in self._entries.items()
            if reference.plural == plural and reference not in listed and entry.resource_version <= resource_version
        }

    def _replace(self, reference: ObjectReference, entry: _Entry | None) -> None:
        held = self._entries.pop(reference, None)
        if entry is not None and entry.operator_class:
            self._with_class.add(reference)
        else:
            self._with_class.discard(reference)
        if held is not None and (entry is None or entry.uid != held.uid):
            self._departed[reference] = (*self._departed.get(reference, ()), held.uid)
        for pointer in held.points_to if held is not None else ():
            self._pointers[pointer].discard(reference)
            if not self._pointers[pointer]:
                del self._pointers[pointer]
        if entry is not None:
            self._entries[reference] = entry
            for pointer in entry.points_to:
                self._pointers[pointer].add(reference)

    def get(self, model: type[ResourceT], name: str, namespace: str = "") -> ResourceT | None:
        """One object, parsed; None if it is not in the inventory."""
        entry = self._entries.get(ObjectReference(model.plural, namespace, name))
        return _parsed(model, entry.raw) if entry is not None else None

    def departed(self, reference: ObjectReference) -> tuple[str, ...]:
        """The uids of deleted objects of this name whose deletion is not recorded yet."""
        return self._departed.get(reference, ())

    def forget_departed(self, reference: ObjectReference, uids: tuple[str, ...]) -> None:
        """Remove these uids from `departed`, because their deletion is in the audit record."""
        left = tuple(uid for uid in self.departed(reference) if uid not in uids)
        if left:
            self._departed[reference] = left
        else:
            self._departed.pop(reference, None)

    def related_to(self, reference: ObjectReference) -> set[ObjectReference]:
        """Objects whose state depends on this EncryptedResource or OrganizationKey; empty for other kinds.

        These are the key of a resource, which counts its resources, and other manifests for the same target or organization, of
        which one has precedence.
        """
        entry = self._entries.get(reference)
        if entry is None or reference.plural not in {EncryptedResource.plural, OrganizationKey.plural}:
            return set()
        related: set[ObjectReference] = set()
        for relation, pointer in entry.points_to:
            if relation in {"target", "organization"}:
                related |= self._pointers[(relation, pointer)] - {reference}
            elif relation == "key":
                namespace, _, name = pointer.partition("/")
                related.add(ObjectReference(CustomerManagedKey.plural, namespace, name))
        return related

    def all(self, plural: str) -> Iterator[ObjectReference]:
        """References of all objects of a kind."""
        return iter([reference for reference in self._entries if reference.plural == plural])

    def references(self) -> list[ObjectReference]:
        """References of all objects of all kinds."""
        return list(self._entries)

    def versions(self, plural: str) -> dict[ObjectReference, int]:
        """The resource version of every object of a kind; it changes with every change of the object."""
        return {reference: entry.resource_version for reference, entry in self._entries.items() if reference.plural == plural}

    def count(self, plural: str) -> int:
        """The number of objects of a kind."""
        return sum(1 for reference in self._entries if reference.plural == plural)

    def names_on(self, namespace: str, key_name: str) -> list[str]:
        """Names of the EncryptedResources whose manifest names a key, sorted."""
        return sorted(reference.name for reference in self._pointers.get(("key", f"{namespace}/{key_name}"), ()))

    def key_of(self, reference: ObjectReference) -> ObjectReference | None:
        """The key that an EncryptedResource names; None for other kinds."""
        namespace, slash, name = (self._key_of(reference) or "").partition("/")
        return ObjectReference(CustomerManagedKey.plural, namespace, name) if slash else None

    def body(self, reference: ObjectReference) -> dict[str, Any] | None:
        """Metadata, spec and status of one object, also if they do not fit the model; None if it is not in the inventory."""
        entry = self._entries.get(reference)
        if entry is None:
            return None
        body: dict[str, Any] = json.loads(entry.raw)
        return body

    def version(self, reference: ObjectReference) -> int:
        """The resource version of an object; 0 if it is not in the inventory."""
        entry = self._entries.get(reference)
        return entry.resource_version if entry is not None else 0

    def uid_of(self, reference: ObjectReference) -> str:
        """The uid of an object; empty if it is not in the inventory."""
        entry = self._entries.get(reference)
        return entry.uid if entry is not None else ""

    def finalizers_of(self, reference: ObjectReference) -> tuple[str, ...]:
        """The finalizers of an object; parses nothing."""
        entry = self._entries.get(reference)
        return entry.trigger[3] if entry is not None else ()

    @property
    def has_classes(self) -> bool:
        """Whether any identity names an operator class."""
        return bool(self._with_class)

    def class_of(self, reference: ObjectReference) -> str:
        """The operator class of the identity on which an object rests; empty for the default, or if a reference leads nowhere."""
        at: ObjectReference | None = reference
        while at is not None:
            if at.plural == FederatedIdentity.plural:
                identity = self._entries.get(at)
                return identity.operator_class if identity is not None else ""
            at = self._above(at)
        return ""

    def _above(self, reference: ObjectReference) -> ObjectReference | None:
        entry = self._entries.get(reference)
        for relation, pointer in entry.points_to if entry is not None else ():
            if relation in _ABOVE:
                namespace, _, name = pointer.rpartition("/")
                return ObjectReference(_ABOVE[relation], namespace, name)
        return None

    def probe_interval_of(self, reference: ObjectReference) -> float:
        """Seconds between probes of an OrganizationKey's key in force; 0 for other kinds, and while no vault is asked."""
        entry = self._entries.get(reference)
        return entry.probe_interval if entry is not None else 0.0

    def oldest_of_organization(self, organization: OrganizationKey) -> OrganizationKey:
        """The OrganizationKey to which the organization's identifier belongs: the oldest that names it."""
        return min((*self._of_organization(organization.spec.organization.id), organization), key=_seniority)

    def owner_of_organization(self, organization_id: str) -> OrganizationKey | None:
        """The OrganizationKey to which an organization's identifier belongs; None if none names it."""
        return min(self._of_organization(organization_id), key=_seniority, default=None)

    def _of_organization(self, organization_id: str) -> list[OrganizationKey]:
        """The OrganizationKeys that name an organization."""
        references = self._pointers.get(("organization", organization_id), ())
        found = (self.get(OrganizationKey, reference.name, reference.namespace) for reference in references)
        return [one for one in found if one is not None]

    def grouped(self, references: Iterable[ObjectReference]) -> list[ObjectReference]:
        """The same objects, sorted into groups that name the same key, so that they share the reads of that key."""
        groups: defaultdict[str | None, list[ObjectReference]] = defaultdict(list)
        for reference in references:
            groups[self._key_of(reference)].append(reference)
        return [reference for group in groups.values() for reference in group]

    def limit_of(self, reference: ObjectReference) -> str:
        """What the calls for an EncryptedResource may have to wait for; empty for other kinds."""
        target = self._pointer(reference, "target")
        return limit_of(target) if target is not None else ""

    def waits_for_key(self, reference: ObjectReference) -> bool:
        """Whether a resource names a key that has not been reconciled yet."""
        namespace, _, name = (self._key_of(reference) or "").partition("/")
        key = self.get(CustomerManagedKey, name, namespace)
        return key is not None and key.status.observed_generation < 0

    def _key_of(self, reference: ObjectReference) -> str | None:
        return self._pointer(reference, "key")

    def _pointer(self, reference: ObjectReference, relation: str) -> str | None:
        """What an object points to by this relation; None if it points to nothing by it, or is not in the inventory."""
        entry = self._entries.get(reference)
        points_to = entry.points_to if entry is not None else ()
        return next((pointer for its, pointer in points_to if its == relation), None)

    def types_on(self, namespace: str, key_name: str) -> list[tuple[str, str]]:
        """As `names_on`, each with the type of its target; parses no manifest."""
        found = self._pointers.get(("key", f"{namespace}/{key_name}"), ())
        return sorted((reference.name, self.type_of(reference)) for reference in found)

    def resources_on(self, key: KeyUri) -> list[tuple[ObjectReference, str]]:
        """Every EncryptedResource whose target uses a key as Azure reports, with the key version; sorted by name.

        Its manifest may name another key by now.
        """
        found = self._pointers.get(("applied key", _pointer_of(key)), ())
        return [(reference, self._entries[reference].version) for reference in sorted(found, key=str)]

    def manifests_of(self, target: ResourceId) -> list[Standing]:
        """The EncryptedResources that name one target, with the key that its service last reported; sorted by name."""
        references = sorted(self._pointers.get(("target", target.key), ()), key=str)
        return [
            Standing(
                reference,
                self._pointer(reference, "applied key") or "",
                self._entries[reference].version,
            )
            for reference in references
        ]

    def type_of(self, reference: ObjectReference) -> str:
        """The type of an EncryptedResource's target, in lower case."""
        return self._entries[reference].target_type

    def machines_of(self, reference: ObjectReference) -> tuple[str, ...]:
        """The virtual machines to which an EncryptedResource's disk, or a disk of its set, is attached."""
        return self._entries[reference].machines

    def claims_on(self, target: ResourceId) -> list[EncryptedResource]:
        """The EncryptedResources that name one target, sorted by namespace and name."""
        references = sorted(self._pointers.get(("target", target.key), ()), key=str)
        found = (self.get(EncryptedResource, reference.name, reference.namespace) for reference in references)
        return [resource for resource in found if resource is not None]

    def allowing_the_same(self, tenant: ObjectReference) -> set[ObjectReference]:
        """Other tenants that allow some of the resources that this one allows."""
        entry, found = self._entries.get(tenant), set[ObjectReference]()
        for relation, scope in entry.points_to if entry is not None else ():
            if relation in {"allowed", "above allowed"}:
                found |= self._pointers.get(("allowed", scope), set())
            if relation == "allowed":
                found |= self._pointers.get(("above allowed", scope), set())
        return found - {tenant}

    def referring_to(self, reference: ObjectReference) -> set[ObjectReference]:
        """Objects that refer to this one: tenants of an identity, keys of a tenant, resources of a key."""
        relation = {
            FederatedIdentity.plural: "identity",
            CustomerTenant.plural: "tenant",
            CustomerManagedKey.plural: "key",
        }.get(reference.plural)
        return set(self._pointers.get((relation, str(reference)), ())) if relation is not None else set()


@lru_cache(maxsize=256)
def _parsed(model: type[ResourceT], raw: bytes) -> ResourceT:
    """Parse a body, cached: models are frozen, and thousands of resources share few keys and tenants."""
    return model.model_validate_json(raw)


def _read(plural: str, body: Mapping[str, Any]) -> tuple[ObjectReference, _Entry]:
    metadata: Mapping[str, Any] = body["metadata"]
    spec: Mapping[str, Any] = body.get("spec", {})
    reference = ObjectReference(plural, metadata.get("namespace", ""), metadata["name"])
    requested = kept_annotations(metadata.get("annotations") or {})
    finalizers = kept_finalizers(metadata.get("finalizers") or ())
    kept: dict[str, Any] = {name: metadata[name] for name in KEPT_METADATA if name in metadata}
    if finalizers:
        kept["finalizers"] = finalizers
    if requested:
        kept["annotations"] = requested
    author = _spec_author(metadata.get("managedFields") or ())
    if author:
        kept["changedBy"] = author
    status: Mapping[str, Any] = body.get("status") or {}
    applied: Mapping[str, Any] = status.get("applied") or {}
    points_to = _pointers(plural, reference, spec, key_uri_or_none(applied.get("keyUri") or ""))
    slim = {"metadata": kept, "spec": spec, "status": status}
    entry = _Entry(
        uid=metadata.get("uid", ""),
        resource_version=int(metadata.get("resourceVersion", "0")),
        trigger=(
            metadata.get("generation", 0),
            "deletionTimestamp" in metadata,
            tuple(requested.items()),
            tuple(finalizers),
            _reported(status) if plural == OrganizationKey.plural else "",
        ),
        points_to=points_to,
        version=applied.get("version", ""),
        target_type=next((resource_type_of(pointer) for relation, pointer in points_to if relation == "target"), ""),
        machines=tuple((status.get("details") or {}).get("attachedTo") or ()),
        operator_class=spec.get("operatorClass") or "" if plural == FederatedIdentity.plural else "",
        probe_interval=_probe_interval(status.get("accepted") or {}),
        raw=json.dumps(slim, separators=(",", ":"), sort_keys=True).encode(),
    )
    return reference, entry


def _probe_interval(accepted: Mapping[str, Any]) -> float:
    """Seconds between probes; the platform's key is not probed."""
    return float(accepted.get("probeIntervalSeconds") or 0) if accepted.get("access") else 0.0


def _reported(status: Mapping[str, Any]) -> str:
    """What the key service and the console report, apart from the times of the reports, which change again and again."""
    reports = [
        {name: value for name, value in (status.get(field) or {}).items() if name != "observedAt"}
        for field in ("dataKeys", "breakGlass")
    ]
    return json.dumps(reports, separators=(",", ":"), sort_keys=True) if any(reports) else ""


def _seniority(organization: OrganizationKey) -> tuple[str, bool, str, str]:
    """Sort key: older first; of two from the same second, the one whose settings are in force."""
    metadata = organization.metadata
    created = metadata.creation_timestamp.isoformat() if metadata.creation_timestamp is not None else ""
    return created, organization.status.accepted is None, metadata.namespace or "", metadata.name


def _spec_author(managed_fields: Sequence[Mapping[str, Any]]) -> str:
    """The field manager of the last change of the spec. Source: Kubernetes API concepts, "Field management"."""
    spec = [entry for entry in managed_fields if not entry.get("subresource") and "f:spec" in (entry.get("fieldsV1") or {})]
    last = max(spec, key=lambda entry: str(entry.get("time", "")), default=None)
    return str(last.get("manager", "")) if last is not None else ""


def _pointers(
    plural: str, reference: ObjectReference, spec: Mapping[str, Any], applied_key: KeyUri | None
) -> tuple[tuple[str, str], ...]:
    if plural == CustomerTenant.plural:
        return (("identity", spec["identityRef"]["name"]), *_allowed(spec))
    if plural == CustomerManagedKey.plural:
        return (("tenant", spec["tenantRef"]["name"]),)
    if plural == OrganizationKey.plural:
        tenant = (spec.get("tenantRef") or {}).get("name")
        return (("organization", spec["organization"]["id"]), *([("tenant", tenant)] if tenant else ()))
    if plural == EncryptedResource.plural:
        return (
            ("key", f"{reference.namespace}/{spec['keyRef']['name']}"),
            ("target", named_in(spec).key),
            *([("applied key", _pointer_of(applied_key))] if applied_key is not None else ()),
        )
    return ()


def _allowed(spec: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """What a tenant allows, and every scope above it, so that tenants that allow the same are found without a comparison of all."""
    found: dict[tuple[str, str], None] = {}
    for text in spec.get("allowedScopes") or ():
        scope = ArmId(text)
        found["allowed", scope.key] = None
        for length in range(2, len(scope.segments), 2):
            found["above allowed", "/" + "/".join(scope.segments[:length])] = None
    for _, identifier in OWN_IDENTIFIERS:
        for text in spec.get(identifier.allowed_in) or ():
            found["allowed", identifier.read(text).key] = None
    return found


def _pointer_of(key: KeyUri) -> str:
    """The index key of a key, without its version and in lower case: names in Key Vault are case-insensitive."""
    return str(key.versionless).lower()
