"""`kubectl cmk handoff`: what a customer's administrator must do, ready to run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

import click
from rich.text import Text

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.handover import handover_of, refused_keys
from cmk_operator.cli.cluster import Cluster, cluster_options, warn
from cmk_operator.cli.presentation import console, output_option, show_command, show_lines
from cmk_operator.core.handover.azure_cli import azure_cli_script
from cmk_operator.core.handover.bicep import bicep_file
from cmk_operator.core.handover.letter import letter
from cmk_operator.core.handover.request import SIZES, Choices, Handover, judge, warnings
from cmk_operator.core.handover.steps import steps
from cmk_operator.core.handover.terraform import terraform_configuration
from cmk_operator.core.identifiers.region import region_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Format:
    """One form of the hand-over: the name of its file, and what writes it."""

    file: str
    write: Callable[[Handover, Choices], str]
    program: bool = False


FORMATS: Final[Mapping[str, Format]] = {
    "az": Format("handover.sh", azure_cli_script, program=True),
    "terraform": Format("handover.tf", terraform_configuration),
    "bicep": Format("handover.bicep", bicep_file),
    "text": Format("handover.txt", letter),
}


class _Options(TypedDict):
    """What the command line chooses, beside what is written for whom."""

    directory: Path | None
    force: bool
    resource_group: str | None
    location: str | None
    subscription: str | None
    retention_days: int
    key_size: str
    hardware: bool
    rotate_after: int | None
    expire_after: int | None
    grant_on: str
    reader: bool
    addresses: tuple[str, ...]
    log_workspace: str | None


@click.command()
@click.argument("tenant")
@click.option("--format", "form", type=click.Choice(list(FORMATS)), help="Print this format. The default is text for people.")
@output_option()
@click.option(
    "--key", "wanted", multiple=True, metavar="[NAMESPACE/]NAME", help="Only this CustomerManagedKey; may be repeated."
)
@click.option("--write", "directory", type=click.Path(file_okay=False, path_type=Path), help="Write files into this directory.")
@click.option("--force", is_flag=True, help="Let --write replace files that differ.")
@click.option("--resource-group", metavar="NAME", help="Resource group of new vaults.")
@click.option(
    "--location", metavar="REGION", help="Region of new vaults. The default is the region of the disks, if it is known."
)
@click.option("--subscription", metavar="ID", help="Subscription of the vaults. The script refuses to run in another one.")
@click.option("--retention-days", type=int, default=90, show_default=True, help="Days of soft delete of new vaults, 7 to 90.")
@click.option(
    "--key-size", type=click.Choice([str(size) for size in SIZES]), default="2048", show_default=True, help="Bits of new keys."
)
@click.option("--hsm", "hardware", is_flag=True, help="Create new keys in hardware, in a premium vault.")
@click.option("--rotate-after", type=int, metavar="DAYS", help="Make Key Vault rotate new keys after so many days.")
@click.option(
    "--expire-after", type=int, metavar="DAYS", help="Make each version expire after so many days; needs --rotate-after."
)
@click.option("--grant-on", type=click.Choice(["key", "vault"]), default="key", show_default=True, help="Scope of the role.")
@click.option("--reader", is_flag=True, help="Also allow the operator to read locks and firewall, so that it can warn in time.")
@click.option(
    "--operator-address",
    "addresses",
    multiple=True,
    metavar="CIDR",
    help="Close the firewall except for this address. May be repeated.",
)
@click.option("--log-workspace", metavar="ID", help="The customer's Log Analytics workspace for the vault's log.")
@cluster_options
def handoff(
    cluster: Cluster,
    tenant: str,
    form: str | None,
    output: str | None,
    wanted: tuple[str, ...],
    **options: Unpack[_Options],
) -> None:
    """Write what the customer of TENANT (a CustomerTenant) must do, with the least privileges.

    The steps are consent, vault, key, grant and lock, and for Snowflake its own consent and grant. They are for the administrator
    of the customer's tenant, and may be run again at any time.
    """
    handover = _handover(cluster, tenant, wanted)
    choices = _choices(options)
    if wrong := judge(handover, choices):
        raise click.UsageError("; ".join(wrong))
    for told in warnings(handover, choices):
        warn(told)
    if options["directory"] is not None:
        _write(handover, choices, options["directory"], [form] if form else list(FORMATS), force=options["force"])
    elif output == "json":
        click.echo(json.dumps(_data(handover, choices, form), indent=2))
    elif form is not None:
        click.echo(FORMATS[form].write(handover, choices), nl=False)
    else:
        _show(handover, choices)


def _handover(cluster: Cluster, name: str, wanted: tuple[str, ...]) -> Handover:
    tenant = cluster.get(CustomerTenant, name)
    identity = cluster.get(FederatedIdentity, tenant.spec.identity_ref.name)
    keys = [key for key in cluster.all(CustomerManagedKey) if key.spec.tenant_ref.name == name]
    if wanted:
        keys = _chosen(keys, wanted)
    for message in refused_keys(tenant, identity, keys):
        warn(f"Left out: {message}")
    named = {(key.metadata.namespace, key.metadata.name) for key in keys}
    resources = [
        resource
        for resource in cluster.all(EncryptedResource)
        if (resource.metadata.namespace, resource.spec.key_ref.name) in named
    ]
    handover = handover_of(tenant, identity, keys, resources)
    if handover is None:
        raise click.ClickException(
            f"FederatedIdentity {identity.metadata.name} has no application yet: its status says what it waits for"
        )
    if not keys:
        warn("no CustomerManagedKey refers to this tenant yet: each allowed vault gets one key.")
    return handover


def _chosen(keys: list[CustomerManagedKey], wanted: tuple[str, ...]) -> list[CustomerManagedKey]:
    def names(key: CustomerManagedKey) -> set[str]:
        return {key.metadata.name, f"{key.metadata.namespace}/{key.metadata.name}"}

    known = {name for key in keys for name in names(key)}
    if missing := [name for name in wanted if name not in known]:
        listed = ", ".join(sorted(name for name in known if "/" in name)) or "none"
        raise click.UsageError(f"no CustomerManagedKey {', '.join(missing)} refers to this tenant; there are: {listed}")
    return [key for key in keys if names(key) & set(wanted)]


def _choices(options: _Options) -> Choices:
    return Choices(
        resource_group=options["resource_group"],
        location=region_of(options["location"]) if options["location"] else None,
        subscription=options["subscription"],
        retention_days=options["retention_days"],
        key_size=int(options["key_size"]),
        hardware=options["hardware"],
        rotate_after_days=options["rotate_after"],
        expire_after_days=options["expire_after"],
        grant_on_vault=options["grant_on"] == "vault",
        reader=options["reader"],
        addresses=options["addresses"],
        workspace=options["log_workspace"],
    )


def _data(handover: Handover, choices: Choices, form: str | None) -> dict[str, Any]:
    data: dict[str, Any] = {
        "tenant": handover.tenant,
        "tenantId": handover.tenant_id,
        "cloud": handover.cloud.name.value,
        "application": {"clientId": handover.application, "displayName": handover.application_name},
        "consentUrl": handover.consent_url,
        "warnings": list(warnings(handover, choices)),
        "keys": [
            {"keyUri": str(key.uri), "protects": [use.protects for use in key.uses]}
            for vault in handover.vaults
            for key in vault.keys
        ],
        "steps": [
            {"title": step.title, "who": step.who, "why": step.why, "command": step.command or None}
            for step in steps(handover, choices)
        ],
    }
    if form is not None:
        data["file"] = {"name": FORMATS[form].file, "content": FORMATS[form].write(handover, choices)}
    return data


def _write(handover: Handover, choices: Choices, directory: Path, forms: list[str], *, force: bool) -> None:
    contents = {directory / FORMATS[form].file: (FORMATS[form].write(handover, choices), FORMATS[form]) for form in forms}
    different = [path for path, (text, _) in contents.items() if path.exists() and path.read_text(encoding="utf-8") != text]
    if different and not force:
        raise click.ClickException(f"{', '.join(map(str, different))} would be replaced: use --force, or another directory")
    directory.mkdir(parents=True, exist_ok=True)
    for path, (text, form) in contents.items():
        path.write_text(text, encoding="utf-8", newline="\n")
        if form.program:
            path.chmod(0o755)
        click.echo(str(path))


def _show(handover: Handover, choices: Choices) -> None:
    on = console()
    on.print(Text(f"For the administrator of tenant {handover.tenant_id}", style="bold"))
    for number, step in enumerate(steps(handover, choices), start=1):
        show_lines(on, f"{number}. {step.title}", [f"Who: {step.who}.", step.why])
        if step.command:
            show_command(on, step.command)
    on.print()
    on.print(Text("As files:", style="dim"))
    show_command(on, f"kubectl cmk handoff {handover.tenant} --write DIRECTORY")
