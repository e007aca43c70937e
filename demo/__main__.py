"""`python -m demo`: the whole way of a push on this machine, with nothing in it that is not real."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import tempfile
from pathlib import Path

from demo.interruption import end_on_signals
from demo.story import push_then_deploy_with_config, push_to_deploy
from demo.terminal import explain
from demo.world import World, world
from store.errors import SlipwayError


def main() -> int:
    """Run the demo and return its exit status: 0 if every step came out as it should, 128 + N after signal N."""
    parser = argparse.ArgumentParser(prog="bin/demo", description="Show both ways of deploying, on this machine.")
    parser.add_argument("--once", action="store_true", help="end and clean up after the last step")
    once = parser.parse_args().once
    end_on_signals()
    with tempfile.TemporaryDirectory(prefix="slipway-demo-docker-") as empty:
        # Nobody's Docker logins, proxies or contexts: neither read, nor sent anywhere.
        (Path(empty) / "config.json").write_text("{}")
        os.environ["DOCKER_CONFIG"] = empty
        try:
            with world() as running:
                url = push_to_deploy(running)
                push_then_deploy_with_config(running, url)
                if not once:
                    _invite(running, url)
                    signal.pause()
        except SlipwayError as error:
            print(f"demo: {error}", file=sys.stderr)
            return 1
    explain("Everything came out as it should; what the demo made is removed.")
    return 0


def _invite(running: World, url: str) -> None:
    explain("It goes on until Ctrl-C. To try more, in another terminal:")
    path = shlex.quote(str(running.alice.home / "bin"))
    print(f"    export PATH={path}:$PATH   # ssh with Alice's key")
    print(f"    cd {shlex.quote(str(running.alice.home / 'hello'))}")
    print("    git commit --all --message 'My change' && git push aptible master")
    print(f"    {running.login} help")
    print(f"    curl {url}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
