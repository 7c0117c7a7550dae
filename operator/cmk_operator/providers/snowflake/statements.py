"""The statements that are sent to Snowflake. All text from a manifest goes through `literal`.

System functions accept no bind variables, so their arguments are written into the statement.
Source: Snowflake, "Tri-Secret Secure self-service in Snowflake" and the reference of each function.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cmk_operator.core.identifiers.key_uri import KeyUri

_HARMLESS: Final = re.compile(r"[A-Za-z0-9 ._:/,-]{1,512}")
"""Without quotation marks and backslashes, so that the text cannot end a literal."""

INFO: Final = "SELECT SYSTEM$GET_CMK_INFO()"
VERIFY: Final = "SELECT SYSTEM$VERIFY_CMK_INFO()"
ACTIVATE: Final = "SELECT SYSTEM$ACTIVATE_CMK_INFO()"
REKEY: Final = "SELECT SYSTEM$ACTIVATE_CMK_INFO('REKEY_SAME_CMK')"
DEACTIVATE: Final = "SELECT SYSTEM$DEACTIVATE_CMK_INFO()"
PLATFORM_INFO: Final = "SELECT SYSTEM$GET_SNOWFLAKE_PLATFORM_INFO()"


class UnsafeTextError(ValueError):
    """A text contains characters that are not allowed in a statement."""


def literal(text: str) -> str:
    """A string literal. Raises `UnsafeTextError` for other characters than letters, digits, spaces and `._:/,-`."""
    if not _HARMLESS.fullmatch(text):
        raise UnsafeTextError(f"{text!r} has characters that are not allowed in a statement")
    return f"'{text}'"


def register(key: KeyUri) -> str:
    """The statement that registers a key, which starts the wait of 72 hours."""
    return f"SELECT SYSTEM$REGISTER_CMK_INFO({literal(key.vault_url)}, {literal(key.key_name)})"


def config(customer_tenant_id: str) -> str:
    """The statement that returns the consent URL and the name of Snowflake's application."""
    return f"SELECT SYSTEM$GET_CMK_CONFIG({literal(customer_tenant_id)})"


def justify(request_id: str, reason: str) -> str:
    """The statement that sets the reason of an approval request; approvers are notified only after that."""
    call = f"SYSTEM$UPDATE_MULTI_PARTY_APPROVAL_JUSTIFICATION({literal(request_id)}, {literal(reason)})"
    return f"SELECT {call}"
