"""Reads keys and the settings of their vaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmk_operator.azure.prober import KeyProber
    from cmk_operator.azure.vault_reader import VaultReader


@dataclass(frozen=True, slots=True)
class KeyReading:
    """The prober of keys and the reader of vault settings."""

    prober: KeyProber
    vaults: VaultReader
