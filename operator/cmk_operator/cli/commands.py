"""The commands by name: a new one is a module beside this and one line here."""

from __future__ import annotations

from importlib.metadata import version

import click

from cmk_operator.cli.audit import audit
from cmk_operator.cli.handoff import handoff


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("cmk-operator"), message="%(version)s")
def cmk() -> None:
    """Customer-managed keys in the customers' own tenants."""


cmk.add_command(audit)
cmk.add_command(handoff)
