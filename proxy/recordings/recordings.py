"""All recordings of this node: hears what backends record, lets the relay keep it, and has it made whole after a death.

A conference's recording is told by `proxy.conferences`; that of one call (both ways) by the control session of its
backend, or by the backend in SIP:

    X-Aqueduct-Recording: NAME               is recorded, into the file of that name; empty: no more
    X-Aqueduct-Recording: NAME;segment=2     for a backup: record on, into the second file of it

It never moves a call, and no recording is worth a call: what goes wrong here is logged and counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from proxy.backends import Backend, Backends, Verdict
from proxy.backends.control.api import ChannelDown, ChannelUp, Event, RecordingChanged, Up
from proxy.calls import Call, Calls, Leg
from proxy.calls.headers import own
from proxy.calls.pairs import CONFERENCE, PAIR
from proxy.conferences.roster import UNNAMED
from proxy.health import VerdictChanged
from proxy.recordings.folders import Folders
from proxy.recordings.recording import GRACE_S, Recording, Repair
from proxy.sip.message import Field, Message

log = logging.getLogger(__name__)

NAME_MAX = 200
Key = tuple[str, str]  # pool, name of the recording
Members = Sequence[tuple[Call, bool]]  # of a conference, and who of them is muted


class Recordings:
    def __init__(self, calls: Calls, backends: Backends, repair: Repair, loop: asyncio.AbstractEventLoop) -> None:
        settings = calls.settings.recordings
        self._calls = calls
        self._backends = backends
        self._repair = repair
        self._loop = loop
        self._keep_s = settings.keep_s
        self._folders = Folders(settings.folders)
        self._live: dict[Key, Recording] = {}
        self._of_call: dict[str, Recording] = {}  # by call id: recordings of one call
        self._sips: dict[tuple[str, str], str] = {}  # by backend and channel: Call-ID of the leg
        self._boots: dict[str, str] = {}
        self._held: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._ending: set[Recording] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._live) + len(self._of_call)

    def hear_of_calls(self) -> None:
        """Be told of what befalls calls, beside whoever is told already."""
        calls = self._calls
        ended, bonded = calls.on_ended, calls.on_bonded

        def on_ended(call: Call) -> None:
            ended(call)
            self.ended(call)

        def on_bonded(call: Call) -> None:
            bonded(call)
            self.bonded(call)

        calls.on_ended, calls.on_bonded = on_ended, on_bonded
        calls.on_recording, calls.recorded = self.told_in_sip, self.told

    def verdict_changed(self, change: VerdictChanged) -> None:
        if change.verdict is Verdict.DOWN:
            self.backend_down(change.backend, change.last_good_at or change.at)

    # -- one call

    def hear(self, backend: Backend, event: Event) -> None:
        """What its control session tells."""
        match event:
            case Up():
                if self._boots.get(backend.name, event.boot) != event.boot:
                    self.backend_down(backend, self._calls.now())
                self._boots[backend.name] = event.boot
                for key in [key for key in self._sips if key[0] == backend.name]:
                    del self._sips[key]
            case ChannelUp():
                self._sips[backend.name, event.channel] = event.sip
            case ChannelDown():
                self._sips.pop((backend.name, event.channel), None)
            case RecordingChanged():
                found = self._leg_of(backend, self._sips.get((backend.name, event.channel), ""))
                if found is not None:
                    self._recorded(*found, backend, event.file)
            case _:
                pass

    def _leg_of(self, backend: Backend, sip: str) -> tuple[Call, str] | None:
        """The call with this Call-ID on that backend, and the name of the leg: one that takes the place of a dead one
        may still be waiting for the others of its pair."""
        call_part, _, leg_name = sip.rpartition("-")
        call = self._calls.live.get(call_part)
        if call is not None:
            stands_by = call.standby is not None and call.standby.leg.name == leg_name
            return (call, leg_name) if not stands_by else None
        for call in self._calls.live.values() if sip else ():  # one that the backend has dialled
            if call.a.backend is backend and call.a.dialog is not None and call.a.dialog.call_id == sip.encode():
                return call, call.a.name
        return None

    def told_in_sip(self, call: Call, leg: Leg, message: Message) -> None:
        """A message of the backend of `leg` bears X-Aqueduct-Recording."""
        value = message.get(b"x-aqueduct-recording")
        if value is not None and leg.backend is not None:
            told = value.partition(b";")[0].decode(errors="replace").strip()[:NAME_MAX]
            self._recorded(call, leg.name, leg.backend, told)

    def _recorded(self, call: Call, leg: str, backend: Backend, told: str) -> None:
        recording = self._of_call.get(call.id)
        if recording is not None and recording.goes_on and recording.backend == backend.name:
            if not told:  # else it is the same file
                recording.end(self._calls.now(), cut=False)
                self._finish(self._of_call.pop(call.id), call)
            return
        if told in ("", UNNAMED):  # its name is asked for
            return
        file = self._folders.find(told, backend.name)
        if file is None:
            self._misplaced(told, backend.name)
            return
        number = recording.number + 1 if recording is not None else 1
        if recording is None:
            name, number = _named(file)
            recording = self._of_call[call.id] = self._new(name, backend.pool, None, file.parent)
            # The leg that takes the place of a dead one, too, from its first word.
            if "keep" in call.media.capabilities:
                call.media.keep(call.id, None, self._keep_s)
        recording.begin(number, backend.name, file, [call.id], self._calls.now())
        self._listen(call, leg, recording)

    def _listen(self, call: Call, leg: str, recording: Recording) -> None:
        """Both ways of a call; and the other one of a pair, who is heard past the backend when that is dead."""
        person, speakers = self._person(call), recording.speakers
        if person is None:
            return
        heard = [speakers.listen(call.media, call.id, person.name), speakers.listen(call.media, call.id, leg)]
        if call.bond is not None and call.bond.kind == PAIR:
            for mate in call.bond.mates(call):
                other = self._person(mate)
                if other is not None:
                    name = f"{call.id} {leg}"
                    heard.append(speakers.listen(mate.media, mate.id, other.name, instead_of=name))
        speakers.only({each.name for each in heard if each is not None}, self._calls.now())

    def bonded(self, call: Call) -> None:
        """Whom its backend has connected it to is another one now."""
        for each in (call, *(call.bond.mates(call) if call.bond is not None else ())):
            recording = self._of_call.get(each.id)
            if recording is not None and recording.goes_on:
                backend = self._backends.get(recording.backend)
                leg = each.leg_on(backend) if backend is not None else None
                if leg is not None:
                    self._listen(each, leg.name, recording)

    def told(self, call: Call) -> tuple[Field, ...]:
        """What a backup is told of the recording of this call; of a conference's its roster tells."""
        recording = self._of_call.get(call.id)
        if recording is None or not (recording.goes_on or recording.cut):
            return ()
        if call.bond is not None and call.bond.kind == CONFERENCE:
            return ()
        return (own("Recording", f"{recording.name};segment={recording.number + 1}"),)

    def ended(self, call: Call) -> None:
        recording = self._of_call.pop(call.id, None)
        if recording is not None:
            recording.end(self._calls.now(), cut=self._is_dead(recording))
            self._finish(recording)

    def _is_dead(self, recording: Recording) -> bool:
        backend = self._backends.get(recording.backend)
        return backend is not None and backend.fenced

    # -- a conference (`proxy.recordings.rosters`)

    def begin(
        self, key: Key, number: int, backend: str, told: str, conference: str, members: Members, began_at: float
    ) -> None:
        """A backend records a conference into the file that it calls `told`."""
        seek = None
        if told == UNNAMED:
            seek = partial(self._folders.find_unnamed, key[1], conference, number, backend)
            file: Path | None = seek() or self._folders.expected(key[1], number, backend)
        else:
            file = self._folders.find(told, backend)
        if file is None:
            self._misplaced(told, backend)
            return
        recording = self._live.get(key)
        if recording is None:
            recording = self._live[key] = self._new(key[1], key[0], conference, file.parent)
        recording.begin(number, backend, file, [call.id for call, _ in members], began_at, seek=seek)
        self.roster(key, members)

    def roster(self, key: Key, members: Members) -> None:
        """Who is in the recorded conference, and muted, is another one now; nobody: it is no more."""
        recording = self._live.get(key)
        if recording is None:
            return
        now, names = self._calls.now(), set()
        for call, muted in members:
            person = self._person(call)
            speaker = recording.speakers.listen(call.media, call.id, person.name) if person is not None else None
            if speaker is not None:
                speaker.mute(muted, now)
                names.add(speaker.name)
        recording.speakers.only(names, now)
        calls = [call.id for call, _ in members]
        if not calls and not recording.goes_on:  # nobody is left of whom a backup could make another segment
            del self._live[key]
            self._finish(recording)
        elif not set(calls) <= set(recording.manifest.calls):
            recording.belongs(calls)

    def end(self, key: Key, ended_at: float, *, cut: bool) -> None:
        """The segment has ended; after a cut another one may follow."""
        recording = self._live.get(key)
        if recording is not None:
            recording.end(ended_at, cut=cut)
            if not cut:
                del self._live[key]
                self._finish(recording)

    def _person(self, call: Call) -> Leg | None:
        """The leg that is not the backend's."""
        for leg in (call.b, call.a):
            if leg is not None and leg.backend is not None and self._recovered(leg.backend):
                return call.other(leg) if call.b is not None else None
        return None

    def _recovered(self, backend: Backend) -> bool:
        return self._backends.pool_of(backend).settings.recover

    # -- a backend

    def backend_down(self, backend: Backend, died_at: float) -> None:
        for recording in (*self._of_call.values(), *self._ending):
            if recording.backend == backend.name:
                recording.end(died_at, cut=True)

    # --

    def _new(self, name: str, pool: str, conference: str | None, folder: Path) -> Recording:
        recovery = self._backends.pools[pool].settings.recovery
        wait_s = recovery.deadline_s + recovery.bypass_max_s
        self.counts["begun"] += 1
        return Recording(
            name, pool, conference, folder, keep_s=self._keep_s, wait_s=wait_s, held=self._held,
            repair=self._repair, counts=self.counts, loop=self._loop,
        )  # fmt: skip

    def _misplaced(self, told: str, backend: str) -> None:
        self.counts["elsewhere"] += 1
        log.warning("backend=%s records into %s, which is in no folder of recordings.folders", backend, told)

    def _finish(self, recording: Recording, call: Call | None = None) -> None:
        """No segment follows. What is cut is still made whole."""
        recording.speakers.only(set(), self._calls.now())
        task = self._loop.create_task(self._end(recording, call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self, recording: Recording, call: Call | None) -> None:
        self._ending.add(recording)  # its backend may have been dead already
        await asyncio.sleep(GRACE_S)
        self._ending.discard(recording)
        await recording.close()
        recording.rest()
        if call is not None and call.id not in self._of_call and "keep" in call.media.capabilities:
            call.media.keep(call.id, None, 0.0)

    async def close(self) -> None:
        """The node stops: repairs are finished."""
        for recording in (*self._live.values(), *self._of_call.values()):
            await recording.close()
        if self._tasks:
            await asyncio.wait(self._tasks)


def _named(file: Path) -> tuple[str, int]:
    """The recording that a file belongs to, and as which segment: `NAME.N` goes on with a `NAME` that is known."""
    name, _, number = file.stem.rpartition(".")
    if name and number.isdigit() and file.with_name(f"{name}.json").exists():
        return name, int(number)
    return file.stem, 1
