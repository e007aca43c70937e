"""The two ways of deploying, as a user goes them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import requests

from demo.terminal import StepError, check, explain, run, show_command
from demo.world import World

_SAMPLE = Path(__file__).parent / "sample"


def push_to_deploy(world: World) -> str:
    """Deploy the sample app by `git push aptible master`; return the address where it answers."""
    alice = world.alice
    folder = _sample_app(world)

    explain("Alice makes an app, and sets the registry's credentials; from a file, since arguments are seen by others.")
    run(f"{world.login} apps:create hello", alice.environment, alice.home)
    credentials = alice.home / "registry.env"
    credentials.touch(mode=0o600)
    credentials.write_text(
        f"APTIBLE_PRIVATE_REGISTRY_USERNAME={world.registry.username}\n"
        f"APTIBLE_PRIVATE_REGISTRY_PASSWORD={world.registry.password.reveal()}\n"
    )
    run(f"{world.login} config:set --app hello - < {credentials.name}", alice.environment, alice.home)

    explain("Her app is a small web server. Its Dockerfile begins with the private image:")
    run("cat Dockerfile", alice.environment, folder)
    run("git add --all && git commit --quiet --message 'Say hello'", alice.environment, folder)
    app = show_app(world)
    run(f"git remote add aptible {app['git_repo']}", alice.environment, folder)

    explain("The push waits for the deploy and shows it as it happens; it ends with the app's address.")
    said = run("git push aptible master", alice.environment, folder)
    url = str(app["url"])
    check("the push's log ends with the app's address", url in said, f"{url} is not in it")
    check_answer(url, "hello from version 1")
    return url


def push_then_deploy_with_config(world: World, url: str) -> None:
    """Push a new version without deploying it, then deploy it together with the config that it goes with."""
    alice, folder = world.alice, world.alice.home / "hello"
    explain("Now a version 2 that goes with another GREETING. Any other branch is stored, and nothing is deployed:")
    run("sed -i 's/^VERSION = .*/VERSION = \"2\"/' app.py", alice.environment, folder)
    run("git commit --quiet --all --message 'Version 2'", alice.environment, folder)
    before = show_app(world)
    run("git push aptible master:deploy-1", alice.environment, folder)
    after = show_app(world)
    check("the release is still the same", before == after, f"it was {before} and is {after}")
    check_answer(url, "hello from version 1")

    explain("Code and config become one release, in one moment:")
    run(f"{world.login} deploy --app hello --git-commitish deploy-1 GREETING=welcome", alice.environment, folder)
    check_answer(url, "welcome from version 2")
    release = show_app(world)["release"]
    check(
        "one release more was made, and no more", release == int(str(before["release"])) + 1, f"it is release {release}"
    )


def check_answer(url: str, expected: str) -> None:
    """Ask the app, as `curl` would, and show its answer. Raises StepError when it is not the expected one."""
    show_command(f"curl {url}")
    try:
        answer = requests.get(url, timeout=30)
        found = answer.text.strip() if answer.ok else f"status {answer.status_code}: {answer.text.strip()}"
    except requests.RequestException as error:
        found = f"no answer: {error}"
    print(found, flush=True)
    check(f"{url} answers '{expected}'", found == expected, f"the answer is '{found}'")


def show_app(world: World) -> dict[str, object]:
    """Return what the server says of the app."""
    answer = world.alice.ssh("apps:show", "--app", "hello", "--json")
    if answer.returncode:
        raise StepError(f"expected apps:show to tell of the app, but it said: {answer.stderr.strip()}")
    shown: dict[str, object] = json.loads(answer.stdout)
    return shown


def _sample_app(world: World) -> Path:
    """Put the sample app into a new Git working copy of Alice's."""
    folder = world.alice.home / "hello"
    shutil.copytree(_SAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    dockerfile = folder / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace("@BASE@", world.base))
    for words in (["init", "--quiet"], ["config", "user.name", "alice"], ["config", "user.email", "alice@example.com"]):
        world.alice.run(["git", *words], folder=folder).check_returncode()
    return folder
