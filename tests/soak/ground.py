"""What all episodes share: a cluster with the chart, a simulated Azure, both administrators, and the operator's tokens."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl
from sandbox.azure.timings import WITHOUT_DELAYS, WITHOUT_LIMITS
from sandbox.kubernetes.objects import Objects
from sandbox.operator_process import NAMESPACE, SERVICE_ACCOUNT, audience_of_deployment
from tests.soak.incarnation import Place
from tests.soak.virtual_time import VirtualTime

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from sandbox.kubernetes.cluster import Cluster

LONG_AGO = 1_000_000.0
TOKEN_SECONDS = 8 * 3600


@dataclass
class Ground:
    """Open sessions of everybody; `count` numbers what may not have the same name twice."""

    objects: Objects
    provider: ProviderAdministrator
    customer: CustomerAdministrator
    control: SandboxControl
    identity: ProviderIdentity
    place: Place
    time: VirtualTime
    taken: list[str] = field(default_factory=list)

    def name(self) -> str:
        """A name that no episode had."""
        self.taken.append(f"soak{len(self.taken)}")
        return self.taken[-1]


@asynccontextmanager
async def opened(cluster: Cluster, env: Mapping[str, str], directory: Path) -> AsyncIterator[Ground]:
    """Prepare the provider's side; the chart is installed already. The variables of the simulated Azure become this process's."""
    token = cluster.service_account_token(NAMESPACE, SERVICE_ACCOUNT, seconds=TOKEN_SECONDS)
    file = directory / "soak-azure-token"
    file.touch(mode=0o600)
    audience = audience_of_deployment(cluster)
    file.write_text(cluster.service_account_token(NAMESPACE, SERVICE_ACCOUNT, audience, TOKEN_SECONDS), encoding="ascii")
    names = ("HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: env[name] for name in names})
    try:
        async with AsyncExitStack() as stack:
            objects = await stack.enter_async_context(Objects(cluster))
            provider = await stack.enter_async_context(ProviderAdministrator(env))
            customer = await stack.enter_async_context(CustomerAdministrator(env))
            control = await stack.enter_async_context(SandboxControl(env["SANDBOX_CONTROL"]))
            await control.set_timings(**WITHOUT_LIMITS, **WITHOUT_DELAYS)
            identity = await provider.prepare(issuer=cluster.issuer)
            time = VirtualTime(control)
            await time.leap(LONG_AGO)
            yield Ground(
                objects=objects,
                provider=provider,
                customer=customer,
                control=control,
                identity=identity,
                place=Place(cluster.server, cluster.ca_file, token, file),
                time=time,
            )
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
