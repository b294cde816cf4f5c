"""A caller in the queue of a real Asterisk that dies goes on in the queue of the other one, not at its welcome."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

from tests.integration.conftest import Site, start_site, until
from tests.testbed.audio import share_of
from tests.testbed.hosts import CALLER
from tests.testbed.phone import Call, Phones

WELCOME_HZ, QUEUE_HZ, LATER_HZ = 500, 900, 1300
WELCOME_S = 2

# The queue plays another tone to who has waited, if it is told for how long. (Asterisk cannot say anything in the 200
# of a call that it answers itself, so a rule says where callers of this number go on.)
DIALPLAN = f"""
[app](+)
exten => sales,1,Answer()
 same => n,PlayTones({WELCOME_HZ})
 same => n,Wait({WELCOME_S})
 same => n,Goto(sales-queue,1)
exten => sales-queue,1,Set(WAITED=${{PJSIP_HEADER(read,X-Aqueduct-Waited)}})
 same => n,Answer()
 same => n,GotoIf($["${{WAITED}}" = ""]?new)
 same => n,GotoIf($[${{WAITED}} >= {WELCOME_S}]?later)
 same => n(new),PlayTones({QUEUE_HZ})
 same => n,Wait(3600)
 same => n,Hangup()
 same => n(later),PlayTones({LATER_HZ})
 same => n,Wait(3600)
"""

REENTER = {"reenter": [{"user": "^sales$", "to": "sales-queue"}]}


async def until_it_is(call: Call, hz: float, never: float | None = None) -> None:
    """Wait for that tone; `never` must not come before it."""

    def heard() -> bool:
        last = call.heard.last_half_second()
        assert never is None or share_of(never, last) < 0.5, f"{never} Hz came"
        return share_of(hz, last) > 0.9

    shares = lambda: {hz: share_of(hz, call.heard.last_half_second()) for hz in (WELCOME_HZ, QUEUE_HZ, LATER_HZ)}  # noqa: E731
    await until(heard, shares)


async def waits_and_goes_on(site: Site) -> None:
    async with Phones(CALLER) as phones:
        call = await phones.call("sales", site.proxy.address)
        await until_it_is(call, WELCOME_HZ)
        await until_it_is(call, QUEUE_HZ)
        site.primary.kill()
        await until_it_is(call, LATER_HZ, never=WELCOME_HZ)
        await asyncio.sleep(WELCOME_S)
        await until_it_is(call, LATER_HZ, never=WELCOME_HZ)
        assert not call.ended.done() and await call.bye() == 200


def test_a_caller_in_a_queue_is_not_welcomed_again(tmp_path: Path) -> None:
    with ExitStack() as stack:
        asyncio.run(
            waits_and_goes_on(
                start_site(stack, tmp_path, pool={"recovery": REENTER}, additions={"extensions.conf": DIALPLAN})
            )
        )
