"""`kubectl cmk compromised`: what to do if a key version may be compromised, and what still uses it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

import click
from rich.text import Text

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.cli.cluster import Cluster, cluster_options
from cmk_operator.cli.presentation import console, instant, now, printable, show_command, show_json, show_lines
from cmk_operator.cli.version_use import UnknownVersionError, impact, users_of, version_named
from cmk_operator.core.handover.compromise import DISABLE, NEW_VERSION, WAIT, Compromise, steps_away
from cmk_operator.core.identifiers.key_uri import InvalidKeyUriError, parse_key_uri
from cmk_operator.core.prerequisites.prerequisite import PrerequisiteName

if TYPE_CHECKING:
    from datetime import datetime

READS_EVERY: Final = 2.0
"""Seconds between two reads of --watch; the operator itself reads less often."""


@click.command()
@click.argument("name", metavar="[NAMESPACE/]KEY")
@click.option(
    "--version",
    "version",
    metavar="VERSION",
    help="The compromised version (its first digits suffice). The default is the active one.",
)
@click.option("--watch", is_flag=True, help="Report what moves, until no known resource is on the version.")
@click.option(
    "-o", "--output", type=click.Choice(["json"]), help="Print data for programs; with --watch one line for each change."
)
@cluster_options
def compromised(cluster: Cluster, name: str, version: str | None, output: str | None, *, watch: bool) -> None:
    """Print who must run what to replace a version of KEY, and which resources and backups still need it.

    The command itself changes nothing: the customer rotates and disables, the platform engineer changes manifests.
    """
    key = cluster.find(CustomerManagedKey, name)
    wanted = _version(key, version)
    if watch:
        _follow(cluster, f"{key.metadata.namespace}/{key.metadata.name}", wanted, as_json=output is not None)
        return
    data = away_from(key, cluster.all_beside(EncryptedResource, key), wanted, now(), _tenant_id(cluster, key))
    if output == "json":
        show_json(data)
    else:
        _show(data)


def _version(key: CustomerManagedKey, text: str | None) -> str:
    if text is None:
        if key.status.active_version is None:
            raise click.ClickException("no version of this key has passed the probe yet, so no resource uses one")
        return key.status.active_version
    try:
        return version_named(key, text)
    except UnknownVersionError as error:
        raise click.UsageError(str(error)) from error


def _tenant_id(cluster: Cluster, key: CustomerManagedKey) -> str | None:
    """The customer's tenant, which the commands check; None if the user may not read tenants."""
    try:
        return cluster.get(CustomerTenant, key.spec.tenant_ref.name).spec.tenant_id
    except click.ClickException:
        return None


def left_on(key: CustomerManagedKey, resources: tuple[EncryptedResource, ...], version: str, at: datetime) -> dict[str, Any]:
    """What still needs a version, as documented in docs/cli.md; pure."""
    users = users_of(key, resources)
    followed = impact(key, resources, version, at)
    return {
        "key": f"{key.metadata.namespace}/{key.metadata.name}",
        "version": version,
        "activeVersion": key.status.active_version,
        "pendingVersion": key.status.pending_version,
        "still": [user.name for user in users if user.version == version],
        "moved": [user.name for user in users if user.version not in {version, ""}],
        "notTold": [user.name for user in users if not user.version],
        "notReadable": followed.untold,
        "usersUnknown": followed.unknown,
        "backups": [{"until": instant(entry.until), "why": entry.why} for entry in followed.backups],
    }


