"""`kubectl cmk audit`: shows, exports and verifies the record of changes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TextIO

import click
from rich.console import Console
from rich.text import Text

from cmk_operator.cli.cluster import Cluster, cluster_options
from cmk_operator.cli.presentation import output_option
from cmk_operator.core.audit.chain import Entry, Line, parse_entry
from cmk_operator.core.audit.change import Event
from cmk_operator.core.audit.copies import index_in, index_line, lines_in
from cmk_operator.core.audit.kept import tenant_of
from cmk_operator.core.audit.layout import HEAD_NAME, NAMES, head_of, kept_of, lines_of
from cmk_operator.core.audit.verification import Extent, Finding, Flaw, Verdict, verify, verify_each

if TYPE_CHECKING:
    from collections.abc import Iterable

NAMESPACE: Final = "cmk-operator-system"
"""Where the installation guide puts the operator, and so the record."""


@click.group()
def audit() -> None:
    """Show who changed which key, access or configuration, from what to what, and why.

    The audit record is in the operator's namespace (the default is cmk-operator-system; -n names another).
    """


@audit.command("verify")
@click.argument("files", nargs=-1, type=click.File(encoding="utf-8", errors="replace"))
@click.option(
    "--against",
    "copies",
    multiple=True,
    type=click.File(encoding="utf-8", errors="replace"),
    help="A copy to compare with: an export, what a sink received, or the operator's log. May be repeated.",
)
@output_option()
@cluster_options
def verify_record(cluster: Cluster, files: tuple[TextIO, ...], copies: tuple[TextIO, ...], output: str | None) -> None:
    """Find every edit, deletion and truncation. The exit code is 1 if there is any. Says from when on each tenant's record is whole.

    Checks the record in the cluster, or in FILES (exports or logs, - for standard input). Whoever may write every ConfigMap in the
    operator's namespace can rewrite the whole record: only --against a copy elsewhere shows that.
    """
    others = {file.name: list(file) for file in copies}
    copied = [line for name, text in others.items() for line in lines_in(text, name)]
    known = [entry for entry in (parse_entry(line.text) for line in copied) if entry is not None]
    if files:
        texts = {file.name: list(file) for file in files}
        lines = [line for name, text in texts.items() for line in lines_in(text, name)]
        kept = index_in(line for text in texts.values() for line in text)
        verdict = verify_each(lines, known, kept=kept, repeats_allowed=True)
        where = ", ".join(file.name for file in files)
    else:
        verdict = _verify_cluster(cluster, known)
        if not verdict.whole:
            # The operator may have written in between: only what is found again is wrong.
            verdict = _verify_cluster(cluster, known)
        where = f"namespace {_namespace(cluster)}"
    if copied:
        flawed = verify_each(copied, kept=index_in(line for text in others.values() for line in text), repeats_allowed=True)
        verdict = replace(verdict, findings=verdict.findings + flawed.findings)
    if not verdict.entries and verdict.whole:
        raise click.ClickException(f"there is no entry of an audit record in {where}")
    if output == "json":
        click.echo(json.dumps(_data(verdict), indent=2))
    else:
        _tell(verdict, where, compared=len(known))
    if not verdict.whole:
        raise SystemExit(1)


@audit.command("show")
@click.option("--object", "about", metavar="[NAMESPACE/]NAME", help="Only this object.")
@click.option("--tenant", metavar="NAME", help="Only what belongs to this CustomerTenant.")
@click.option("--event", type=click.Choice([event.value for event in Event]), help="Only this kind of change.")
@click.option(
    "--last", type=click.IntRange(min=1), default=50, show_default=True, help="Show at most this many of the newest entries."
)
@output_option()
@cluster_options
def show_record(
    cluster: Cluster, about: str | None, tenant: str | None, event: str | None, last: int, output: str | None
) -> None:
    """Show the newest entries, oldest first. This does not verify them."""
    found = [entry for entry in _entries(lines_of(_read(cluster))) if tenant is None or tenant_of(entry) == tenant]
    entries = [entry for entry in found if _matches(entry, about, event)][-last:]
    if output == "json":
        click.echo(json.dumps([entry.body for entry in entries], indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    for entry in entries:
        console.print(_told(entry))


@audit.command("export")
@click.option(
    "--to", "file", type=click.File("w", encoding="utf-8"), default="-", help="File to write. The default is standard output."
)
@cluster_options
def export_record(cluster: Cluster, file: TextIO) -> None:
    """Write all entries in the cluster, one per line, in the form that `audit verify` reads.

    If entries have left the cluster, the first line is not an entry: it says which of the older ones are kept.
    """
    found = _read(cluster)
    kept = kept_of(found)
    if kept is not None:
        file.write(f"{index_line(kept)}\n")
    file.writelines(f"{line.text}\n" for line in lines_of(found))


def _namespace(cluster: Cluster) -> str:
    return cluster.namespace or NAMESPACE


def _read(cluster: Cluster) -> list[dict[str, Any]]:
    """The ConfigMaps of the record. Raises click.ClickException when there is no record at all."""
    found = cluster.config_maps(_namespace(cluster), NAMES)
    if not found:
        message = f"there is no audit record in namespace {_namespace(cluster)}: use -n to name the operator's namespace"
        raise click.ClickException(message)
    return found


def _verify_cluster(cluster: Cluster, copy: list[Entry]) -> Verdict:
    found = _read(cluster)
    head = head_of(found)
    verdict = verify(lines_of(found), head, copy, kept=kept_of(found))
    if head is not None:
        return verdict
    lost = Finding(Flaw.MISSING, 0, 0, f"the head of the record, ConfigMap {HEAD_NAME}, is missing or unreadable")
    return replace(verdict, findings=(lost, *verdict.findings))


def _entries(lines: Iterable[Line]) -> list[Entry]:
    found = (parse_entry(line.text) for line in lines)
    return [entry for entry in found if entry is not None]


def _matches(entry: Entry, about: str | None, event: str | None) -> bool:
    subject = _subject(entry)
    named = about is None or about in {subject, subject.rpartition("/")[2]}
    return named and (event is None or entry.body.get("event") == event)


def _subject(entry: Entry) -> str:
    about = entry.body.get("object")
    if not isinstance(about, dict):
        return ""
    return "/".join(str(about[name]) for name in ("namespace", "name") if name in about)


def _told(entry: Entry) -> Text:
    """One entry on three lines: what happened to whom, from what to what, and why."""
    body = entry.body
    about = body.get("object")
    kind = str(about.get("kind", "")) if isinstance(about, dict) else ""
    change = f"{body['from']} -> {body.get('to', '')}" if body.get("from") else str(body.get("to", ""))
    request = f" (Azure request {body['azureRequestId']})" if body.get("azureRequestId") else ""
    event = _printable(str(body.get("event", "")))
    about_whom = _printable(f"{kind} {_subject(entry)}".strip())
    return Text.assemble(
        (f"{entry.sequence}  {_printable(str(body.get('at', '')))}  ", "dim"),
        (event, "bold"),
        f"  {about_whom}  by {_printable(str(body.get('by', '')))}\n",
        f"    {_printable(change)}\n",
        (f"    {_printable(str(body.get('why', '')))}{_printable(request)}", "dim"),
    )


def _printable(text: str) -> str:
    """Without what moves a terminal's cursor: an entry quotes Azure and manifests."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _data(verdict: Verdict) -> dict[str, Any]:
    return {
        "whole": verdict.whole,
        "first": verdict.first,
        "last": verdict.last,
        "entries": verdict.entries,
        "findings": [
            {"flaw": finding.flaw.value, "first": finding.first, "last": finding.last, "message": finding.message}
            for finding in verdict.findings
        ],
        "tenants": [
            {"tenant": extent.tenant, "lostUpTo": extent.after.sequence}
            | ({"wholeSince": extent.after.at} if extent.after.at else {})
            for extent in verdict.extents
        ],
    }


def _tell(verdict: Verdict, where: str, *, compared: int) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for finding in verdict.findings:
        console.print(Text(f"{finding.flaw.value}: ", style="bold red") + Text(finding.message))
    beside = f", compared with {compared} entries of a copy" if compared else ""
    range_ = f"{verdict.entries} entries, {verdict.first} to {verdict.last}"
    if verdict.whole:
        console.print(Text("Whole: ", style="bold green") + Text(f"{range_}, in {where}{beside}"))
    else:
        console.print(Text(f"{len(verdict.findings)} flaws in {range_}, in {where}{beside}"))
    for extent in verdict.extents:
        console.print(Text(f"  {_extent(extent)}" if verdict.whole else f"  {_extent(extent)}, but for these flaws"))


def _extent(extent: Extent) -> str:
    who = f"CustomerTenant {extent.tenant}" if extent.tenant else "Of no tenant, or recorded before tenants had shares"
    if extent.after.sequence == 0:
        return f"{who}: whole from its first entry on"
    since = f" since {extent.after.at}" if extent.after.at else ""
    return f"{who}: whole{since}, after entry {extent.after.sequence}"
