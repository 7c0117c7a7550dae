"""The statements that are sent to Snowflake; nothing from a manifest gets into one but through `literal`.

System functions take no bind variables, so their arguments are written into the statement.
Source: Snowflake, "Tri-Secret Secure self-service in Snowflake" and the reference of each function.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cmk_operator.core.identifiers.key_uri import KeyUri

_HARMLESS: Final = re.compile(r"[A-Za-z0-9 ._:/,-]{1,512}")
"""No quotation mark and no backslash: nothing in it can end a literal or hide its end."""

INFO: Final = "SELECT SYSTEM$GET_CMK_INFO()"
VERIFY: Final = "SELECT SYSTEM$VERIFY_CMK_INFO()"
ACTIVATE: Final = "SELECT SYSTEM$ACTIVATE_CMK_INFO()"
REKEY: Final = "SELECT SYSTEM$ACTIVATE_CMK_INFO('REKEY_SAME_CMK')"
DEACTIVATE: Final = "SELECT SYSTEM$DEACTIVATE_CMK_INFO()"
PLATFORM_INFO: Final = "SELECT SYSTEM$GET_SNOWFLAKE_PLATFORM_INFO()"


class UnsafeTextError(ValueError):
    """A text holds signs that are never written into a statement."""


def literal(text: str) -> str:
    """A string literal; raises `UnsafeTextError` for anything but letters, digits and a few signs without meaning in SQL."""
    if not _HARMLESS.fullmatch(text):
        raise UnsafeTextError(f"{text!r} is not written into a statement")
    return f"'{text}'"


def register(key: KeyUri) -> str:
    """Register a key, which starts the 72 hours of waiting."""
    return f"SELECT SYSTEM$REGISTER_CMK_INFO({literal(key.vault_url)}, {literal(key.key_name)})"


def config(customer_tenant_id: str) -> str:
    """Ask for the consent URL and the name of Snowflake's application."""
    return f"SELECT SYSTEM$GET_CMK_CONFIG({literal(customer_tenant_id)})"


def justify(request_id: str, reason: str) -> str:
    """Give the reason that a request for approval needs before anyone is asked to approve it."""
    call = f"SYSTEM$UPDATE_MULTI_PARTY_APPROVAL_JUSTIFICATION({literal(request_id)}, {literal(reason)})"
    return f"SELECT {call}"
