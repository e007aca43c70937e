"""A server that rolls out a release and is killed meanwhile: `python -m tests.releaser.crash`.

It reads the world from standard input, writes a line for each thing it says, and one, `inside`, at the commit point,
where it waits for its end.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from releaser.haproxy import Proxy
from releaser.release import Release
from releaser.releaser import Releaser
from releaser.route import Route
from store.secret import Secret


def main() -> None:
    world = json.load(sys.stdin)
    given = world["release"]
    given["environment"] = {key: Secret(value) for key, value in given["environment"].items()}
    # JSON has lists in place of tuples, which have no hash.
    given["route"] = Route(**{**given["route"], "endpoints": tuple(given["route"]["endpoints"])})
    release = Release(**given)
    proxy = Proxy(Path(world["folder"]))
    proxy.start()
    releaser = Releaser(engine=world["engine"], instance=release.instance, proxy=proxy)
    with releaser.rollout(release, say=say, cancelled=threading.Event()):
        say("inside")
        threading.Event().wait()


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
