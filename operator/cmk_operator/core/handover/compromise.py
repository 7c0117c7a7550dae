"""The steps that replace a compromised key version, in order: a new version, everything moved to it, the old one disabled.

Sources: Key Vault, "Configure cryptographic key auto-rotation" (rotate on demand); azure-cli, `az keyvault key rotate` and
`set-attributes`; Azure Storage, "Customer-managed keys for account encryption" (a new version wraps the data key again; the data
is not encrypted again).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cmk_operator.core.faults.fault import Actor
from cmk_operator.core.handover.shell import Variable, captured, line, quoted, when
from cmk_operator.core.handover.steps import Step

if TYPE_CHECKING:
    from cmk_operator.core.identifiers.key_uri import KeyUri

ROTATES: Final = "customer's administrator (Key Vault Crypto Officer on the key)"
PLATFORM: Final = Actor.PLATFORM_ENGINEER.value
NEW_VERSION: Final = "Create a new version of the key"
WAIT: Final = "Wait until nothing is on the old version"
DISABLE: Final = "Disable the old version"
_PLURAL: Final = "customermanagedkeys.cmk-operator.dev"


@dataclass(frozen=True, slots=True)
class Compromise:
    """A compromised version, and how its manifest moves to a new one."""

    tenant_id: str | None
    """The customer's tenant; None if the user may not read it."""
    key: KeyUri
    version: str
    namespace: str
    name: str
    pinned: bool
    by_operator: bool
    needs_approval: bool


def steps_away(case: Compromise) -> tuple[Step, ...]:
    """All steps; the customer's commands are for bash and the az CLI, and the platform engineer's for kubectl."""
    return (_new_version(case), *_follow(case), _watch(case), _disable(case))


def _vault(case: Compromise) -> tuple[str, ...]:
    name = case.key.key_name
    # A key may be named -h or --force: beside its option it would be an option itself.
    named = (f"--name={name}",) if name.startswith("-") else ("--name", name)
    return ("--vault-name", case.key.vault_name, *named)


def _in_the_right_tenant(case: Compromise, *commands: str) -> str:
    if case.tenant_id is None:
        return "\n".join(commands)
    tenant = case.tenant_id.lower()
    hint = line("echo", f"Sign in first: az login --tenant {tenant}")
    return "\n".join(
        (
            captured("TENANT", "az", "account", "show", "--query", "tenantId", "--output", "tsv"),
            when(f"[ {quoted(Variable('TENANT'))} != {quoted(tenant)} ]", f"{hint} >&2", "exit 1"),
            *commands,
        )
    )


def _new_version(case: Compromise) -> Step:
    why = (
        "The new version wraps the data keys again. The data itself is not encrypted again: whoever has the old version and a copy "
        "of a data key that it wrapped can read copies of the data that were made until now."
    )
    rotate = line("az", "keyvault", "key", "rotate", *_vault(case), "--query", "key.kid", "--output", "tsv")
    return Step(NEW_VERSION, ROTATES, why, _in_the_right_tenant(case, rotate))


def _follow(case: Compromise) -> tuple[Step, ...]:
    shown = f"{case.namespace}/{case.name}"
    if case.pinned:
        why = (
            "The manifest pins a version, so nothing moves automatically. If the manifest is in a repository, change it there."
        )
        patch = json.dumps({"spec": {"keyUri": f"{case.key.versionless}/NEW_VERSION"}}, separators=(",", ":"))
        return (Step("Change the manifest to the new version", PLATFORM, why, _patch(case, patch)),)
    if case.needs_approval:
        why = "Each new version of this key needs an approval. Once it has passed the probe, it is status.pendingVersion."
        command = line("kubectl", "cmk", "approve", shown, "NEW_VERSION")
        return (Step("Approve the new version", PLATFORM, why, command),)
    if not case.by_operator:
        why = (
            "Azure's services move to a new version within a day. With this change the operator moves each resource at once. If the "
            "manifest is in a repository, change it there."
        )
        patch = json.dumps({"spec": {"rotation": {"apply": "Immediately"}}}, separators=(",", ":"))
        return (Step("Do not wait for Azure's schedule", PLATFORM, why, _patch(case, patch)),)
    return ()


def _patch(case: Compromise, patch: str) -> str:
    return line("kubectl", "patch", _PLURAL, case.name, "--namespace", case.namespace, "--type", "merge", "--patch", patch)


def _watch(case: Compromise) -> Step:
    why = "The old version must stay enabled until then: Azure unwraps with it once more when a resource moves."
    shown = f"{case.namespace}/{case.name}"
    command = line("kubectl", "cmk", "compromised", shown, "--version", case.version, "--watch")
    return Step(WAIT, PLATFORM, why, command)


def _disable(case: Compromise) -> Step:
    why = (
        "Not before: whatever is still on it stops. Backups that need it can no longer be restored: make new ones first. If the "
        "customer prefers to stop everything at once, do this step first; kubectl cmk impact shows what it stops."
    )
    disable = line(
        *("az", "keyvault", "key", "set-attributes", *_vault(case)),
        *("--version", case.version, "--enabled", "false", "--output", "none"),
    )
    return Step(DISABLE, ROTATES, why, _in_the_right_tenant(case, disable))
