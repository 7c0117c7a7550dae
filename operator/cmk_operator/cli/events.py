"""`kubectl cmk events`: what happened recently, from Kubernetes Events, the audit record, and status; newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.durations import parse_duration
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.cli.audit import NAMESPACE as OPERATOR_NAMESPACE
from cmk_operator.cli.cluster import Cluster, checked_name, cluster_options, warn
from cmk_operator.cli.presentation import console, instant, now, output_option, show_json, show_table, without_absent
from cmk_operator.core.audit.chain import parse_entry
from cmk_operator.core.audit.change import Event
from cmk_operator.core.audit.layout import NAMES, lines_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened, and where that is written."""

    at: datetime
    source: str
    kind: str
    namespace: str | None
    name: str
    what: str
    message: str
    warning: bool = False
    by: str | None = None
    request_id: str | None = None


@click.command()
@click.option("--since", metavar="DURATION", default="24h", show_default=True, help="How far back, such as 90m or 48h.")
@click.option("--object", "about", metavar="[NAMESPACE/]NAME", help="Only this object.")
@click.option(
    "--operator-namespace",
    metavar="NAME",
    default=OPERATOR_NAMESPACE,
    show_default=True,
    help="The operator's namespace, which has the audit record.",
)
@output_option()
@cluster_options
def events(cluster: Cluster, since: str, about: str | None, operator_namespace: str, output: str | None) -> None:
    """Show what happened recently, newest first.

    Kubernetes keeps Events for an hour by default. What you may not read is named and left out.
    """
    try:
        begin = now() - parse_duration(since)
    except ValueError as error:
        raise click.UsageError(f"--since: {error}") from error
    recorded = list(_recorded(cluster, checked_name(operator_namespace)))
    found = [*_told(cluster), *recorded]
    if not recorded:
        found += rotations(cluster.all(CustomerManagedKey), cluster.all(EncryptedResource))
    chosen = newest_first(found, begin, about, cluster.namespace)
    if output == "json":
        show_json([_data(one) for one in chosen])
        return
    columns = ("AT", "SOURCE", "KIND", "OBJECT", "WHAT", "MESSAGE", "BY")
    rows = [(instant(one.at), one.source, one.kind, _shown(one), one.what, one.message, one.by) for one in chosen]
    show_table(console(), f"Since {instant(begin)}", columns, rows)
    if not chosen:
        click.echo("Nothing happened.")


def newest_first(
    found: Iterable[Happening], begin: datetime, about: str | None, namespace: str | None
) -> tuple[Happening, ...]:
    """Those since `begin`, about one object if given, and of one namespace if given; pure."""
    chosen = [
        one
        for one in found
        if one.at >= begin and (about is None or about in {one.name, _shown(one)}) and namespace in {None, one.namespace}
    ]
    return tuple(sorted(chosen, key=lambda one: (one.at, one.kind, _shown(one)), reverse=True))


def _told(cluster: Cluster) -> list[Happening]:
    try:
        return told(cluster.events())
    except click.ClickException as error:
        warn(f"Kubernetes Events are left out: {error.message}")
        return []


def told(bodies: Iterable[Mapping[str, Any]]) -> list[Happening]:
    """The operator's events as the API server has them; pure."""
    return [
        Happening(
            at=_time(body.get("eventTime") or body.get("deprecatedLastTimestamp") or body["metadata"]["creationTimestamp"]),
            source="event",
            kind=body["regarding"].get("kind", ""),
            # The event of an object without a namespace lies in `default`.
            namespace=body["regarding"].get("namespace"),
            name=body["regarding"].get("name", ""),
            what=body.get("reason", ""),
            message=body.get("note", ""),
            warning=body.get("type") == "Warning",
        )
        for body in bodies
    ]


def _recorded(cluster: Cluster, namespace: str) -> list[Happening]:
    try:
        return recorded(cluster.config_maps(namespace, NAMES))
    except click.ClickException as error:
        warn(f"the audit record is left out: {error.message.splitlines()[0]}")
        return []


def recorded(config_maps: Iterable[Mapping[str, Any]]) -> list[Happening]:
    """The entries of the record, unverified (`kubectl cmk audit verify` does that); pure."""
    found = []
    for line in lines_of(config_maps):
        entry = parse_entry(line.text)
        if entry is None:
            continue
        body = entry.body
        about = body.get("object")
        known: Mapping[str, Any] = about if isinstance(about, dict) else {}
        change = f"{body.get('from', '')} -> {body.get('to', '')}" if body.get("from") else str(body.get("to", ""))
        found.append(
            Happening(
                at=_time(str(body.get("at", ""))),
                source="record",
                kind=str(known.get("kind", "")),
                namespace=str(known["namespace"]) if "namespace" in known else None,
                name=str(known.get("name", "")),
                what=str(body.get("event", "")),
                message=f"{change}: {body['why']}" if body.get("why") else change,
                by=str(body["by"]) if "by" in body else None,
                request_id=str(body["azureRequestId"]) if "azureRequestId" in body else None,
            )
        )
    return found


def rotations(keys: Iterable[CustomerManagedKey], resources: Iterable[EncryptedResource]) -> list[Happening]:
    """The last changes that status keeps, for whoever may not read the record; pure."""
    all_of_them: list[CustomerManagedKey | EncryptedResource] = [*keys, *resources]
    return [
        Happening(
            at=entry.at,
            source="status",
            kind=type(one).__name__,
            namespace=one.metadata.namespace,
            name=one.metadata.name,
            what=(Event.KEY_VERSION_CHANGED if isinstance(one, CustomerManagedKey) else Event.KEY_CHANGED).value,
            message=f"{entry.from_ or 'none'} -> {entry.to}",
            by=entry.by,
            request_id=entry.request_id,
        )
        for one in all_of_them
        for entry in one.status.rotations
    ]


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def _shown(one: Happening) -> str:
    return f"{one.namespace}/{one.name}" if one.namespace else one.name


def _data(one: Happening) -> dict[str, Any]:
    return without_absent(
        {
            "at": instant(one.at),
            "source": one.source,
            "kind": one.kind,
            "namespace": one.namespace,
            "name": one.name,
            "what": one.what,
            "message": one.message,
            "warning": one.warning,
            "by": one.by,
            "azureRequestId": one.request_id,
        }
    )
