"""A refused or failed Azure call as a value: Azure's answer, without the SDK that raised it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.text.foreign_text import LONGEST_CODE, LONGEST_MESSAGE, cleaned, quoted, shown_code

_ENTRA_CODE: Final = re.compile(r"AADSTS(\d+)")
_KEY_VAULT_CODE: Final = re.compile(r"AKV(\d+)")


class Stage(StrEnum):
    """The hop of the trust path that failed, in order."""

    OPERATOR_TOKEN = "operator's token in the provider's tenant"  # noqa: S105 - a hop's name, not a secret
    APPLICATION_TOKEN = "application's token in the customer's tenant"  # noqa: S105 - a hop's name, not a secret
    SERVICE = "service"


BUDGET_SPENT: Final = "BudgetSpent"
"""Our own code: the call was not sent, because the operator's share of Azure's limits is used up."""
CHANGE_WITHDRAWN: Final = "ChangeWithdrawn"
"""Our own code: the change was not sent, because a manifest that allows it changed in the meantime."""


@dataclass(frozen=True, slots=True)
class AzureFailure:
    """One failed call: HTTP status (None: no answer came), Azure's codes and message, and its request id."""

    status: int | None
    code: str
    message: str
    inner_code: str = ""
    request_id: str | None = None
    retry_after: float | None = None
    stage: Stage = Stage.SERVICE
    read: bool = False
    """Whether the call was a read, so that no change was refused."""

    def __post_init__(self) -> None:
        """Clean what others wrote, once and for all: no token, no control character, nothing over-long."""
        for name, limit in (("code", LONGEST_CODE), ("inner_code", LONGEST_CODE), ("message", LONGEST_MESSAGE)):
            object.__setattr__(self, name, cleaned(getattr(self, name), limit))
        if self.request_id is not None:
            object.__setattr__(self, "request_id", cleaned(self.request_id, LONGEST_CODE))

    @property
    def entra_codes(self) -> frozenset[int]:
        """Numbers of the AADSTS codes in the message; resource providers include Entra's text in their own."""
        return frozenset(int(code) for code in _ENTRA_CODE.findall(self.message))

    @property
    def key_vault_codes(self) -> frozenset[int]:
        """Numbers of the AKV codes in the message (Key Vault's authentication refusals)."""
        return frozenset(int(code) for code in _KEY_VAULT_CODE.findall(self.message))

    @property
    def shown_code(self) -> str:
        """The code, cleaned for a message."""
        return shown_code(self.code)

    @property
    def quoted(self) -> str:
        """A quotation of Azure's message, cleaned for a status and ready to append to a message."""
        return quoted(self.message)

    @property
    def answered(self) -> bool:
        """Whether a server answered at all."""
        return self.status is not None

    @property
    def transient(self) -> bool:
        """Whether the same call may succeed later unchanged: no answer, throttling, or a server error."""
        return self.status is None or self.status in {408, 429} or self.status >= 500


@dataclass(frozen=True, slots=True)
class Unreadable(AzureFailure):
    """An answer that cannot be read: not a JSON object, or without required content. It says nothing about its subject."""

    status: int | None = None
    code: str = Reason.UNREADABLE.value
    message: str = ""
