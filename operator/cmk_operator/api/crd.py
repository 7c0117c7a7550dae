"""Writes `crds/` and the chart's copies from the models: `python -m cmk_operator.api.crd [--check]`.

A structural schema has no `$ref`, no null and no closed objects, so the JSON schema that pydantic makes is walked once.
Source: Kubernetes, "Specifying a structural schema".
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.licence import Licence
from cmk_operator.api.model import GROUP, VERSION, Shape
from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.api.preflight import COMPLETE, Preflight
from cmk_operator.api.sizes import only_sizes, with_sizes
from cmk_operator.api.support_request import SupportRequest
from cmk_operator.core.conditions import ConditionType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DROPPED: Final = frozenset({"title", "default", "additionalProperties", "$defs"})
_MAXIMUM_OBJECTS: Final = 262144
_PLANNED: Final = (("keys", CustomerManagedKey), ("resources", EncryptedResource), ("organizationKeys", OrganizationKey))
"""The manifests in a Preflight, by their field."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `kubectl get`; those with a priority show under `-o wide` only."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """What a custom resource definition says beyond the schema of its model."""

    model: type[Shape]
    plural: str
    short_name: str
    scope: str
    columns: tuple[Column, ...]
    selectable: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The kind, in the singular."""
        return self.model.__name__


def _condition(condition_type: ConditionType, field: str) -> str:
    return f".status.conditions[?(@.type=='{condition_type}')].{field}"


_READY: Final = (
    Column("Ready", _condition(ConditionType.READY, "status")),
    Column("Reason", _condition(ConditionType.READY, "reason")),
    Column("Age", ".metadata.creationTimestamp", "date"),
    Column("Message", _condition(ConditionType.READY, "message"), priority=1),
)

KINDS: Final = (
    Kind(
        FederatedIdentity,
        FederatedIdentity.plural,
        "fedid",
        "Cluster",
        (
            Column("Tenant", ".spec.tenantId"),
            Column("Application", ".status.application.displayName"),
            Column("Client-ID", ".status.application.clientId", priority=1),
            *_READY,
        ),
    ),
    Kind(
        CustomerTenant,
        CustomerTenant.plural,
        "ctenant",
        "Cluster",
        (
            Column("Tenant", ".spec.tenantId"),
            Column("Consent", ".status.consent.state"),
            Column("Consent-URL", ".status.consent.url", priority=1),
            *_READY,
        ),
        (".spec.identityRef.name",),
    ),
    Kind(
        CustomerManagedKey,
        CustomerManagedKey.plural,
        "cmk",
        "Namespaced",
        (
            Column("Key", ".spec.keyUri"),
            Column("Version", ".status.activeVersion"),
            Column("Access", ".status.access.state"),
            Column("Rotation", ".status.effective.rotation"),
            *_READY,
            Column("Expires", ".status.versions[0].expires", priority=1),
            Column("Used-By", ".status.usedByCount", "integer", priority=1),
        ),
        (".spec.tenantRef.name",),
    ),
    Kind(
        EncryptedResource,
        EncryptedResource.plural,
        "encres",
        "Namespaced",
        (
            Column("Kind", ".status.target.kind"),
            Column("Target", ".status.target.name"),
            Column("Key", ".spec.keyRef.name"),
            Column("Version", ".status.applied.version"),
            Column("Access", _condition(ConditionType.KEY_ACCESSIBLE, "reason")),
            *_READY,
        ),
        (".spec.keyRef.name",),
    ),
    Kind(
        OrganizationKey,
        OrganizationKey.plural,
        "orgkey",
        "Namespaced",
        (
            Column("Organization", ".spec.organization.id"),
            Column("Mode", ".status.accepted.mode"),
            Column("Key", ".status.accepted.kid"),
            Column("Access", _condition(ConditionType.KEY_ACCESSIBLE, "reason")),
            Column("Serving", ".status.dataKeys.serving.state"),
            *_READY,
            Column("Data-Keys", ".status.dataKeys.total", "integer", priority=1),
            Column("Pending-Version", ".status.pendingVersion", priority=1),
        ),
        (".spec.organization.id", ".spec.tenantRef.name"),
    ),
    Kind(
        Licence,
        Licence.plural,
        "cmklicence",
        "Cluster",
        (
            Column("Access-Methods", ".spec.accessMethods"),
            Column("View-Only-Encrypt", ".spec.viewOnlyEncrypt"),
            Column("Age", ".metadata.creationTimestamp", "date"),
        ),
    ),
    Kind(
        SupportRequest,
        SupportRequest.plural,
        "cmksupport",
        "Cluster",
        (
            Column("Organization", ".spec.organizationId"),
            Column("Subject", ".spec.subject"),
            Column("Requested-By", ".spec.requestedBy"),
            Column("Approved-By", ".spec.approvedBy"),
            Column("Until", ".spec.until"),
            Column("State", ".status.state"),
            Column("Age", ".metadata.creationTimestamp", "date"),
            Column("Message", ".status.message", priority=1),
        ),
    ),
    Kind(
        Preflight,
        Preflight.plural,
        "cmkpf",
        "Namespaced",
        (
            Column("Complete", _condition(COMPLETE, "status")),
            Column("Result", ".status.result"),
            Column("Message", _condition(COMPLETE, "message")),
            Column("Age", ".metadata.creationTimestamp", "date"),
        ),
    ),
)


def _inlined(node: Any, definitions: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON is what it is
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[-1]]
        return _inlined({**target, **{key: value for key, value in node.items() if key != "$ref"}}, definitions)
    arms = [arm for arm in node.get("anyOf", ()) if arm.get("type") != "null"]
    if len(arms) == 1:
        rest = {key: value for key, value in node.items() if key != "anyOf"}
        return _inlined({**arms[0], **rest}, definitions)
    kept = {key: value for key, value in node.items() if key not in _DROPPED}
    inlined = {key: _inlined(value, definitions) for key, value in kept.items() if key != "properties"}
    if "properties" in kept:
        inlined["properties"] = {name: _inlined(value, definitions) for name, value in kept["properties"].items()}
    entries = node.get("additionalProperties")
    if isinstance(entries, dict) and "maxProperties" in node:
        inlined["additionalProperties"] = _inlined(entries, definitions)
    if "const" in inlined:
        inlined["enum"] = [inlined.pop("const")]
    return inlined


def structural_schema(model: type[Shape]) -> dict[str, Any]:
    """The OpenAPI v3 schema of a custom resource, as the API server accepts it."""
    raw = model.model_json_schema(by_alias=True)
    schema: dict[str, Any] = _inlined(raw, raw.get("$defs", {}))
    if "conditions" in schema["properties"].get("status", {}).get("properties", ()):
        schema["properties"]["status"] = _seen_later(schema["properties"]["status"])
    if model is Preflight:
        for field, planned in _PLANNED:
            manifest = schema["properties"]["spec"]["properties"][field]["items"]["properties"]
            manifest["spec"] = only_sizes(structural_schema(planned)["properties"]["spec"]) | {
                "description": manifest["spec"]["description"]
            }
    parts = {part: schema["properties"][part] for part in ("spec", "status") if part in schema["properties"]}
    rules = {word: schema[word] for word in ("x-kubernetes-validations",) if word in schema}
    return {
        "type": "object",
        "description": model.__doc__,
        **rules,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            **parts,
        },
    }


def _seen_later(status: dict[str, Any]) -> dict[str, Any]:
    """The schema of a status. Until the operator has seen an object, waiters must not take it for finished."""
    status["default"] = {"observedGeneration": -1}
    conditions = status["properties"]["conditions"]
    conditions["x-kubernetes-list-type"] = "map"
    conditions["x-kubernetes-list-map-keys"] = ["type"]
    return with_sizes(status)


def custom_resource_definition(kind: Kind) -> dict[str, Any]:
    """The manifest of one custom resource definition."""

    def column(entry: Column) -> dict[str, Any]:
        shown: dict[str, Any] = {"name": entry.name, "type": entry.type, "jsonPath": entry.path}
        return {**shown, "priority": entry.priority} if entry.priority else shown

    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        **({"subresources": {"status": {}}} if "status" in kind.model.model_fields else {}),
        "additionalPrinterColumns": [column(entry) for entry in kind.columns],
        "schema": {"openAPIV3Schema": structural_schema(kind.model)},
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": kind.scope,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short_name],
                "categories": ["cmk-operator"],
            },
            "versions": [version],
        },
    }


def rendered() -> Iterator[tuple[str, str]]:
    """File names and contents of all definitions."""
    for kind in KINDS:
        text = yaml.safe_dump(custom_resource_definition(kind), sort_keys=False, width=120, allow_unicode=True)
        yield f"{GROUP}_{kind.plural}.yaml", f"# Generated from the models by `make crds`; do not edit.\n{text}"


def main() -> int:
    """Write the definitions, or with --check say which files differ; exit status 1 when one does."""
    parser = argparse.ArgumentParser(prog="python -m cmk_operator.api.crd", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file differs from the models")
    parser.add_argument("--root", type=Path, default=Path(), help="root of the repository (default: the current folder)")
    arguments = parser.parse_args()
    different: list[Path] = []
    for folder in (arguments.root / "crds", arguments.root / "charts" / "cmk-operator" / "files" / "crds"):
        for name, text in rendered():
            path = folder / name
            if path.exists() and path.read_text(encoding="utf-8") == text:
                continue
            different.append(path)
            if not arguments.check:
                folder.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    if arguments.check and different:
        sys.stderr.write(f"these files differ from the models; run `make crds`: {', '.join(map(str, different))}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
