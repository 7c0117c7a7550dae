"""The operator with a limit of memory: what it maps beyond that is refused, so that Python raises MemoryError. Of the tests only."""

from __future__ import annotations

import os
import resource

from cmk_operator.__main__ import main

LIMIT = "TEST_ADDRESS_SPACE"
"""Environment variable with the limit in bytes."""

if __name__ == "__main__":
    limit = int(os.environ[LIMIT])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    main()
