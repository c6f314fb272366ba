"""What a composition costs, told before it is made."""

from __future__ import annotations

from typing import Any

import pytest

from clora.engine.estimate import estimate
from clora.settings import Settings

EXACT = {"fusion": "exact"}
NO_UPDATE = {"update_until": 0.0, **EXACT}


@pytest.mark.parametrize(
    ("settings", "concepts", "time", "rows"),
    [
        ({"method": "merge"}, 3, 1.0, 2),
        ({"method": "composite"}, 3, 3.0, 6),
        ({"method": "switch"}, 3, 1.0, 2),
        (NO_UPDATE, 2, 3.0, 6),
        ({**NO_UPDATE, "rows_per_forward": 4}, 2, 3.0, 4),
        ({**NO_UPDATE, "shared_uncond": True}, 2, 2.0, 4),
        ({**NO_UPDATE, "variants_every": 2}, 2, 2.0, 6),
        ({**NO_UPDATE, "compose_until": 0.5}, 2, 2.0, 6),
        ({"update_until": 0.0}, 2, 1.12, 2),
        # Without steps that average, the first masks need a step with all rows.
        ({"update_until": 0.0, "fuse_from": 0.0}, 2, 1.12, 6),
        # 10 updates of 3 rows at 1.2 each, over 20 steps of 2 rows.
        ({"refine_at": (), **EXACT}, 2, 3.0 + 36 / 40, 6),
        ({"refine_at": ()}, 2, 1.12 + 36 / 40, 3),
        # With the maps of both halves an update has twice as many rows.
        ({"refine_at": (), "maps": "both"}, 2, 1.12 + 72 / 40, 6),
        ({"refine_at": (), "update_layers": "down", **EXACT}, 2, 3.0 + 18 / 40, 6),
    ],
)
def test_time_and_rows(settings: dict[str, Any], concepts: int, time: float, rows: int) -> None:
    found = estimate(Settings(**settings), concepts, 20)
    assert found.time == pytest.approx(time)
    assert found.rows == rows


def test_the_sentence_says_when_it_may_be_less() -> None:
    assert estimate(Settings("exact"), 2, 20).sentence == (
        "About 9.3 times the time of a plain picture. Memory: 6 rows of the UNet at once (a plain picture has 2)."
    )
    # 10 steps with one update at least, three of them with two; or with 21.
    assert estimate(Settings(), 2, 20).sentence.startswith(
        "About 2.3 to 7.4 times the time of a plain picture, depending on how early refine steps end. Memory: 3 rows"
    )
    assert estimate(Settings("fast"), 2, 20).sentence.startswith("About 1.1 times")
