"""`kubectl cmk versions`: each version of a key, what uses it, and whether the customer may disable it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.cli.cluster import Cluster, cluster_options
from cmk_operator.cli.presentation import console, instant, now, output_option, show_json, show_lines, show_table
from cmk_operator.cli.version_use import may_disable, users_of, users_unknown

if TYPE_CHECKING:
    from datetime import datetime


@click.command()
@click.argument("name", metavar="[NAMESPACE/]KEY")
@output_option("wide")
@cluster_options
def versions(cluster: Cluster, name: str, output: str | None) -> None:
    """Show each known version of KEY (a CustomerManagedKey), and whether the customer may disable it now.

    Everything counts that Azure lists on the key; what no manifest names has its Azure resource id.
    """
    key = cluster.find(CustomerManagedKey, name)
    data = version_table(key, cluster.all_beside(EncryptedResource, key), now())
    if output == "json":
        show_json(data)
    else:
        _show(data, wide=output == "wide")


def version_table(key: CustomerManagedKey, resources: tuple[EncryptedResource, ...], at: datetime) -> dict[str, Any]:
    """What is known of every version, as documented in docs/cli.md; pure."""
    users, found = users_of(key, resources), []
    for entry in key.status.versions:
        verdict = may_disable(key, entry, users, at)
        on_it = [user.name for user in users if user.version == entry.version] or list(entry.in_use_by)
        found.append(
            {
                "version": entry.version,
                "active": entry.version == key.status.active_version,
                "enabled": entry.enabled,
                "access": entry.access,
                "created": instant(entry.created),
                "expires": entry.expires,
                "inUseBy": on_it,
                "inUseByCount": max(len(on_it), entry.in_use_by_count),
                "supersededAt": instant(entry.superseded_at),
                "safeToDisableAfter": instant(entry.safe_to_disable_after),
                "keepUntil": instant(entry.keep_until),
                "mayDisable": verdict.may.value,
                "why": verdict.why,
            }
        )
    return {
        "key": f"{key.metadata.namespace}/{key.metadata.name}",
        "keyUri": key.spec.key_uri,
        "activeVersion": key.status.active_version,
        "pendingVersion": key.status.pending_version,
        "usersUnknown": users_unknown(key),
        "versions": found,
    }


def _show(data: dict[str, Any], *, wide: bool) -> None:
    on = console()
    columns = ("VERSION", "ENABLED", "ACCESS", "EXPIRES", "IN USE BY", "SUPERSEDED", "SAFE AFTER", "KEEP UNTIL", "MAY DISABLE")
    rows = [
        (
            f"{entry['version']}{' (active)' if entry['active'] else ''}",
            None if entry["enabled"] is None else str(entry["enabled"]),
            entry["access"],
            entry["expires"],
            _users(entry),
            entry["supersededAt"],
            entry["safeToDisableAfter"],
            entry["keepUntil"],
            entry["mayDisable"],
        )
        for entry in data["versions"]
    ]
    less = ("ENABLED", "EXPIRES", "SUPERSEDED", "KEEP UNTIL")
    show_table(on, f"{data['key']}: {data['keyUri']}", columns, rows, only_if_wide=less, wide=wide)
    show_lines(on, "May it be disabled?", (f"{one['version']}: {one['mayDisable']}: {one['why']}" for one in data["versions"]))
    show_lines(on, "There may be more users", [data["usersUnknown"]] if data["usersUnknown"] else [], "bold yellow")
    if data["pendingVersion"]:
        pending = data["pendingVersion"]
        show_lines(on, "Waits for approval", [f"{pending} (kubectl cmk approve {data['key']} {pending})"])


def _users(entry: dict[str, Any]) -> str | None:
    left = entry["inUseByCount"] - len(entry["inUseBy"])
    names = ", ".join(entry["inUseBy"])
    return (f"{names} and {left} more" if left > 0 else names) or None
