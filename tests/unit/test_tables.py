"""Memory follows the manifests: of a thousand keys that came and went nothing is left."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cmk_operator.azure.credentials import IdentityChain
from cmk_operator.azure.key_vault import ProbedKey
from cmk_operator.azure.prober import KeyProber
from cmk_operator.azure.session import AzureSession, TokenFile
from cmk_operator.azure.table import UNUSED_FOR, Table
from cmk_operator.azure.vault_reader import ReadVault, VaultReader
from cmk_operator.core.identifiers.cloud import CLOUDS, CloudName
from cmk_operator.core.identifiers.key_uri import parse_key_uri
from cmk_operator.telemetry import Telemetry
from tests.unit.samples import APPLICATION, CLIENT, CUSTOMER, PROVIDER

if TYPE_CHECKING:
    from pathlib import Path

KEYS: Final = 1000
CHAIN: Final = IdentityChain(CLOUDS[CloudName.PUBLIC], PROVIDER, CLIENT, APPLICATION, by_service_account=False)


class Clock:
    """Seconds, moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_table_forgets_only_what_nothing_has_asked_for_in_an_hour() -> None:
    clock = Clock()
    table: Table[int, list[int]] = Table(lambda key: [key], clock)
    first = table[1]
    clock.now = 0.6 * UNUSED_FOR
    assert table[2] == [2]
    assert table[1] is first
    clock.now = 1.2 * UNUSED_FOR
    assert table.find(2) == [2]
    clock.now = 1.61 * UNUSED_FOR
    table.drop_unused()
    assert len(table) == 0, "to look is not to ask"


async def test_a_thousand_keys_that_came_and_went_leave_nothing_in_memory(tmp_path: Path) -> None:
    clock = Clock()
    async with (
        AzureSession(Telemetry(), TokenFile(None), monotonic=clock) as signed_out,
        AzureSession(Telemetry(), TokenFile(tmp_path / "token"), monotonic=clock) as session,
    ):
        prober = KeyProber(signed_out, lambda: datetime.now(UTC), 16, clock)
        vaults = VaultReader(signed_out, 60.0)

        async def look(number: int) -> None:
            uri = parse_key_uri(f"https://contoso{number // 4}.vault.azure.net/keys/key-{number}")
            await prober.check(ProbedKey(CHAIN, CUSTOMER, uri), frozenset(), 45.0, number, lambda: None)
            await vaults.read(ReadVault(CHAIN, CUSTOMER, uri.vault_host), 0.0)
            session.keys(CHAIN, CUSTOMER, uri.vault_url)

        def drop() -> tuple[int, int, int]:
            prober.drop_unused()
            vaults.drop_unused()
            session.drop_unused()
            return prober.held(), vaults.held(), session.held()

        for number in range(KEYS):
            await look(number)
        keys, read, clients = drop()
        assert keys >= KEYS
        assert read == KEYS / 4
        assert clients >= KEYS / 4
        clock.now += UNUSED_FOR / 2
        await look(0)
        clock.now += UNUSED_FOR / 2 + 1
        keys, read, clients = drop()
        assert 1 <= keys <= 4
        assert read == 1
        assert 1 <= clients <= 4
        clock.now += UNUSED_FOR
        assert drop() == (0, 0, 0)
