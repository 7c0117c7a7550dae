"""`python -m bench`: measures time, requests and memory at scale, next to the floor, in one run."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from bench import key_service, neighbours
from bench.detection import Detection
from bench.fleet import Fleet
from bench.kinds import Kinds
from bench.limits import GROUPS, SUBSCRIPTIONS, Limits
from bench.measurements import Bench, Row
from bench.shards import Shards
from sandbox import environment
from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, SandboxControl
from sandbox.kubernetes.objects import Objects
from sandbox.operator_process import install_chart

if TYPE_CHECKING:
    from sandbox.environment import Sandbox

OPERATOR, FLOOR = "rg-operator", "rg-floor"


def main() -> int:
    """Run the selected measurements and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--resources", type=int, help="EncryptedResources (default: 1000)")
    parser.add_argument("--keys", type=int, help="keys they are spread over (default: 50)")
    parser.add_argument("--steady-seconds", type=float, default=180.0, help="length of the steady state (default: 180)")
    parser.add_argument("--only-new", action="store_true", help="measure the first encryption only (for larger fleets)")
    parser.add_argument("--only-kinds", action="store_true", help="measure the requests of each kind of target only")
    parser.add_argument("--only-limits", action="store_true", help="measure the first encryption with Azure's limits only")
    parser.add_argument(
        "--detection",
        action="store_true",
        help="measure only how soon losses are detected and what the checks cost, with Azure's limits (by default 1,000 keys and 5,000 resources)",
    )
    parser.add_argument(
        "--neighbours",
        action="store_true",
        help="measure only what a victim notices of the attacks of a neighbour, with Azure's limits (docs/benchmarks.md)",
    )
    parser.add_argument(
        "--key-service",
        action="store_true",
        help="measure only what the key service costs, in its own process and in its database (about 3 minutes)",
    )
    parser.add_argument("--shards", type=int, help="measure only the first encryption by so many operators of one cluster")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    if arguments.neighbours:
        arguments.keys = neighbours.KEYS
    arguments.resources = arguments.resources or (5000 if arguments.detection else 1000)
    arguments.keys = arguments.keys or (1000 if arguments.detection else 50)
    console = Console(soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="cmk-operator-bench-") as folder:
        sandbox = environment.start(Path(folder) / "sandbox")
        try:
            measuring = (
                key_service.measure(sandbox, console) if arguments.key_service else _measure(sandbox, arguments, console)
            )
            rows = asyncio.run(measuring)
        finally:
            sandbox.stop()
    what = f"{arguments.resources} resources on {arguments.keys} keys"
    if arguments.neighbours or arguments.key_service:
        what = "What a neighbour does" if arguments.neighbours else "What the key service costs"
    table = Table(title=f"{what}; {platform.python_version()}, {os.cpu_count()} cores")
    for name in ("what", "figure", "remark"):
        table.add_column(name, justify="right" if name == "figure" else "left")
    for row in rows:
        table.add_row(row.what, row.figure, row.remark)
    Console(width=140).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps([vars(row) for row in rows], indent=1), encoding="utf-8")
    return 0


async def _measure(sandbox: Sandbox, arguments: argparse.Namespace, console: Console) -> list[Row]:
    install_chart(sandbox.cluster)
    async with (
        ProviderAdministrator(sandbox.env) as provider,
        CustomerAdministrator(sandbox.env) as customer,
        SandboxControl(sandbox.env["SANDBOX_CONTROL"]) as control,
        Objects(sandbox.cluster) as objects,
    ):
        identity = await provider.prepare(issuer=sandbox.cluster.issuer)
        fleet = Fleet(sandbox.cluster, objects, provider, customer, control, identity)
        bench = Bench(fleet, sandbox.env, sandbox.directory)
        console.print("preparing keys, accounts and manifests …")
        await fleet.prepare(arguments.keys // 2 if arguments.detection else arguments.keys)
        if arguments.detection:
            await fleet.add_keys_with_own_grants(arguments.keys // 2)
        if arguments.neighbours:
            await fleet.add_keys_with_own_grants(neighbours.SILENT_KEYS)
            return await neighbours.Neighbours(fleet, bench, console).measure()
        if arguments.shards:
            return await Shards(fleet, bench).measure(arguments.resources, arguments.shards)
        await fleet.add_subscriptions(SUBSCRIPTIONS)
        await fleet.apply_tenant((OPERATOR, FLOOR, *GROUPS))
        if arguments.only_limits:
            return await Limits(fleet, bench).measure(arguments.resources)
        if arguments.only_kinds:
            return await Kinds(fleet, bench, sandbox.env).measure()
        for group in (OPERATOR,) if arguments.detection else (OPERATOR, FLOOR):
            await fleet.create_accounts(group, arguments.resources)
        await fleet.apply_keys(OPERATOR)
        await fleet.apply_resources(OPERATOR)
        if arguments.detection:
            return await Detection(fleet, bench, console, OPERATOR).measure()
        # The floor writes status as well; its manifests come when the operator no longer runs.
        console.print("all new …")
        rows = await bench.new_with_floor(OPERATOR, FLOOR)
        if arguments.only_new:
            return rows
        await fleet.remove(FLOOR)
        console.print("restart …")
        more, operator = await bench.restart(OPERATOR)
        rows += more
        try:
            console.print(f"steady state, {arguments.steady_seconds:.0f} s …")
            rows += await bench.steady(operator, OPERATOR, arguments.steady_seconds)
        finally:
            operator.stop()
        for interval in (None, "5"):
            console.print(f"detection at {interval or 'the default'} interval …")
            rows += await bench.detection(OPERATOR, interval)
        await fleet.remove(OPERATOR)
        console.print("all new, with Azure's limits …")
        rows += await Limits(fleet, bench).measure(arguments.resources)
        console.print("the requests of each kind …")
        rows += await Kinds(fleet, bench, sandbox.env).measure()
    return rows


if __name__ == "__main__":
    sys.exit(main())
