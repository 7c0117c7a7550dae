"""Environment variables that look like settings and are none: misspelled ones would be ignored without a word."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_HOST: Final = "_SERVICE_HOST"
"""End of the first variable that Kubernetes sets for a Service. Source: kubernetes.io/docs/concepts/services-networking/service/#environment-variables."""


def unknown_settings(variables: Collection[str], prefix: str, known: Collection[str]) -> tuple[str, ...]:
    """One complaint for each variable with the prefix that is none of `known`, with the nearest name that is.

    Names are compared without regard to case, as the settings are read. A pod's variables for a Service whose name begins like the
    prefix are Kubernetes' own, and no complaint.
    """
    names = sorted(name.upper() for name in variables)
    of_services = tuple(_of_services(names))
    return tuple(
        f"{name} is no setting{_nearest(name.removeprefix(prefix), prefix, known)}"
        for name in names
        if name.startswith(prefix) and name not in known and not name.startswith(of_services)
    )


def _of_services(names: Collection[str]) -> Iterator[str]:
    for name in names:
        if name.endswith(_HOST):
            service = name.removesuffix(_HOST)
            yield from (f"{service}_SERVICE_", f"{service}_PORT")


def _nearest(name: str, prefix: str, known: Collection[str]) -> str:
    found = get_close_matches(name, sorted(each.removeprefix(prefix) for each in known), n=1, cutoff=0.5)
    return f": rename it to {prefix}{found[0]}, or remove it" if found else ": remove it"
