"""What the stories share: apps with credentials, ready to be pushed to."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from demo.person import Person
from demo.registry import Registry
from tests.stories import web_app
from tests.world.working_copy import Repo

_numbers = itertools.count(1)


@pytest.fixture
def new_app(registry: Registry) -> Callable[[Person], Repo]:
    """Make apps whose config may pull the private base image, and a working copy for each."""

    def make(person: Person) -> Repo:
        name = f"app-{next(_numbers)}"
        web_app.create(person, name, registry.username, registry.password.reveal())
        return Repo(person, name)

    return make
