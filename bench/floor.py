"""The floor: the same calls to Azure and Kubernetes by a bare asyncio client, without an operator."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import ssl
import time
from typing import TYPE_CHECKING, Any

import aiohttp

from bench.fleet import VAULT, in_batches
from sandbox.kubernetes.objects import Objects

if TYPE_CHECKING:
    from pathlib import Path

    from bench.fleet import Fleet

STORAGE = "2026-09-01"
KEYS = "2025-07-01"
AUDIENCE = "api://AzureADTokenExchange"


class Floor:
    """Tokens by the same federation as the operator's, then one GET and one PATCH an account, and one status write."""

    def __init__(self, fleet: Fleet, env: dict[str, str], token_file: Path) -> None:
        self._fleet = fleet
        self._env = env
        self._token_file = token_file
        self._tls = ssl.create_default_context(cafile=env["SSL_CERT_FILE"])

    async def run(self, namespace: str) -> float:
        """Put every account of a namespace on its key; the seconds it took."""
        connector = aiohttp.TCPConnector(limit=64)
        async with aiohttp.ClientSession(connector=connector) as azure, Objects(self._fleet.cluster) as kubernetes:
            began = time.monotonic()
            arm = await self._managed_identity_token(azure, "https://management.azure.com/.default")
            vault = await self._application_token(azure)
            await in_batches(list(self._fleet.keys), lambda key: self._key(azure, kubernetes, vault, namespace, key))
            keys = list(self._fleet.keys)
            entries = list(enumerate(self._fleet.accounts[namespace]))
            await in_batches(entries, lambda e: self._account(azure, kubernetes, arm, namespace, e[1], keys[e[0] % len(keys)]))
            return time.monotonic() - began

    async def _call(
        self,
        session: aiohttp.ClientSession,
        method: str,
        url: str,
        token: str | None = None,
        **request: Any,  # noqa: ANN401 - aiohttp's own options
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        proxy = self._env["HTTPS_PROXY"]
        async with session.request(method, url, headers=headers, proxy=proxy, ssl=self._tls, **request) as response:
            answer: dict[str, Any] = json.loads(await response.read())
            response.raise_for_status()
            return answer

    async def _token(self, session: aiohttp.ClientSession, tenant: str, client: str, assertion: str, scope: str) -> str:
        form = {
            "grant_type": "client_credentials",
            "client_id": client,
            "scope": scope,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion,
        }
        url = f"https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"
        return str((await self._call(session, "POST", url, data=form))["access_token"])

    async def _managed_identity_token(self, session: aiohttp.ClientSession, scope: str) -> str:
        assertion = await asyncio.to_thread(self._token_file.read_text, encoding="ascii")
        identity = self._fleet.identity
        return await self._token(session, self._fleet.provider.tenant_id, identity.managed_identity_client_id, assertion, scope)

    async def _application_token(self, session: aiohttp.ClientSession) -> str:
        assertion = await self._managed_identity_token(session, f"{AUDIENCE}/.default")
        application = self._fleet.identity.application_client_id
        return await self._token(
            session, self._fleet.customer.tenant_id, application, assertion, "https://vault.azure.net/.default"
        )

    async def _key(self, azure: aiohttp.ClientSession, kubernetes: Objects, token: str, namespace: str, key: str) -> None:
        base = f"https://{VAULT}.vault.azure.net/keys/{key}"
        bundle = await self._call(azure, "GET", f"{base}?api-version={KEYS}", token)
        version = bundle["key"]["kid"].rsplit("/", 1)[-1]
        value = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
        for operation in ("wrapkey", "unwrapkey"):
            body = {"alg": "RSA-OAEP-256", "value": value}
            url = f"{base}/{version}/{operation}?api-version={KEYS}"
            value = (await self._call(azure, "POST", url, token, json=body))["value"]
        await self._status(kubernetes, "CustomerManagedKey", key, namespace)

    async def _account(
        self, azure: aiohttp.ClientSession, kubernetes: Objects, token: str, namespace: str, resource_id: str, key: str
    ) -> None:
        url = f"https://management.azure.com{resource_id}?api-version={STORAGE}"
        await self._call(azure, "GET", url, token)
        identity = self._fleet.identity
        body = {
            "identity": {
                "type": "UserAssigned",
                "userAssignedIdentities": {identity.managed_identity_resource_id: {}},
            },
            "properties": {
                "encryption": {
                    "keySource": "Microsoft.Keyvault",
                    "keyvaultproperties": {
                        "keyname": key,
                        "keyversion": "",
                        "keyvaulturi": f"https://{VAULT}.vault.azure.net",
                    },
                    "identity": {
                        "userAssignedIdentity": identity.managed_identity_resource_id,
                        "federatedIdentityClientId": identity.application_client_id,
                    },
                }
            },
        }
        await self._call(azure, "PATCH", url, token, json=body)
        await self._status(kubernetes, "EncryptedResource", resource_id.rsplit("/", 1)[-1], namespace)

    @staticmethod
    async def _status(kubernetes: Objects, kind: str, name: str, namespace: str) -> None:
        condition = {
            "type": "Ready",
            "status": "True",
            "observedGeneration": 1,
            "lastTransitionTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "reason": "Ready",
            "message": "put on the key by the bare client of the benchmark, with a message about as long as the operator's own",
        }
        body = {
            "apiVersion": "cmk-operator.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace},
            "status": {"observedGeneration": 1, "conditions": [condition]},
        }
        path = f"{kubernetes.path(kind, name, namespace)}/status"
        await kubernetes.call("PATCH", path, body, "application/apply-patch+yaml", fieldManager="floor", force="true")


def peak_memory(pid: int) -> float:
    """Largest resident set of a process so far, in MB (Linux: VmHWM)."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:  # noqa: PTH123 - a kernel file
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def processor_seconds(pid: int) -> float:
    """Processor time of a process so far, in seconds."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def started(pid: int) -> float:
    """When a process was started, in seconds since the start of the machine."""
    return int(_stat(pid)[19]) / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123 - a kernel file
        return stat.read().rsplit(")", 1)[1].split()
