"""Where results come from: versions of what ran, and the state of this checkout."""

import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

DISTRIBUTIONS = {
    "torch": "torch",
    "avalanche-lib": "avalanche-lib",
    "numpy": "numpy",
    "avalanche_ext": "avalanche-ext",
}
DECISIVE = ("torch", "avalanche-lib", "numpy")
"""Distributions whose other versions may give other figures: their arithmetic, their
order of steps, their random numbers."""


def now() -> dict[str, Any]:
    """The versions and the commit that would run now, as a configuration holds them."""
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: _version(d) for name, d in DISTRIBUTIONS.items()},
        },
        "git": git_state(),
    }


def same(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two origins are one for certain: changed files may be changed otherwise.

    :param then: a stored configuration; what it lacks is unknown.
    """
    changed = (then.get("git") or {}).get("dirty")
    return not changed and told(then) == told(now)


def told(made: Mapping[str, Any]) -> str:
    """An origin in words."""
    git, versions = made.get("git") or {}, made.get("versions") or {}
    commit = f"commit {str(git.get('commit') or 'unknown')[:7]}"
    changes = " with changes" * bool(git.get("dirty"))
    return ", ".join(
        [commit + changes, *(f"{name} {versions.get(name)}" for name in DECISIVE)]
    )


def git_state() -> dict[str, Any]:
    """Commit of the checkout that this file is in, and whether it has changes.

    Results do not count: they change nothing that is run.
    """
    root = Path(__file__).resolve().parent.parent
    try:
        commit = _git(root, "rev-parse", "HEAD")
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() != root:
            raise OSError("a checkout of something else around this one")
        changes = _git(
            root, "status", "--porcelain", "--", ".", ":!experiments/results"
        )
        return {"commit": commit, "dirty": bool(changes)}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return done.stdout.strip()


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
