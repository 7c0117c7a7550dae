"""Who a person is by a verified id_token, and what an OrganizationKey lets them do. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cmk_keyservice.console.accounts import Account
    from cmk_operator.api.organization_key import Member, OrganizationKeySpec

LONGEST_NAME = 120
BREAK_GLASS = "break-glass:"


class Role(IntEnum):
    """What a person may do with an organization's encryption; a later one includes those before."""

    NONE = 0
    VIEWER = 1
    ADMINISTRATOR = 2


@dataclass(frozen=True)
class Person:
    """Somebody who has signed in. `name` is only shown: the identity provider's users may change it."""

    subject: str
    name: str
    groups: frozenset[str]
    administers: frozenset[str] = frozenset()
    """OrganizationKeys (namespace/name) that a break-glass account administers; nobody else has any here."""

    @property
    def recorded(self) -> str:
        """As the record names them: first the subject, because people may choose a name that looks like another's subject."""
        return f"{self.subject} ({self.name})"


def person_of_account(account: Account) -> Person:
    """The person of a break-glass account. An identity provider's subject never begins like this one."""
    return Person(f"{BREAK_GLASS}{account.name}", account.person, frozenset(), account.organizations)


def person_of(claims: Mapping[str, Any], subject_claim: str) -> Person | str:
    """The person of an id_token's verified claims, or the sentence that says why they cannot be known.

    Groups that Entra leaves out, because they are too many, are never taken for no groups: somebody would lose access silently.
    """
    subject = claims.get(subject_claim)
    if not isinstance(subject, str) or not subject:
        return (
            f"The identity provider named no {subject_claim}: the provider must set --subject-claim to a claim that it sends."
        )
    if subject.startswith(BREAK_GLASS):
        return "The identity provider sent a subject that looks like a break-glass account: the provider must look at it."
    if "groups" in (claims.get("_claim_names") or {}):
        return (
            "You are in more groups than an id_token holds. Ask the provider to let the identity provider send only the groups "
            "that are assigned to this application."
        )
    groups = claims.get("groups")
    named = next((claims[one] for one in ("preferred_username", "email", "name") if isinstance(claims.get(one), str)), subject)
    shown = "".join(letter if letter.isprintable() else " " for letter in named)[:LONGEST_NAME].strip() or subject
    return Person(
        subject, shown, frozenset(one for one in groups if isinstance(one, str)) if isinstance(groups, list) else frozenset()
    )


def _named(members: Iterable[Member] | None, person: Person) -> bool:
    return any(
        (one.subject is not None and one.subject == person.subject) or (one.group is not None and one.group in person.groups)
        for one in members or ()
    )


def role_of(path: str, spec: OrganizationKeySpec, person: Person) -> Role:
    """The person's role in the organization; `path` is the object's namespace/name."""
    if path in person.administers or _named(spec.administrators, person):
        return Role.ADMINISTRATOR
    return Role.VIEWER if _named(spec.viewers, person) else Role.NONE
