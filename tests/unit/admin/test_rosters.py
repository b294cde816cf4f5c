"""`aqueduct conferences`: who is in which conference, for programs and for people."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from proxy.admin.orders import handlers
from proxy.cli.rosters import conference_line, people_columns
from tests.sim.scenario import play
from tests.sim.test_conferences import join
from tests.sim.world import World


def test_a_conference_is_told_with_everybody_in_it() -> None:
    rows: list[dict[str, Any]] = []

    async def script(world: World) -> None:
        conferences = handlers(world.node)["conferences"]
        assert conferences({}) == []
        await join(world, 1, Muted=b"yes")
        await join(world, 2, Role=b"moderator")
        await asyncio.sleep(0.5)
        rows.extend(conferences({}))

    assert play(script) == []
    assert json.loads(json.dumps(rows)) == rows
    (row,) = rows
    assert (row["name"], row["pool"], row["backends"]) == ("conf-sales", "pbx", {"as1": 2})
    muted, moderator = row["participants"]
    assert (muted["muted"], muted["moderator"]) == (True, False)
    assert (moderator["muted"], moderator["moderator"]) == (False, True)
    assert conference_line(row) == "conf-sales (pbx): 2 participants, 2 on as1"
    assert people_columns(row["participants"])[2].cells == ["muted", "moderator"]
