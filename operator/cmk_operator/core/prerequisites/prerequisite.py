"""One verdict on one thing that guards a key, and how much depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING

from cmk_operator.core.prerequisites.key_users import KeyUsers
from cmk_operator.core.prerequisites.vault_facts import VaultFacts, VaultUnseen

if TYPE_CHECKING:
    from cmk_operator.core.access.state import KeyProbe
    from cmk_operator.core.identifiers.key_uri import KeyUri


class Result(StrEnum):
    """Verdict on one prerequisite."""

    PASS = "Pass"  # noqa: S105 - a verdict, not a password
    FAIL = "Fail"
    UNKNOWN = "Unknown"


class Weight(Enum):
    """What a failure forbids."""

    HARD = "refused by Azure itself, and never waived"
    ENFORCED = "forbids new writes, unless the manifest says Warn"
    PROBED = "keeps the probe from passing, which forbids new writes and says it better"
    ADVISED = "told, and forbids nothing"


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """The verdict, who must do what, and the az command by which that person does it."""

    name: str
    result: Result
    message: str
    weight: Weight = Weight.ENFORCED
    command: str | None = None


@dataclass(frozen=True, slots=True)
class PrerequisiteFacts:
    """What the verdicts rest on."""

    probe: KeyProbe
    key: KeyUri
    application_client_id: str
    vault: VaultFacts | VaultUnseen = VaultUnseen.NOT_ASKED
    users: KeyUsers = KeyUsers()  # noqa: RUF009 - frozen, so it may be shared

    @property
    def vault_name(self) -> str:
        """Name of the vault."""
        return self.key.vault_host.partition(".")[0]

    @property
    def seen(self) -> VaultFacts | None:
        """The vault's control plane, when the grants show it."""
        return self.vault if isinstance(self.vault, VaultFacts) else None

    @property
    def vault_scope(self) -> str:
        """The vault's Resource Manager id, as an argument of az; a command that finds it while it is not known."""
        if self.seen is not None:
            return self.seen.resource_id.text
        return f'"$(az keyvault show --name {self.vault_name} --query id --output tsv)"'
