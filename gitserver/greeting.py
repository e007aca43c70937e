"""What somebody reads who connects without a command, most often to see whether their key works."""

from __future__ import annotations

from hooks.engine_room import User


def greeting(user: User) -> str:
    """Return the text for standard output, line ends included."""
    return (
        f"Hello {user.name}, your key works. There is no shell here.\n"
        "To deploy, add this server as a remote of your repository and use `git push`.\n"
        "To see the commands it knows, run the same ssh command with `help` at its end.\n"
    )
