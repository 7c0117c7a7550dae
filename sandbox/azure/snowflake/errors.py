"""Snowflake's refusals. The codes are Snowflake's own where a source shows them; README.md lists the others."""

from __future__ import annotations

import uuid

from sandbox.azure.errors import SnowflakeRefusedError


def compilation_error(code: str, message: str, state: str) -> SnowflakeRefusedError:
    """A statement that cannot be run."""
    return SnowflakeRefusedError(422, code, f"SQL compilation error:\n{message}", sql_state=state)


def failed(message: str) -> SnowflakeRefusedError:
    """A system function that refuses, in words only: no source shows its code."""
    return SnowflakeRefusedError(422, "100351", message, sql_state="P0000")


def access_denied(account: str) -> SnowflakeRefusedError:
    """The role lacks the privilege."""
    message = f"SQL access control error:\nInsufficient privileges to operate on account '{account}'"
    return SnowflakeRefusedError(422, "003001", message, sql_state="42501")


def not_signed_in(code: str, message: str) -> SnowflakeRefusedError:
    """No session."""
    return SnowflakeRefusedError(401, code, message, sql_state="08001")


def invalid_token() -> SnowflakeRefusedError:
    """A JSON Web Token that is not accepted: Snowflake tells the client nothing more than a number to ask about."""
    return not_signed_in("390144", f"JWT token is invalid. [{uuid.uuid4()}]")
