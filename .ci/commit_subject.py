#!/usr/bin/env python3
"""Refuses a commit message whose subject is longer than 72 characters: tools that show history cut it there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

LONGEST = 72
AUTOSQUASH = re.compile(r"^(?:(?:fixup|squash|amend)! )+")
"""What `git commit --fixup` puts in front; it goes with the next `git rebase --autosquash`."""


def complaint(message: str) -> str | None:
    """What is wrong with the subject, if anything. Git's own comment lines do not count."""
    lines = [line for line in message.splitlines() if not line.startswith("#")]
    text = "\n".join(lines).strip()
    subject, _, rest = text.partition("\n")
    subject = AUTOSQUASH.sub("", subject.strip())
    if len(subject) > LONGEST:
        return f"The subject has {len(subject)} characters; at most {LONGEST} are allowed:\n  {subject}"
    if rest and not rest.startswith("\n"):
        return "Leave the second line of the message empty: git reads everything before it as the subject."
    return None


if __name__ == "__main__":
    sys.exit(complaint(Path(sys.argv[1]).read_text(encoding="utf-8")))
