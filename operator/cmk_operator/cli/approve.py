"""`kubectl cmk approve`: approves the version of a key to which resources may move, by one annotation."""

from __future__ import annotations

import click

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.model import APPROVED_VERSION
from cmk_operator.cli.cluster import Cluster, cluster_options
from cmk_operator.cli.presentation import output_option, show_json
from cmk_operator.core.identifiers.key_uri import KEY_VERSION


@click.command()
@click.argument("name", metavar="[NAMESPACE/]KEY")
@click.argument("version")
@click.option("--force", is_flag=True, help="Also approve a version that does not wait for approval.")
@output_option()
@cluster_options
def approve(cluster: Cluster, name: str, version: str, output: str | None, *, force: bool) -> None:
    """Approve VERSION of KEY (a CustomerManagedKey with rotation.approval Manual). This sets one annotation.

    The operator still moves resources only to the latest version, and only if it passes the probe.
    """
    key = cluster.find(CustomerManagedKey, name)
    version = version.lower()
    if not KEY_VERSION.fullmatch(version):
        raise click.UsageError(f"{version!r} is not a complete version: it has 32 hexadecimal digits")
    if not force and (refusal := why_not(key, version)) is not None:
        raise click.ClickException(f"{refusal}; use --force to set the annotation anyway")
    cluster.annotate(CustomerManagedKey, key, APPROVED_VERSION, version)
    shown = f"{key.metadata.namespace}/{key.metadata.name}"
    if output == "json":
        show_json({"key": shown, "approvedVersion": version})
    else:
        click.echo(f"{shown}: version {version} is approved")


def why_not(key: CustomerManagedKey, version: str) -> str | None:
    """Why a version needs no approval, or is not the one that waits for it; None if it is."""
    if version == key.status.pending_version:
        return None
    if key.status.pending_version is not None:
        return f"version {key.status.pending_version} waits for approval, not {version}"
    if version == key.status.active_version:
        return f"version {version} is already active"
    effective = key.status.effective
    if effective is not None and effective.approval != "Manual":
        return "this key needs no approval (spec.rotation.approval is not Manual)"
    return "no version waits for approval: a new version does so once it has passed the probe"
