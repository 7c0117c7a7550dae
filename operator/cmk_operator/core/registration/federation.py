"""Federated credentials of applications and managed identities: which is missing, and which is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cmk_operator.core.faults.fault import Actor, Fault, blocked
from cmk_operator.core.faults.reason import Reason

MOST_CREDENTIALS: Final = 20
"""Most federated credentials that an application or a managed identity can have.

Source: Entra "Important considerations and restrictions for federated identity credentials".
"""


@dataclass(frozen=True, slots=True)
class FederatedCredential:
    """A federated credential; Entra compares issuer, subject and audience exactly, case included."""

    issuer: str
    subject: str
    audiences: tuple[str, ...]
    name: str = ""

    def trusts(self, other: FederatedCredential) -> bool:
        """Whether this credential accepts the same tokens as `other`."""
        return (self.issuer, self.subject) == (other.issuer, other.subject) and bool(set(self.audiences) & set(other.audiences))


def missing_trust(
    owner: str, present: tuple[FederatedCredential, ...], wanted: FederatedCredential
) -> FederatedCredential | Fault | None:
    """The credential to write; None if a credential with any name already accepts the same tokens.

    A fault if another credential prevents it, or there is no room for one more.
    """
    if any(one.trusts(wanted) for one in present):
        return None
    ours = next((one for one in present if one.name == wanted.name), None)
    rival = next((one for one in present if (one.issuer, one.subject) == (wanted.issuer, wanted.subject)), None)
    if rival is not None and rival is not ours:
        return blocked(
            Reason.WRONG_CREDENTIAL_AUDIENCE,
            f"the federated credential {rival.name!r} of {owner} has issuer {wanted.issuer} and subject {wanted.subject}, of which "
            f"there can be only one, but audience {', '.join(rival.audiences)}: the provider's administrator must set it to "
            f"{wanted.audiences[0]} or remove the credential",
            Actor.PROVIDER_ADMINISTRATOR,
        )
    if ours is None and len(present) >= MOST_CREDENTIALS:
        return blocked(
            Reason.TOO_MANY_CREDENTIALS,
            f"{owner} has {len(present)} federated credentials, which is the maximum, and none is for issuer {wanted.issuer} and subject "
            f"{wanted.subject}: the provider's administrator must remove one that is no longer needed "
            f"({', '.join(sorted(one.name for one in present))})",
            Actor.PROVIDER_ADMINISTRATOR,
        )
    return wanted


def nearest_miss(present: tuple[FederatedCredential, ...], wanted: FederatedCredential) -> str:
    """What is wrong with the closest credential, for people; empty if none has the wanted issuer.

    Entra accepts any value when a credential is written, and refuses only when a token is exchanged.
    """
    for one in sorted(present, key=lambda entry: entry.name):
        if one.issuer.lower() != wanted.issuer.lower():
            continue
        wrong = [
            f"{what} {has!r}"
            for what, has, must in (
                ("issuer", one.issuer, wanted.issuer),
                ("subject", one.subject, wanted.subject),
                ("audience", ", ".join(one.audiences), ", ".join(wanted.audiences)),
            )
            if has != must
        ]
        if wrong:
            return f"its credential {one.name!r} has {' and '.join(wrong)}"
    return ""