def away_from(
    key: CustomerManagedKey, resources: tuple[EncryptedResource, ...], version: str, at: datetime, tenant_id: str | None
) -> dict[str, Any]:
    """The steps, and what still needs the version, as documented in docs/cli.md; pure. Raises click.ClickException."""
    try:
        uri = parse_key_uri(key.spec.key_uri)
    except InvalidKeyUriError as error:
        raise click.ClickException(str(error)) from error
    effective = key.status.effective
    case = Compromise(
        tenant_id=tenant_id,
        key=uri,
        version=version,
        namespace=key.metadata.namespace or "",
        name=key.metadata.name,
        pinned=uri.version is not None,
        by_operator=effective is not None and effective.apply == "Immediately",
        needs_approval=effective is not None and effective.approval == "Manual",
    )
    left = left_on(key, resources, version, at)
    done = _done(key, left)
    network = next((entry for entry in key.status.prerequisites if entry.name == PrerequisiteName.NETWORK_PROTECTION), None)
    return {
        **left,
        "network": {"result": network.result, "message": network.message} if network is not None else None,
        "steps": [
            {"title": step.title, "who": step.who, "why": step.why, "command": step.command, "done": step.title in done}
            for step in steps_away(case)
        ],
    }


def _done(key: CustomerManagedKey, left: dict[str, Any]) -> set[str]:
    """The titles of the steps that need not be done any more, as far as that is known."""
    done: set[str] = set()
    if left["activeVersion"] != left["version"] or left["pendingVersion"] is not None:
        done.add(NEW_VERSION)
    if left["activeVersion"] != left["version"] and not _something_left(left):
        done.add(WAIT)
    if any(entry.enabled is False for entry in key.status.versions if entry.version == left["version"]):
        done.add(DISABLE)
    return done


def _something_left(left: dict[str, Any]) -> bool:
    """Whether anything is on the version, or may be."""
    return bool(left["still"] or left["notTold"] or left["notReadable"] or left["usersUnknown"])


def _follow(cluster: Cluster, name: str, version: str, *, as_json: bool) -> None:
    before: dict[str, Any] | None = None
    while True:
        key = cluster.find(CustomerManagedKey, name)
        data = left_on(key, cluster.all_beside(EncryptedResource, key), version, now())
        if data != before:
            click.echo(json.dumps(data) if as_json else _line(data))
        left = data["still"] or data["notReadable"] or data["usersUnknown"]
        if not left and data["activeVersion"] != version:
            return
        before = data
        time.sleep(READS_EVERY)


def _line(data: dict[str, Any]) -> str:
    if data["activeVersion"] == data["version"]:
        waiting = (
            f"{data['pendingVersion']} waits for approval" if data["pendingVersion"] else "no new version has passed the probe"
        )
        return printable(f"{waiting}; {len(data['still'])} on the old version")
    left = (
        f"still on the old version: {', '.join(data['still'])}"
        if data["still"]
        else "nothing that is known is on the old version any more"
        if data["usersUnknown"]
        else "nothing is on the old version any more"
    )
    hidden = f"; {data['notReadable']} more that you may not read" if data["notReadable"] else ""
    unknown = f"; there may be more: {data['usersUnknown']}" if data["usersUnknown"] else ""
    doubt = f"; not reported by their service: {', '.join(data['notTold'])}" if data["notTold"] else ""
    return printable(f"version {data['activeVersion']} is active; {left}{hidden}{doubt}{unknown}")


def _show(data: dict[str, Any]) -> None:
    on = console()
    on.print(Text(f"Replace version {data['version']} of {data['key']}", style="bold"))
    for number, step in enumerate(data["steps"], start=1):
        on.print()
        on.print(Text(f"{number}. {step['title']}{' (done)' if step['done'] else ''}", style="bold cyan"))
        on.print(Text(f"   Who: {step['who']}.", style="dim"), soft_wrap=True)
        on.print(Text(f"   {step['why']}"), soft_wrap=True)
        if step["command"] and not step["done"]:
            show_command(on, step["command"])
    network = data["network"]
    if network is not None and network["result"] != "Pass":
        show_lines(on, "Who can reach the vault", [network["message"]], "bold yellow")
    show_lines(on, "Still on it", data["still"] or ["no resource that the operator knows"])
    show_lines(on, "There may be more", [data["usersUnknown"]] if data["usersUnknown"] else [], "bold yellow")
    show_lines(on, "May be on it: their service does not report the version", data["notTold"])
    show_lines(on, "Backups", (f"{entry['why']}{_until(entry)}" for entry in data["backups"]))


def _until(entry: dict[str, Any]) -> str:
    return f" ({entry['until']})" if entry["until"] else ""
