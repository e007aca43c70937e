"""The reference pages of `docs/`, written from the grammar and the settings themselves, so that neither goes stale.

`python -m console.reference` writes them; a test holds what is committed against what this module would write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from console import access
from console.grammar import load
from console.program import program
from console.settings import LIMITS, SETTINGS, Setting
from store.roles import Role

DOCS = Path(__file__).resolve().parent.parent / "docs"

COMMANDS = """\
# Commands

Every user command works over SSH, without any client, for whoever has a key on the server:

```
ssh -p 2222 git@HOST COMMAND …
```

and with the local program, which is the same by another door:

```
slipway COMMAND … --remote ssh://git@HOST:2222      # or SLIPWAY_REMOTE
slipway COMMAND … --data /var/lib/slipway           # on the server itself, as its administrator; or SLIPWAY_DATA
```

Each explains itself with `--help`, and `help` lists them. Exit statuses: 0 done, 1 the operation failed, 2 the
command's words are off, 3 refused. An app, user or operation that you may not reach is refused like one that does not
exist.

Commands that open an operation show its log until it ends, and exit with its outcome. Leaving (Ctrl-C) cancels nothing.

"""

ADMINISTRATION = """\
# Administration, on the server itself

`slipway users:add` and `slipway keys:add` take `--key FILE.pub` in place of standard input.

"""

SETTINGS_PAGE = """\
# Settings

Each is an option of `slipway serve` (and of `slipway down`, which has to find the same things) and an environment
variable; the option wins. `DOCKER_HOST` chooses the engine, as for every Docker client. Credentials of the user who
runs the server (`~/.docker`) are never used.

| option | variable | default | meaning |
|---|---|---|---|
"""

ENVIRONMENT_PAGE = """
One setting has no option, since a program's arguments can be read by everybody on the machine:

| variable | meaning |
|---|---|
| `SLIPWAY_SECRET_KEY` | The key that config values are sealed with: 32 random bytes in base64 (`openssl rand -base64 \
32`). Without it, `slipway init` makes one in the data folder. Every program of `slipway` that opens the data folder \
takes it, and hands it on to no other: see [access](access.md). |
"""

LIMITS_PAGE = """
# Limits

Options of `slipway serve`. Who meets one is told which, and what to do. A SIZE is a number of bytes, or one with K, M,
G or T after it, in steps of 1024.

| option | variable | default | meaning |
|---|---|---|---|
"""

CONFIG_PAGE = """
# Config variables that steer a deploy

Set per app, with `config:set` or together with a deploy. All others are the app's own.

| variable | meaning |
|---|---|
| `APTIBLE_PRIVATE_REGISTRY_USERNAME`, `APTIBLE_PRIVATE_REGISTRY_PASSWORD` | Credentials for pulling, used for every \
registry that the Dockerfile or the deployed image refers to; containers never get them. |
| `SLIPWAY_EXPOSE_REGISTRY_CREDENTIALS` | With `true`, containers get the credentials for pulling after all. |
| `APTIBLE_PRIVATE_REGISTRY_HOST` | Narrows the credentials to one registry, for example `registry.example.com`. |
| `DOCKER_AUTH_CONFIG` | Credentials for several registries, as the JSON of a Docker config: see \
[building](building.md). Containers never get it. |
| `ECR_AWS_ACCESS_KEY_ID`, `ECR_AWS_SECRET_ACCESS_KEY`, … | AWS keys with which a fresh token for Amazon ECR is \
fetched for each deploy: see [building](building.md). Containers never get them. |
| `SLIPWAY_GIT_CREDENTIALS` | A line `https://USER:TOKEN@HOST` for each Git server that submodules are fetched from: \
see [building](building.md). Containers never get it. |
| `SLIPWAY_DOCKERFILE` | Where the Dockerfile is; `Dockerfile` by default. |
| `SLIPWAY_BUILD_CONTEXT` | The folder that is the build context; the root of the repository by default. |
| `RELEASE_HEALTHCHECK_TIMEOUT` | Seconds in which a new container has to answer, 0 to 900; 180 by default. |
| `STRICT_HEALTH_CHECKS` | With `true`, `GET /healthcheck` has to answer 200; otherwise any answer to `GET /` will do. |
| `PORT` | The port that the app listens on, where its image EXPOSEs none. |
"""


TABLE_BEGINS = "<!-- written by console.reference -->"
TABLE_ENDS = "<!-- until here -->"


def commands_page() -> str:
    """Return docs/commands.md."""
    user = "\n".join(line for name, command in sorted(load().commands.items()) for line in _section(name, command))
    own = "\n".join(line for name, command in program.commands.items() for line in _section(f"slipway {name}", command))
    return f"{COMMANDS}{user}\n{ADMINISTRATION}{own}"


def access_page() -> str:
    """Return docs/access.md: the page as it stands, with its table of roles written anew."""
    before, rest = (DOCS / "access.md").read_text().split(TABLE_BEGINS)
    return before + TABLE_BEGINS + _roles() + TABLE_ENDS + rest.split(TABLE_ENDS)[1]


def _roles() -> str:
    rows = ["\n\n| needed | for |\n|---|---|\n"]
    for role in Role:
        rows.append(f"| role `{role}` | {_names(name for name, need in access.ON_APPS.items() if need is role)} |\n")
    rows.append(f"| nothing but an account | {_names(access.ANYBODY)} |\n")
    rows.append(f"| to be an administrator of the server | {_names(access.ADMINISTRATORS)} |\n\n")
    return "".join(rows)


def _names(actions: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(actions))


def settings_page() -> str:
    """Return docs/settings.md."""
    return SETTINGS_PAGE + _table(SETTINGS) + ENVIRONMENT_PAGE + LIMITS_PAGE + _table(LIMITS) + CONFIG_PAGE


def _table(settings: Iterable[Setting]) -> str:
    rows = [
        f"| `{setting.option} {setting.metavar}` | `{setting.variable}` "
        f"| {_default(setting)} | {_escaped(setting.meaning)} |\n"
        for setting in settings
    ]
    return "".join(rows)


def _default(setting: Setting) -> str:
    return "" if setting.computed or setting.default is None else f"`{setting.default}`"


def _section(name: str, command: click.Command) -> Iterator[str]:
    yield f"## `{name}`\n"
    context = click.Context(command, info_name=name)
    yield "```\n" + " ".join([name, *command.collect_usage_pieces(context)]) + "\n```\n"
    for paragraph in (command.help or "").split("\n\n"):
        yield " ".join(paragraph.split()) + "\n"
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    settings = {setting.name for setting in (*SETTINGS, *LIMITS)}
    own = [option for option in options if option.name not in settings]
    shared = [f"`{option.opts[0]}`" for option in options if option.name in settings]
    if shared:
        yield f"Takes the [settings](settings.md) {', '.join(shared)}" + (", and:\n" if own else ".\n")
    if own:
        yield "| option | meaning |\n|---|---|"
        for option in own:
            metavar = f" {option.metavar}" if option.metavar else ""
            yield f"| `{', '.join(option.opts)}{metavar}` | {_escaped(option.help or '')} |"
        yield ""


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    (DOCS / "commands.md").write_text(commands_page())
    (DOCS / "settings.md").write_text(settings_page())
    (DOCS / "access.md").write_text(access_page())
