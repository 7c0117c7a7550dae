"""`kubectl cmk status`: all tenants, keys and resources at a glance, and who must do what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cmk_operator.api.conditions import find
from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.model import APPROVED_VERSION
from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.cli.attention import NOBODY, Attention, attention
from cmk_operator.cli.cluster import Cluster, cluster_options, warn
from cmk_operator.cli.presentation import console, instant, output_option, show_json, show_lines, show_table, without_absent
from cmk_operator.core.access.state import AccessState
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.fault import Actor

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console


@click.command()
@click.option("--tenant", metavar="NAME", help="Only this CustomerTenant, with its keys and their resources.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if anything is not Ready, or there is nothing to show.")
@click.option("--allow-empty", is_flag=True, help="With --exit-code: nothing to show is no failure.")
@output_option("wide")
@cluster_options
def status(cluster: Cluster, tenant: str | None, output: str | None, *, exit_code: bool, allow_empty: bool) -> None:
    """Show every tenant, key, resource and organization: access, version, rotation, what stops when, and who must act."""
    keys = [key for key in cluster.all(CustomerManagedKey) if tenant is None or key.spec.tenant_ref.name == tenant]
    named = {(key.metadata.namespace, key.metadata.name) for key in keys}
    resources = [
        resource
        for resource in cluster.all(EncryptedResource)
        if tenant is None or (resource.metadata.namespace, resource.spec.key_ref.name) in named
    ]
    organizations = _organizations(cluster, tenant)
    data = overview(*_cluster_wide(cluster, tenant, [*keys, *organizations]), keys, resources, organizations)
    if output == "json":
        show_json(data)
    else:
        _show(data, wide=output == "wide")
    if exit_code and not allow_empty and not any(data.values()):
        raise click.ClickException(f"there is nothing to show{_where(cluster, tenant)}: --allow-empty accepts that")
    if exit_code and any(entry["ready"] != "True" for entries in data.values() for entry in entries):
        raise SystemExit(1)


def _where(cluster: Cluster, tenant: str | None) -> str:
    of = f" of CustomerTenant {tenant}" if tenant is not None else ""
    return f"{of} in namespace {cluster.namespace}" if cluster.namespace else of


def _cluster_wide(
    cluster: Cluster, tenant: str | None, keys: Iterable[CustomerManagedKey | OrganizationKey]
) -> tuple[Sequence[FederatedIdentity], Sequence[CustomerTenant]]:
    """Tenants and identities belong to administrators. Whoever may not read them sees the rest.

    Where a namespace is given, nothing is listed beyond it: only the tenants that its keys name are read.
    """
    try:
        if cluster.namespace:
            named = sorted({key.spec.tenant_ref.name for key in keys if key.spec.tenant_ref is not None})
            tenants = [cluster.get(CustomerTenant, name) for name in named]
        else:
            tenants = [one for one in cluster.all_cluster_wide(CustomerTenant) if tenant in {None, one.metadata.name}]
        if cluster.namespace or tenant is not None:
            names = sorted({one.spec.identity_ref.name for one in tenants})
            identities: Sequence[FederatedIdentity] = [cluster.get(FederatedIdentity, name) for name in names]
        else:
            identities = cluster.all_cluster_wide(FederatedIdentity)
    except click.ClickException as error:
        if "Forbidden" not in error.message and "NotFound" not in error.message:
            raise
        warn(f"Tenants and identities are not shown: {error.message}")
        return (), ()
    if tenant is not None and not tenants and not cluster.namespace:
        raise click.ClickException(f"there is no CustomerTenant {tenant!r}")
    return identities, tenants


def _organizations(cluster: Cluster, tenant: str | None) -> Sequence[OrganizationKey]:
    """The OrganizationKeys; none where the kind is not installed, or may not be read."""
    try:
        found = cluster.all(OrganizationKey)
    except click.ClickException as error:
        if "Forbidden" not in error.message and "resource type" not in error.message:
            raise
        warn(f"OrganizationKeys are not shown: {error.message}")
        return ()
    return [one for one in found if tenant is None or (one.spec.tenant_ref is not None and one.spec.tenant_ref.name == tenant)]


def overview(
    identities: Iterable[FederatedIdentity],
    tenants: Iterable[CustomerTenant],
    keys: Iterable[CustomerManagedKey],
    resources: Iterable[EncryptedResource],
    organizations: Iterable[OrganizationKey] = (),
) -> dict[str, list[dict[str, Any]]]:
    """What is known, as documented in docs/cli.md; pure."""
    return {
        "identities": [
            {"name": one.metadata.name, "application": one.application_client_id, **_attention(one.status.conditions)}
            for one in identities
        ],
        "tenants": [
            {
                "name": one.metadata.name,
                "tenantId": one.spec.tenant_id.lower(),
                "consent": one.status.consent.state if one.status.consent is not None else AccessState.UNKNOWN.value,
                **_attention(one.status.conditions),
            }
            for one in tenants
        ],
        "keys": [_key(one) for one in keys],
        "resources": [_resource(one) for one in resources],
        "organizations": [_organization(one) for one in organizations],
    }


def _key(key: CustomerManagedKey) -> dict[str, Any]:
    found = key.status
    return {
        "namespace": key.metadata.namespace,
        "name": key.metadata.name,
        "tenant": key.spec.tenant_ref.name,
        "keyUri": key.spec.key_uri,
        "access": found.access.state if found.access is not None else AccessState.UNKNOWN.value,
        "accessSince": instant(found.access.since) if found.access is not None else None,
        "activeVersion": found.active_version,
        "pendingVersion": found.pending_version,
        "rotation": found.effective.rotation if found.effective is not None else None,
        "usedBy": found.used_by_count,
        "stops": [
            {
                "service": stop.service,
                "expectedAt": instant(stop.expected_at),
                "resources": list(stop.resources),
                "resourceCount": stop.resource_count,
                "virtualMachines": list(stop.virtual_machines),
                "effect": stop.effect,
                "recovery": stop.recovery,
            }
            for stop in (found.access.stops if found.access is not None else ())
        ],
        **_attention(found.conditions),
    }


def _resource(resource: EncryptedResource) -> dict[str, Any]:
    found, target = resource.status, resource.spec.target
    accessible = find(found.conditions, ConditionType.KEY_ACCESSIBLE)
    return {
        "namespace": resource.metadata.namespace,
        "name": resource.metadata.name,
        "kind": found.target.kind if found.target is not None else target.shown_type,
        "target": found.target.name if found.target is not None else target.shown_name,
        "key": resource.spec.key_ref.name,
        "keyUri": found.applied.key_uri if found.applied is not None else None,
        "version": (found.applied.version or None) if found.applied is not None else None,
        "access": accessible.reason if accessible is not None else AccessState.UNKNOWN.value,
        "plan": list(found.plan.summary) if found.plan is not None else [],
        **_attention(found.conditions),
    }


def _organization(organization: OrganizationKey) -> dict[str, Any]:
    found = organization.status
    accessible = find(found.conditions, ConditionType.KEY_ACCESSIBLE)
    accepted, test = found.accepted, found.test
    serving = found.data_keys.serving if found.data_keys is not None else None
    return {
        "namespace": organization.metadata.namespace,
        "name": organization.metadata.name,
        "organization": organization.spec.organization.id,
        "mode": accepted.mode if accepted is not None else None,
        "kid": accepted.kid if accepted is not None else None,
        "revision": accepted.revision if accepted is not None else None,
        "access": accessible.reason if accessible is not None else AccessState.UNKNOWN.value,
        "serving": serving.state if serving is not None else None,
        "dataKeys": found.data_keys.total if found.data_keys is not None else None,
        "pendingVersion": found.pending_version,
        "test": {"result": test.result, "stage": test.stage, "code": test.code, "message": test.message}
        if test is not None
        else None,
        "credentials": [{"secret": one.secret, "type": one.type, "expires": one.expires} for one in found.credentials],
        "versions": [
            {
                "kid": one.kid,
                "dataKeys": one.data_keys,
                "safeToDisable": one.safe_to_disable,
                "requiredUntil": instant(one.required_until),
                "reason": one.reason,
            }
            for one in found.versions
        ],
        "platformKeyNeededUntil": instant(found.platform_key_needed_until),
        "advice": list(found.advice),
        **_attention(found.conditions),
    }


def _attention(conditions: Sequence[Any]) -> dict[str, Any]:
    found: Attention = attention(conditions)
    who = found.who or (NOBODY if found.is_due else None)
    return {"ready": found.ready, "reason": found.reason, "message": found.message, "whoMustAct": who}


def _show(data: dict[str, list[dict[str, Any]]], *, wide: bool) -> None:
    on = console()
    last = ("ready", "reason", "whoMustAct")
    _table(on, "Identities", data["identities"], ("name", "application", *last), ("application",), wide=wide)
    _table(on, "Tenants", data["tenants"], ("name", "tenantId", "consent", *last), ("tenantId",), wide=wide)
    fields: tuple[str, ...] = ("namespace", "name", "activeVersion", "access", "rotation", "usedBy", *last)
    _table(on, "Keys", data["keys"], fields, ("activeVersion", "rotation", "usedBy", "access"), wide=wide)
    fields = ("namespace", "name", "kind", "target", "key", "version", "access", *last)
    _table(on, "Resources", data["resources"], fields, ("version", "key", "target", "access", "kind"), wide=wide)
    fields = ("namespace", "name", "organization", "mode", "access", "serving", "dataKeys", *last)
    _table(on, "Organizations", data["organizations"], fields, ("dataKeys", "mode", "organization", "serving"), wide=wide)
    if not any(data.values()):
        on.print("There are no manifests.")
    stopping = [
        f"{key['namespace']}/{key['name']}: {stop['service']} about {stop['expectedAt']}: {', '.join(stop['resources'])}"
        f"{_more(stop)}{_machines(stop)}: {stop['effect']}; {stop['recovery']}"
        for key in data["keys"]
        for stop in key["stops"]
    ]
    show_lines(on, "What stops when", stopping, "bold red")
    due = [
        f"{'/'.join(without_absent({'namespace': entry.get('namespace'), 'name': entry['name']}).values())}: {entry['message']}"
        for entries in data.values()
        for entry in entries
        if entry["ready"] != "True"
    ]
    show_lines(on, "Needs attention", due, "bold yellow")
    plans = [
        f"{one['namespace']}/{one['name']}: nothing is written; to have it written, the {Actor.PLATFORM_ENGINEER} sets spec.mode to "
        f"Enforce: {'; '.join(one['plan'])}"
        for one in data["resources"]
        if one["plan"]
    ]
    show_lines(on, "Planned (mode Observe)", plans)
    waiting = [
        f"{key['namespace']}/{key['name']}: version {key['pendingVersion']} (kubectl cmk approve {key['namespace']}/{key['name']} "
        f"{key['pendingVersion']})"
        for key in data["keys"]
        if key["pendingVersion"]
    ]
    waiting += [
        f"{one['namespace']}/{one['name']}: version {one['pendingVersion']} (kubectl annotate orgkey {one['name']} -n {one['namespace']} "
        f"{APPROVED_VERSION}={one['pendingVersion']})"
        for one in data["organizations"]
        if one["pendingVersion"]
    ]
    show_lines(on, "Waiting for approval", waiting)
    advice = [f"{one['namespace']}/{one['name']}: {sentence}" for one in data["organizations"] for sentence in one["advice"]]
    show_lines(on, "Advice", advice)


def _more(stop: dict[str, Any]) -> str:
    left = stop["resourceCount"] - len(stop["resources"])
    return f" and {left} more" if left > 0 else ""


def _machines(stop: dict[str, Any]) -> str:
    return f" (virtual machines {', '.join(stop['virtualMachines'])})" if stop["virtualMachines"] else ""


_TITLES = {
    "activeVersion": "VERSION",
    "usedBy": "USED BY",
    "whoMustAct": "WHO MUST ACT",
    "tenantId": "TENANT",
    "dataKeys": "DATA KEYS",
}


def _table(
    on: Console,
    title: str,
    entries: list[dict[str, Any]],
    fields: tuple[str, ...],
    only_if_wide: tuple[str, ...],
    *,
    wide: bool,
) -> None:
    if not entries:
        return
    columns = [_title(name) for name in fields]
    rows = [[str(entry[name]) if entry[name] is not None else None for name in fields] for entry in entries]
    show_table(on, title, columns, rows, only_if_wide=[_title(name) for name in only_if_wide], wide=wide)


def _title(field: str) -> str:
    return _TITLES.get(field, field.upper())
