"""A run of a comparison that is planned with little data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recipes.comparison.contenders import contender
from recipes.comparison.kinds.translation import Translation
from recipes.comparison.plan import Run, plan_run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """What a plan reads of data."""
    (tmp_path / "data" / "bin").mkdir(parents=True)
    (tmp_path / "data" / "bin" / "stage.json").write_text("{}")
    return tmp_path / "data"


def planned(out: Path, data: Path, **more: Any) -> Run:
    settings: dict[str, Any] = {
        "contender": contender("salt"),
        "seed": 3,
        "options": ["--max-tokens", "100", "--cpu"],
        "every": 5,
        "horizons": (20, 10, 20, 0),
        "kind": Translation(data, beam=4),
    }
    return plan_run(directory=out, **(settings | more))
