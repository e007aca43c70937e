"""Dockerfiles as public projects write them: a web app, a compiled program, a package with private dependencies."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from demo.registry import Registry
from tests.builder.conftest import BOTH_BUILDERS, Log, Workbench

Account = Callable[[Registry], dict[str, str]]

WEB_APP = """\
# A base that can be chosen, tests in a stage of their own, and a small final stage for a user without rights.
ARG REGISTRY={registry}
ARG VERSION="1"
ARG BASE=${{REGISTRY}}/private/base:${{VERSION}}

FROM ${{BASE}} AS dependencies
WORKDIR /build
COPY requirements*.txt ./
RUN sort -u requirements*.txt > installed \\
 && echo "of $(wc -l < installed) packages"

FROM dependencies AS test
COPY . .
RUN python3 -c "import app; assert app.VERSION == '1.4.2'" && touch /tested

FROM ${{BASE}} AS final
ARG GIT_COMMIT
ENV PYTHONUNBUFFERED=1 \\
    GIT_COMMIT=$GIT_COMMIT
LABEL org.opencontainers.image.title="shop" \\
      org.opencontainers.image.revision="$GIT_COMMIT"
WORKDIR /srv
COPY --from=dependencies /build/installed .
COPY --from=test /tested /
COPY --from={registry}/private/small:1 /etc/os-release /etc/small-release
COPY --chown=65534:65534 app.py settings/ ./
COPY ["with space.txt", "/srv/with space.txt"]
USER 65534:65534
EXPOSE 8000/tcp
HEALTHCHECK --interval=30s CMD ["python3", "-c", "print('well')"]
STOPSIGNAL SIGINT
ENTRYPOINT ["python3"]
CMD ["-m", "http.server", "8000"]
"""
WEB_APP_FILES = {
    ".dockerignore": "*\n!app.py\n!requirements*.txt\n!settings\nsettings/local*\n!with space.txt\n",
    "app.py": "VERSION = '1.4.2'\n",
    "requirements.txt": "flask\n",
    "requirements-dev.txt": "pytest\nflask\n",
    "settings/base.ini": "",
    "settings/local.ini": "of my machine",
    "with space.txt": "spaced",
    "README": "left out",
}

PRIVATE_PACKAGES = """\
# syntax=docker/dockerfile:1
FROM {registry}/private/small:1 AS tools
FROM {registry}/private/base:1 AS build
WORKDIR /src
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \\
    --mount=type=secret,id=NPM_TOKEN \\
    --mount=type=bind,source=requirements.txt,target=/tmp/requirements.txt \\
    --mount=type=tmpfs,target=/scratch \\
    test -s /run/secrets/NPM_TOKEN && cat /run/secrets/NPM_TOKEN > /scratch/token && \\
    cp /tmp/requirements.txt /root/.cache/pip/seen && wc -l < /root/.cache/pip/seen > lines
RUN --mount=type=bind,from=tools,target=/other cp /other/etc/os-release /src/from-stage

FROM scratch AS export
COPY --from=build /src/lines /src/from-stage /

FROM {registry}/private/small:1
COPY --from=export / /result/
CMD ["cat", "/result/lines"]
"""

HERE_DOCUMENTS = """\
# syntax=docker/dockerfile:1.7
FROM {registry}/private/base:1
COPY --link --chmod=0755 <<"EOF" /usr/local/bin/entry
#!/bin/sh
exec "$@"
EOF
COPY --link app.py /app/
RUN <<EOF
set -eu
mkdir -p /data
echo "two lines" > /data/a
EOF
RUN <<PYTHON python3 -
import pathlib
pathlib.Path("/data/b").write_text("by python")
PYTHON
ENTRYPOINT ["/usr/local/bin/entry"]
CMD ["cat", "/data/a", "/data/b"]
"""


@BOTH_BUILDERS
def test_a_web_app_in_stages(
    workbench: Workbench, private_base: str, private_small: str, registry: Registry, account: Account
) -> None:
    dockerfile = WEB_APP.format(registry=registry.host)
    source = workbench.commit({"Dockerfile": dockerfile, **WEB_APP_FILES})
    image = workbench.build(source, account(registry))
    assert set(image.bases) == {private_base, private_small}
    assert (image.entrypoint, image.command) == (("python3",), ("-m", "http.server", "8000"))
    config = workbench.inspect(image.id)["Config"]
    assert config["User"] == "65534:65534"
    assert config["Labels"]["org.opencontainers.image.revision"] == source.commit
    assert f"GIT_COMMIT={source.commit}" in config["Env"]
    assert (config["StopSignal"], config["Healthcheck"]["Interval"]) == ("SIGINT", 30_000_000_000)
    listing = workbench.run(image, "sh", "-c", "ls -A; cat installed 'with space.txt'; stat -c %u app.py; ls /tested")
    assert listing == "app.py\nbase.ini\ninstalled\nwith space.txt\nflask\npytest\nspaced65534\n/tested\n"


@pytest.mark.parametrize("builder", ["buildkit"])
def test_private_packages_leave_no_secret_behind(
    workbench: Workbench, private_base: str, private_small: str, registry: Registry, account: Account
) -> None:
    dockerfile = PRIVATE_PACKAGES.format(registry=registry.host)
    config = account(registry) | {"NPM_TOKEN": "s3cret-of-npm", "UNUSED": "unused-s3cret"}
    log = Log()
    image = workbench.build({"Dockerfile": dockerfile, "requirements.txt": "a\nb\n"}, config, log=log)
    assert set(image.bases) == {private_base, private_small}
    assert workbench.run(image, "cat", "/result/lines") == "2\n"
    client: Any = workbench.client
    seen = [str(log), str(client.history(image.id)), str(workbench.inspect(image.id))]
    for secret in ("s3cret-of-npm", "unused-s3cret", registry.password.reveal(), workbench.cache_key.reveal()):
        assert not [text for text in seen if secret in text]
        assert not [name for name, content in _files(workbench, image.id) if secret.encode() in content]


@pytest.mark.parametrize("builder", ["buildkit"])
def test_here_documents_and_links(
    workbench: Workbench, private_base: str, registry: Registry, account: Account
) -> None:
    if workbench.client.version()["ApiVersion"] < "1.42":
        pytest.skip("needs Docker 23; python -m tests.builder.newer_engine has it")
    dockerfile = HERE_DOCUMENTS.format(registry=registry.host)
    image = workbench.build({"Dockerfile": dockerfile, "app.py": ""}, account(registry))
    assert list(image.bases) == [private_base]
    assert workbench.run(image, "/usr/local/bin/entry", *image.command) == "two lines\nby python"


def _files(workbench: Workbench, image: str) -> Iterator[tuple[str, bytes]]:
    """Yield every file of every layer, and the image's own metadata."""
    saved = io.BytesIO(b"".join(workbench.client.get_image(image)))
    with tarfile.open(fileobj=saved) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is None:
                continue
            content = file.read()
            yield member.name, content
            if member.name.endswith("layer.tar") or content[257:262] == b"ustar":
                with tarfile.open(fileobj=io.BytesIO(content)) as layer:
                    for inner in layer:
                        within = layer.extractfile(inner) if inner.isreg() else None
                        yield f"{member.name}/{inner.name}", within.read() if within else b""
