"""Checks whether Key Vault fails over from the vault's region, by what Microsoft documents about the region."""

from __future__ import annotations

from cmk_operator.core.identifiers.region_failover import DURING, READ_ON, SOURCE, failover_of
from cmk_operator.core.prerequisites.control_plane import why_not_visible
from cmk_operator.core.prerequisites.prerequisite import Prerequisite, PrerequisiteFacts, PrerequisiteName, Result, Weight


def check_failover(facts: PrerequisiteFacts) -> Prerequisite:
    """Judge the failover of the vault's region; Unknown, which blocks nothing, if the region or its failover is not known."""
    name, region = PrerequisiteName.REGION_FAILOVER, facts.vault_region
    weight = Weight.REQUIRED if facts.requires_failover else Weight.ADVISED
    if region is None:
        unseen, command = why_not_visible(facts)
        return Prerequisite(
            name, Result.UNKNOWN, f"the vault does not report its region; {unseen}".rstrip("; "), weight, command
        )
    found = failover_of(region)
    if found is None:
        message = f"the vault is in {region}, which the table of {READ_ON} does not list: the provider's administrator should check {SOURCE}"
        return Prerequisite(name, Result.UNKNOWN, message, weight)
    if found.pair is not None:
        message = f"Key Vault fails over from {region} to {found.pair}. {DURING}"
        return Prerequisite(name, Result.PASS, message, weight)
    message = (
        f"Key Vault does not fail over from {region} to another region: {found.why} (table of {READ_ON}). While that region is down, "
        "everything on the key is down: the customer's administrator must provide a key in a vault of a paired region"
    )
    return Prerequisite(name, Result.FAIL, message, weight)
