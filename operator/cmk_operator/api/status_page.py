"""Generates the tables of docs/status.md from the vocabulary: conditions, states of access, reasons and events.

Run `make docs-tables` after every change of `core.conditions`, `core.faults.reason` or `core.access.state`; `make lint` and the
tests fail on drift.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.generated_page import write_or_check
from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.api.preflight import Preflight
from cmk_operator.core.access.state import AccessState
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.reason import EventReason, FaultKind, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PAGE: Final = Path("docs", "status.md")
_MARKED: Final = re.compile(r"(<!-- table: ([A-Za-z ]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)

CONDITIONS: Final[Mapping[str, tuple[ConditionType, ...]]] = MappingProxyType(
    {
        CustomerManagedKey.__name__: (
            ConditionType.READY,
            ConditionType.KEY_ACCESSIBLE,
            ConditionType.PREREQUISITES_MET,
            ConditionType.ROTATION_CURRENT,
            ConditionType.CONSENT_GRANTED,
            ConditionType.USERS_KNOWN,
        ),
        EncryptedResource.__name__: (
            ConditionType.READY,
            ConditionType.ENCRYPTED,
            ConditionType.KEY_ACCESSIBLE,
            ConditionType.KEY_CURRENT,
            ConditionType.DATA_COVERED,
        ),
        FederatedIdentity.__name__: (
            ConditionType.READY,
            ConditionType.REGISTERED,
            ConditionType.AUTHENTICATED,
            ConditionType.APPLICATION_FEDERATED,
        ),
        CustomerTenant.__name__: (
            ConditionType.READY,
            ConditionType.CONSENT_GRANTED,
            ConditionType.NOTIFICATIONS_DELIVERED,
            ConditionType.SCOPES_DISTINCT,
        ),
        OrganizationKey.__name__: (
            ConditionType.READY,
            ConditionType.CONFIGURATION_ACCEPTED,
            ConditionType.KEY_ACCESSIBLE,
            ConditionType.SERVING,
            ConditionType.CREDENTIAL_VALID,
            ConditionType.ROTATION_CURRENT,
            ConditionType.REWRAP_COMPLETE,
            ConditionType.LICENCE_ALLOWS_CHANGE,
            ConditionType.BREAK_GLASS_READY,
        ),
        Preflight.__name__: (ConditionType.COMPLETE,),
    }
)
"""The types that each kind always has, in their order; `Reconciling` and `Stalled` come while they are true."""

_ENDS: Final[Mapping[FaultKind | None, str]] = MappingProxyType(
    {
        None: "",
        FaultKind.INVALID: "when the manifest changes",
        FaultKind.BLOCKED: "when a person acts",
        FaultKind.BUSY: "by itself",
        FaultKind.INHERITED: "as its cause does",
    }
)


def tables() -> dict[str, str]:
    """Every generated table, by the name in its marker."""
    conditions = {f"conditions of {kind}": _conditions(types) for kind, types in CONDITIONS.items()}
    return {**conditions, "states of access": _states(), "reasons": _reasons(), "events": _events()}


def rendered(page: str) -> str:
    """The page with all its tables written anew."""
    return _MARKED.sub(lambda found: f"{found[1]}\n{tables()[found[2]]}\n{found[3]}", page)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells) + "\n"

    return line(head) + "|---" * len(head) + "|\n" + "".join(map(line, rows))


def _conditions(types: tuple[ConditionType, ...]) -> str:
    rows = ((f"`{one.value}`", one.when_true, one.when_false, one.when_unknown) for one in types)
    return _table(("condition", "True", "False", "Unknown"), rows)


def _states() -> str:
    return _table(
        ("state", "condition", "what it is", "who acts", "data stops"),
        (
            (
                f"`{state.value}`",
                "True" if state is AccessState.ACCESSIBLE else "False" if state.is_known_loss else "Unknown",
                state.reason.sentence,
                state.acts.value if state.acts is not None else "",
                _stops(state),
            )
            for state in AccessState
        ),
    )


def _stops(state: AccessState) -> str:
    if state is AccessState.ACCESSIBLE:
        return ""
    if state.is_known_loss:
        return "yes"
    return "if Azure's services cannot reach the vault either" if state.cuts_data_off else "no"


def _reasons() -> str:
    found = sorted(Reason, key=lambda reason: reason.value.lower())
    return _table(("reason", "meaning", "ends"), ((f"`{one.value}`", one.sentence, _ENDS[one.kind]) for one in found))


def _events() -> str:
    found = sorted(EventReason, key=lambda event: event.value.lower())
    return _table(("event", "meaning"), ((f"`{one.value}`", one.sentence) for one in found))


if __name__ == "__main__":
    sys.exit(
        write_or_check(
            "cmk_operator.api.status_page", PAGE, lambda path: rendered(path.read_text(encoding="utf-8")), "the vocabulary"
        )
    )
