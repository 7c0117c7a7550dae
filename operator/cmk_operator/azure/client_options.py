"""The options with which every client of an Azure SDK is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from cmk_operator.azure.call_budget import BudgetedTransport


class ClientOptions(TypedDict):
    """The options of azure-core's pipelines that this operator sets; timeouts and the backoff factor in seconds."""

    transport: BudgetedTransport
    retry_total: int
    retry_connect: int
    retry_read: int
    retry_status: int
    retry_backoff_factor: float
    permit_redirects: bool
    connection_timeout: float
    read_timeout: float
    user_agent: str
