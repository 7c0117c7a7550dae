"""Who calls, as the API server knows it, and on which object a right is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_PREFIX: Final = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated ServiceAccount with everything that a SubjectAccessReview asks for. It holds no token."""

    username: str
    uid: str
    groups: tuple[str, ...]
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def service(self) -> str:
        """The service that the caller is: its ServiceAccount as `namespace/name`."""
        return self.username.removeprefix(_PREFIX).replace(":", "/", 1)


@dataclass(frozen=True, slots=True)
class Place:
    """The OrganizationKey on which a right is asked, by namespace and name; both empty: on all in the cluster."""

    namespace: str = ""
    name: str = ""


def is_service_account(username: str) -> bool:
    """Whether a user is a ServiceAccount. Source: Kubernetes docs, "Authenticating", Service account tokens."""
    namespace, separator, name = username.removeprefix(_PREFIX).partition(":")
    return username.startswith(_PREFIX) and bool(namespace and separator and name)
