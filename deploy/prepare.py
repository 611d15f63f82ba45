"""Downloads of the local stack: jars, Debian's tools, a browser for the tests; and our Java classes, compiled."""

import fcntl
import sys

from deploy import browser, jars, tools
from deploy.classes import our_classes
from deploy.cluster import flink_python
from deploy.java import find_java
from deploy.paths import DeployError, cache

CHANGED = 10
"""Exit status when something was fetched."""


def main() -> int:
    """Fetch what is missing; the exit status is 0 (nothing was), 10 or 1 (it failed, and standard error says why).

    One at a time: the cache is shared by all checkouts, and a tool that another one has just started cannot be written.
    """
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "setup.lock").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        try:
            changed = bool(jars.fetch(jars.read_lock())) | bool(tools.fetch())
            changed |= "all" in sys.argv and browser.fetch()
            our_classes(find_java(), flink_python())
        except DeployError as error:
            print(error, file=sys.stderr)
            return 1
    return CHANGED if changed else 0
