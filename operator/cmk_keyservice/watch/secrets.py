"""Reads one entry of one Secret, when it is needed; Secrets are never listed or watched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_keyservice.vaults.credentials import unreadable_secret
from cmk_operator.core.faults.fault import Actor, Fault
from cmk_operator.core.identifiers.secret_key import SecretKey
from cmk_operator.kubernetes.client import KubernetesError
from cmk_operator.kubernetes.secrets import read_secret

if TYPE_CHECKING:
    from cmk_keyservice.problem import Problem
    from cmk_operator.kubernetes.client import KubernetesClient


async def read_entry(client: KubernetesClient, namespace: str, name: str, entry: str) -> bytes | Problem:
    """The value; a problem that says what must be done if it cannot be read."""
    shown = f"Secret {namespace}/{name}"
    try:
        found = await read_secret(client, SecretKey(namespace, name, entry), Actor.CUSTOMER_ADMINISTRATOR)
    except KubernetesError as error:
        return unreadable_secret(shown, f"was not read ({error.status})", "Retry. If it lasts, look at the API server.")
    if isinstance(found, Fault):
        what, _, who = found.message.partition(": ")
        return unreadable_secret(
            shown,
            what.removeprefix(shown)
            .replace(f"the operator may not read {shown}", "may not be read by the key service")
            .strip(),
            f"{who[:1].upper()}{who[1:]}.",
        )
    return found
