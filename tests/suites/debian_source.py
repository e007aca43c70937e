"""Sources of Debian's packages: apt gets settings of its own, and nothing of the machine's is changed."""

from __future__ import annotations

import subprocess
from pathlib import Path


def fetch(package: str, folder: Path, release: str | None = None) -> Path:
    """Return the sources of a package as its authors published them, unpacked below `folder`.

    They come from the first archive that the machine's apt knows, of the machine's own release of Debian or another.
    """
    sources = folder / package
    if (sources / ".complete").exists():
        return sources
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / "apt" / name).mkdir(parents=True, exist_ok=True)
    (folder / "apt/status").touch()
    target = ["apt-get", "indextargets", "--format", "deb-src $(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    archives = subprocess.run(target, check=True, capture_output=True, text=True).stdout.splitlines()
    line = sorted(archives)[0].split()
    (folder / "apt/sources.list").write_text(" ".join([*line[:2], release or line[2], line[3]]) + "\n")
    options = {
        "Dir::Etc::SourceList": folder / "apt/sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State": folder / "apt",
        "Dir::State::status": folder / "apt/status",
        "Dir::Cache": folder / "apt/cache",
    }
    apt = ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    sources.mkdir(exist_ok=True)
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "source", "--download-only", package], check=True, cwd=sources)
    (archive,) = sources.glob(f"{package}_*.orig.tar.*z")
    subprocess.run(["tar", "xf", archive.name, "--strip-components=1"], check=True, cwd=sources)
    (sources / ".complete").touch()
    return sources
