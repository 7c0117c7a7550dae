"""`python -m sandbox.demo`: starts everything, plays the story, checks each step and prints what happened."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from sandbox import environment
from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, SandboxControl
from sandbox.administrators.snowflake import SnowflakeAdministrator
from sandbox.azure.process import AzureDidNotStartError
from sandbox.console_process import CHART_VALUES as CONSOLE_VALUES
from sandbox.demo.second_story import STEPS as SECOND_STEPS
from sandbox.demo.stage import MANIFESTS, NAMESPACES, Stage, StoryFailedError
from sandbox.demo.story import STEPS
from sandbox.keyservice_process import CHART_VALUES
from sandbox.kubernetes.cache import UnavailableProgramError
from sandbox.kubernetes.processes import ServerProcess
from sandbox.kubernetes.servers import ClusterError
from sandbox.operator_process import OperatorDidNotStartError, OperatorProcess, install_chart, start_operator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sandbox.demo.services import Services
    from sandbox.environment import Sandbox

KEY_CHECK_INTERVAL = 3
DRIFT_CHECK_INTERVAL = 5
IDENTITY_CHECK_INTERVAL = 5


@dataclass
class Played:
    """One line of the closing table."""

    title: str
    seen: str
    seconds: float
    passed: bool = True


def main() -> int:
    """Play the demo; exit status 0 if every step had the expected result, else 1."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave all running, and print how to go on by hand")
    parser.add_argument("--directory", type=Path, default=Path(".sandbox"), help="where files and logs go (default: .sandbox)")
    arguments = parser.parse_args()
    console = Console()
    if not console.is_terminal:
        console.width = 128
    played: list[Played] = []
    try:
        sandbox = environment.start(arguments.directory)
    except (ClusterError, AzureDidNotStartError, UnavailableProgramError) as error:
        console.print(f"[red]the sandbox did not start:[/red] {error}")
        return 1
    operator: OperatorProcess | None = None
    try:
        operator = _install(sandbox, console, played)
        asyncio.run(_play(sandbox, console, played, keep=arguments.keep))
    except (StoryFailedError, OperatorDidNotStartError) as error:
        played.append(Played("failed", str(error)[:2000], 0.0, passed=False))
        console.print(f"[red]failed:[/red] {error}", markup=True, highlight=False)
    finally:
        _report(console, played)
        if arguments.keep and operator is not None:
            _hand_over(console, sandbox, operator)
        else:
            _take_down(console, sandbox, operator, played)
    return 0 if all(step.passed for step in played) else 1


def _install(sandbox: Sandbox, console: Console, played: list[Played]) -> OperatorProcess:
    began = time.monotonic()
    for namespace in NAMESPACES:
        sandbox.cluster.kubectl("create", "namespace", namespace)
    install_chart(
        sandbox.cluster,
        # Where the Secret with Snowflake's key lies; no other Secret of the cluster may be read.
        f"rbac.secrets[0].namespace={NAMESPACES[0]},rbac.secrets[0].names={{snowflake-key}}",
        f"settings.keyCheckIntervalSeconds={KEY_CHECK_INTERVAL}",
        f"settings.driftCheckIntervalSeconds={DRIFT_CHECK_INTERVAL}",
        f"settings.identityCheckIntervalSeconds={IDENTITY_CHECK_INTERVAL}",
        *CHART_VALUES,
        *CONSOLE_VALUES,
    )
    operator = start_operator(sandbox.cluster, sandbox.env, sandbox.directory / "operator")
    ServerProcess.of("operator", operator.pid, sandbox.directory / environment.OPERATOR_RECORD)
    seconds = time.monotonic() - began
    seen = "helm installed the chart; the operator runs as its ServiceAccount, with only its RBAC"
    played.append(Played("The platform engineer installs the chart", seen, seconds))
    console.print(f"[green]✓[/green] {played[-1].title} ({seconds:.1f} s)")
    return operator


