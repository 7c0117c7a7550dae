"""Snowflake has no list of accounts: an account is seen only with a manifest that names a user for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.providers.user_lists import UserList


def make_user_lists(session: AzureSession) -> tuple[UserList, ...]:  # noqa: ARG001 - there is nothing to list
    """None."""
    return ()
