"""The commands by name: a new one is a module beside this and one line here."""

from __future__ import annotations

import click

from cmk_operator import __version__
from cmk_operator.cli.approve import approve
from cmk_operator.cli.audit import audit
from cmk_operator.cli.cluster import connection_options
from cmk_operator.cli.compromised import compromised
from cmk_operator.cli.events import events
from cmk_operator.cli.handoff import handoff
from cmk_operator.cli.impact import show_impact
from cmk_operator.cli.preflight import preflight
from cmk_operator.cli.status import status
from cmk_operator.cli.version import version
from cmk_operator.cli.versions import versions


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(version)s")
@connection_options
@click.pass_context
def cmk(context: click.Context, /, **connection: object) -> None:
    """Customer-managed keys in the customers' own tenants."""
    context.obj = {name: value for name, value in connection.items() if value}


cmk.add_command(approve)
cmk.add_command(audit)
cmk.add_command(compromised)
cmk.add_command(events)
cmk.add_command(handoff)
cmk.add_command(show_impact)
cmk.add_command(preflight)
cmk.add_command(status)
cmk.add_command(version)
cmk.add_command(versions)