async def _play(sandbox: Sandbox, console: Console, played: list[Played], *, keep: bool) -> None:
    async with (
        ProviderAdministrator(sandbox.env) as provider,
        CustomerAdministrator(sandbox.env) as customer,
        SandboxControl(sandbox.env["SANDBOX_CONTROL"]) as control,
        SnowflakeAdministrator(sandbox.env, control) as snowflake,
    ):
        stage = Stage(sandbox.cluster, provider, snowflake, customer, control, dict(sandbox.env), sandbox.directory)
        try:
            await _tell(stage, STEPS, console, played)
            _show_targets(console, stage)
            console.print("The second story: a service encrypts before it stores, under the organization's own key")
            await _tell(stage, SECOND_STEPS, console, played)
            if keep:
                # The story ends with deleted manifests; whoever goes on by hand wants something to look at.
                await stage.apply(*MANIFESTS)
        finally:
            if stage.services is not None:
                _leave(stage.services, sandbox, console, played, keep=keep)


async def _tell(
    stage: Stage, steps: Sequence[tuple[str, Callable[[Stage], Awaitable[str]]]], console: Console, played: list[Played]
) -> None:
    for title, play in steps:
        began = time.monotonic()
        try:
            seen = await play(stage)
        except StoryFailedError as error:
            raise StoryFailedError(f"{title}: {error}") from error
        seconds = time.monotonic() - began
        played.append(Played(title, seen, seconds))
        console.print(f"[green]✓[/green] {title} ({seconds:.1f} s)")


def _leave(services: Services, sandbox: Sandbox, console: Console, played: list[Played], *, keep: bool) -> None:
    """End the console, the key service and PostgreSQL, or leave them to `make sandbox-down`."""
    running = services.key_service
    if keep:
        ServerProcess.of("key service", running.process.pid, sandbox.directory / environment.KEY_SERVICE_RECORD)
        console.print(f"key service: {running.url}, CA {running.ca_file}, log {running.log}", soft_wrap=True)
        if (page := services.console) is not None:
            ServerProcess.of("console", page.process.pid, sandbox.directory / environment.CONSOLE_RECORD)
            who = f"sign in as {page.account} with the password {page.password}"
            console.print(f"page for administrators: {page.url}/break-glass: {who}", soft_wrap=True, highlight=False)
        return
    status = services.stop()
    if status != 0:
        played.append(Played("the key service ends at SIGTERM", f"exit status {status}", 0.0, passed=False))
        console.print(f"[red]the key service ended with status {status}[/red]; see {running.log}")


def _show_targets(console: Console, stage: Stage) -> None:
    table = Table(title="Every target", show_lines=True)
    for name in ("kind", "target", "version", "access", "ready", "says"):
        table.add_column(name, overflow="fold")
    for row in stage.protected:
        table.add_row(*row)
    console.print(table)


def _report(console: Console, played: list[Played]) -> None:
    table = Table(title="What happened", show_lines=True)
    for name in ("", "step", "seen", "seconds"):
        table.add_column(name, overflow="fold", justify="right" if name == "seconds" else "left")
    for step in played:
        table.add_row("✓" if step.passed else "✗", step.title, step.seen, f"{step.seconds:.1f}")
    console.print(table)


def _hand_over(console: Console, sandbox: Sandbox, operator: OperatorProcess) -> None:
    console.print("Everything is left running. Go on by hand with:")
    for name, value in sandbox.env.items():
        if "SECRET" not in name:
            console.print(f"export {name}={shlex.quote(value)}", soft_wrap=True, highlight=False)
    console.print(f"(or, with the administrators' secrets: source {sandbox.directory}/env)", soft_wrap=True)
    console.print(f"operator: process {operator.pid}, log {operator.log}, metrics {operator.url}/metrics", soft_wrap=True)
    console.print("to end all of it: make sandbox-down", soft_wrap=True)


def _take_down(console: Console, sandbox: Sandbox, operator: OperatorProcess | None, played: list[Played]) -> None:
    if operator is not None:
        status = operator.stop()
        if status != 0:
            played.append(Played("the operator ends at SIGTERM", f"exit status {status}", 0.0, passed=False))
            console.print(f"[red]the operator ended with status {status}[/red]; see {operator.log}")
    sandbox.stop()


if __name__ == "__main__":
    sys.exit(main())
