"""Starts the operator: `python -m cmk_operator`, `cmk-operator`."""

from __future__ import annotations

import gc
from typing import Final

COLLECT_AFTER: Final = 10_000
"""New objects after which Python collects cyclic garbage. With its default of 700, that took 7 % of the processor time."""


def main() -> None:
    """Import the operator and run it, or with `check` as the first argument check the installation.

    Exit status 2: the settings or the configured cluster cannot be used.
    """
    # What is imported stays for the life of the process. Python would search it for garbage again and again while it grows,
    # a tenth of the processor time of the imports, and in each collection afterwards.
    gc.disable()
    from cmk_operator import composition  # noqa: PLC0415 - not before the collector is off

    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    gc.enable()
    composition.main()


if __name__ == "__main__":
    main()
