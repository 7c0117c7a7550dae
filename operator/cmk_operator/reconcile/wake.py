"""Whom a change concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmk_operator.kubernetes.client import ObjectReference
    from cmk_operator.reconcile.context import Context


def wake_below(context: Context, reference: ObjectReference, *, to_the_leaves: bool) -> None:
    """Wake what refers to an object, and with `to_the_leaves` everything that refers to that in turn.

    A changed spec of an identity or tenant can change what every resource below it may or must be.
    """
    for referrer in context.inventory.referring_to(reference):
        context.wake(referrer, 0.0)
        if to_the_leaves:
            wake_below(context, referrer, to_the_leaves=True)
