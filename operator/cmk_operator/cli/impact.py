"""`kubectl cmk impact`: what stops when, and what restores it, if a key or one of its versions is disabled now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.cli.cluster import Cluster, cluster_options
from cmk_operator.cli.presentation import console, instant, now, output_option, show_json, show_lines, show_table
from cmk_operator.cli.version_use import UnknownVersionError, impact, version_named
from cmk_operator.core.access.state import AccessState

if TYPE_CHECKING:
    from datetime import datetime


@click.command("impact")
@click.argument("name", metavar="[NAMESPACE/]KEY")
@click.option(
    "--version", "version", metavar="VERSION", help="Only this version (its first digits suffice). The default is all versions."
)
@output_option()
@cluster_options
def show_impact(cluster: Cluster, name: str, version: str | None, output: str | None) -> None:
    """Show what would stop, and approximately when, if KEY (a CustomerManagedKey) or one version of it were disabled now.

    Nothing is disabled. Everything counts that Azure lists on the key; what no manifest names has its Azure resource id.
    """
    key = cluster.find(CustomerManagedKey, name)
    try:
        wanted = version_named(key, version) if version is not None else None
    except UnknownVersionError as error:
        raise click.UsageError(str(error)) from error
    data = impact_data(key, cluster.all_beside(EncryptedResource, key), wanted, now())
    if output == "json":
        show_json(data)
    else:
        _show(data)


def impact_data(
    key: CustomerManagedKey, resources: tuple[EncryptedResource, ...], version: str | None, at: datetime
) -> dict[str, Any]:
    """What follows, as documented in docs/cli.md; pure."""
    found = impact(key, resources, version, at)
    access = key.status.access
    return {
        "key": f"{key.metadata.namespace}/{key.metadata.name}",
        "keyUri": key.spec.key_uri,
        "version": version,
        "disabledAt": instant(at),
        "accessNow": access.state if access is not None else AccessState.UNKNOWN.value,
        "lostSince": instant(access.lost_since) if access is not None else None,
        "stops": [
            {
                "service": stop.service,
                "expectedAt": instant(stop.expected_at),
                "resources": list(stop.resources),
                "virtualMachines": list(stop.machines),
                "effect": stop.effect,
                "recovery": stop.recovery,
            }
            for stop in found.stops
        ],
        "backups": [{"version": entry.version, "until": instant(entry.until), "why": entry.why} for entry in found.backups],
        "neverPutOnKey": list(found.waiting),
        "unaffected": list(found.unaffected),
        "inDoubt": list(found.in_doubt),
        "notReadable": found.untold,
        "notUnderKey": list(found.beside_key),
        "mayBeInUseUntil": instant(found.lingering_until),
        "usersUnknown": found.unknown,
    }


def _show(data: dict[str, Any]) -> None:
    on = console()
    what = f"version {data['version']}" if data["version"] else "the whole key"
    title = f"If {what} of {data['key']} is disabled now ({data['disabledAt']})"
    if data["lostSince"]:
        show_lines(
            on,
            "Already lost",
            [f"the key has been {data['accessNow']} since {data['lostSince']}: see kubectl cmk status"],
            "bold red",
        )
    if data["stops"]:
        rows = [
            (stop["service"], f"about {stop['expectedAt']}", _names(stop), stop["effect"], stop["recovery"])
            for stop in data["stops"]
        ]
        show_table(on, title, ("SERVICE", "STOPS", "RESOURCES", "WHAT HAPPENS", "ONCE THE KEY IS BACK"), rows)
    else:
        nothing = "no resource that the operator knows would stop" if data["usersUnknown"] else "no resource would stop"
        show_lines(on, title, [nothing])
    show_lines(on, "More may stop", [data["usersUnknown"]] if data["usersUnknown"] else [], "bold yellow")
    show_lines(on, "Backups that cannot be restored meanwhile", (_backup(entry) for entry in data["backups"]))
    told = []
    if data["inDoubt"]:
        told.append(
            f"their service does not report which version it uses, so they may continue to work: {', '.join(data['inDoubt'])}"
        )
    if data["notReadable"]:
        told.append(f"{data['notReadable']} more are in namespaces that you did not select or may not read")
    if data["notUnderKey"]:
        told.append(f"not under the key, so it does not stop: {'; '.join(data['notUnderKey'])}")
    if data["mayBeInUseUntil"]:
        told.append(f"services that have moved off it may still use it until {data['mayBeInUseUntil']}")
    if data["neverPutOnKey"]:
        told.append(f"not on the key yet, and not moved to it while it is disabled: {', '.join(data['neverPutOnKey'])}")
    if data["unaffected"]:
        told.append(f"on other versions of the key, and not affected: {', '.join(data['unaffected'])}")
    show_lines(on, "Also", told)
    show_lines(
        on,
        "What restores it",
        ["the customer's administrator enables the version again; the table says what else must be done"],
    )


def _names(stop: dict[str, Any]) -> str:
    machines = f" (virtual machines {', '.join(stop['virtualMachines'])})" if stop["virtualMachines"] else ""
    return f"{', '.join(stop['resources'])}{machines}"


def _backup(entry: dict[str, Any]) -> str:
    until = f" ({entry['until']})" if entry["until"] else ""
    return f"version {entry['version']}: {entry['why']}{until}"
