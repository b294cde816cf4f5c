"""Compiled modules (docs/decisions/0005): never older than their source, and no test takes a method of theirs away."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.sip import stack

ROOT = Path(__file__).resolve().parents[1]
COMPILED = not stack.__file__.endswith(".py")


def stale() -> list[str]:
    """Modules whose source has changed, or gone, since all were compiled."""
    library = next((ROOT / "proxy").glob("compiled__mypyc*.so"), None)
    if library is None:
        return []
    modules = [path for path in (ROOT / "proxy").rglob("*.so") if path != library]
    sources = [path.with_name(path.name.partition(".")[0] + ".py") for path in modules]
    compiled_at = library.stat().st_mtime
    return [
        str(source.relative_to(ROOT))
        for source in sources
        if not source.exists() or source.stat().st_mtime > compiled_at
    ]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "plain: takes a method away from a class that may be compiled")
    if changed := stale():
        raise pytest.UsageError(f"compiled modules are older than {', '.join(changed)}: make compile, or make plain")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if COMPILED and item.get_closest_marker("plain"):
            item.add_marker(pytest.mark.skip(reason="a compiled class keeps its methods; make test-plain runs this"))
