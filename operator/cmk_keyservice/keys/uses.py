"""What a data key serves. It serves one use only, which its purpose in the table tells.

Data that is encrypted here (`orders`), keys of callers that are wrapped here (`wrap/orders`), indexes (`index/orders`), and keys
that leave the service on a lease (`leased/orders`). So the right to one use is never the right to another.
"""

from __future__ import annotations

from typing import Final

WRAP: Final = "wrap/"
INDEX: Final = "index/"
LEASED: Final = "leased/"


def is_data(purpose: str) -> bool:
    """Whether data is encrypted with it, here or by a caller that leases it."""
    return not purpose.startswith((WRAP, INDEX))


def is_wrap(purpose: str) -> bool:
    """Whether callers' own keys are wrapped with it."""
    return purpose.startswith(WRAP)


def is_leased(purpose: str) -> bool:
    """Whether it leaves the service."""
    return purpose.startswith(LEASED)


def needs_material(purpose: str) -> bool:
    """Whether its 32 bytes are used beside Tink's primitive: to leave the service, or to derive the keys of indexes."""
    return purpose.startswith((LEASED, INDEX))
