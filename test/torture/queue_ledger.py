"""What the journals of a storm say, held against what is in the file.

A message is {Producer, Seq, Filling}: the producer's number, its messages' from 1, and a binary that
follows from both. Each Erlang process of a worker has a journal (NAME: WORKER-PROCESS), whose lines
are written by write() before and after each call; times are nanoseconds of CLOCK_MONOTONIC:

    a producer   + FIRST N TIME       about to push FIRST to FIRST + N - 1
                 = TIME               all of them are pushed
    a consumer   ? take|many|try N TIME   about to take at most N
                 c PRODUCER SEQ TIME  (try) the message is in the fun's hands
                 = TIME [P:S ...]     these were taken
                 x TIME               (try) the fun raised: nothing was taken
                 # TERM               what was taken is not what was pushed
    both         ! TIME REASON        the call failed: nothing was pushed or taken

A fun may push: its lines then come between c and the try's answer.

Rules, at a moment when nobody runs (dead, or stopped):
- pushed and acknowledged, not acknowledged as taken: in the file, but for what a call of a consumer that
  has not come back may have taken: 1, or the N of its batch; a try only what its fun had in hands
- in the file: intended, whole, once, never seen taken, never found missing before
- in the file each producer's messages are in order; and to each consumer they come in order, but
  for what somebody's fun had, and gave back or died with
"""
import os
import struct

from queue_check import READY, LEASED, Undecodable

MASK = 0xFFFFFFFFFFFFFFFF


def filling(producer, seq, n):
    word = struct.pack(">Q", (producer * 0x9E3779B97F4A7C15 + seq * 0xC2B2AE3D27D4EB4F) & MASK)
    return (word * (n // 8 + 1))[:n]


class Faults:
    """What was found wrong, in numbers and in words."""

    def __init__(self):
        self.wrong = {"lost": 0, "doubled": 0, "torn": 0, "made up": 0, "order broken": 0,
                      "errors": 0, "file": 0}
        self.details = []

    def fault(self, kind, text, n=1):
        self.wrong[kind] += n
        if len(self.details) < 200:
            self.details.append(f"{kind}: {text}")

    def content(self, message):
        """The (producer, seq) of a message; None when it is nobody's."""
        try:
            producer, seq, bytes_of = message.term()
            whole = bytes_of == filling(producer, seq, len(bytes_of))
        except (Undecodable, TypeError, ValueError, struct.error) as cause:
            self.fault("torn", f"ordinal {message.ordinal}: {cause}")
            return None
        if not whole:
            self.fault("torn", f"ordinal {message.ordinal} ({producer}:{seq}): its filling is another")
        return producer, seq


class Call:
    """Of a consumer, from its intent on."""
    __slots__ = ("journal", "kind", "most", "time", "claimed", "dead", "charged", "keys")

    def __init__(self, journal, kind, most, time):
        self.journal, self.kind, self.most, self.time = journal, kind, most, time
        self.claimed, self.dead, self.charged = None, False, 0
        self.keys = []  # that it may have, as missing or abandoned say


class Journal:
    def __init__(self, path, worker):
        self.path, self.worker, self.name = path, worker, os.path.basename(path)
        self.file, self.rest = open(path, "rb"), b""
        self.push = None  # (producer, first, n, time) that has no answer yet
        self.call = None
        self.last = {}  # per producer the highest seq that came
        self.dead = False

    def fetch(self):
        self.rest += self.file.read()

    def lines(self):
        raw = self.rest
        end = raw.rfind(b"\n") + 1
        self.rest = raw[end:]
        return raw[:end].decode().splitlines()


class Ledger(Faults):
    def __init__(self):
        super().__init__()
        self.journals = {}
        self.acked = {}      # key: True; pushed, not known to be taken
        self.open_keys = {}  # intended, neither acknowledged nor refused
        self.refused = set()
        self.abandoned = {}  # key: calls that might have taken it; absent when its producer had died
        self.taken = set()
        self.gone = set()    # taken by a call that was killed before it could say so
        self.missing = {}    # key: calls that may have it
        self.claimed_ever = set()
        self.blind_tries = 0  # tries killed before their fun spoke: each may have put one message out of order
        self.out_of_order = []  # (key, text)
        self.excused = 0     # of them, by blind tries
        self.ordinals = {}
        self.pushes = self.takes = 0
        self.durations = []  # (worker, begin, end, kind) of all calls since they were last fetched

    # -- journals

    def add(self, path, worker):
        if path not in self.journals:
            self.journals[path] = Journal(path, worker)

    def read_raw(self):
        """As much as there is at this moment; what comes later waits for the next time."""
        for journal in self.journals.values():
            if not journal.dead:
                journal.fetch()

    def fetch(self):
        durations, self.durations = self.durations, []
        return durations

    def in_flight(self):
        """(worker, begin) of the calls of the living."""
        for journal in self.journals.values():
            if not journal.dead and (journal.push or journal.call):
                yield journal.worker, journal.push[3] if journal.push else journal.call.time

    def read(self):
        for journal in self.journals.values():
            if not journal.dead:
                self._read(journal)

    def dead(self, worker):
        """Killed: what its journals have is read to the end."""
        for journal in self.journals.values():
            if journal.worker == worker and not journal.dead:
                journal.fetch()
                self._read(journal)
                journal.dead = True
                journal.file.close()
                if journal.call:
                    journal.call.dead = True
                    if journal.call.kind == "try" and journal.call.claimed is None:
                        self.blind_tries += 1

    def _read(self, journal):
        for line in journal.lines():
            what, *fields = line.split()
            if what == "+":
                producer, first, n, time = map(int, fields)
                journal.push = producer, first, n, time
                for seq in range(first, first + n):
                    self.open_keys[producer, seq] = True
            elif what == "?":
                journal.call = Call(journal, fields[0], int(fields[1]), int(fields[2]))
            elif what == "c":
                journal.call.claimed = int(fields[0]), int(fields[1])
                self.claimed_ever.add(journal.call.claimed)
                if len(fields) > 2:
                    self.durations.append((journal.worker, journal.call.time, int(fields[2]), "try"))
            elif what == "#":
                self.fault("torn", f"{journal.name}: {line}")
            elif what in ("=", "!", "x"):
                self._answer(journal, what, fields, line)
            else:
                self.fault("errors", f"{journal.name}: a line of another kind: {line!r}")

    def _answer(self, journal, what, fields, line):
        if what == "!":
            self.fault("errors", f"{journal.name}: {line}")
        if journal.push or not journal.call.claimed:
            begin, kind = ((journal.push[3], f"push of {journal.push[2]}") if journal.push
                           else (journal.call.time, f"{journal.call.kind} of {journal.call.most}"))
            self.durations.append((journal.worker, begin, int(fields[0]), kind))
        if journal.push:
            producer, first, n, _ = journal.push
            journal.push = None
            for key in ((producer, seq) for seq in range(first, first + n)):
                self.open_keys.pop(key, None)
                if what != "=":
                    self.refused.add(key)
                    if key in self.taken:
                        self.fault("made up", f"{key} was taken, whose push was refused")
                else:
                    self.pushes += 1
                    if key not in self.taken:
                        self.acked[key] = True
            return
        call, journal.call = journal.call, None
        for pair in fields[1:] if what == "=" else []:
            producer, seq = map(int, pair.split(":"))
            self._taken(journal, call, (producer, seq))
        for key in call.keys:
            for calls in self.missing, self.abandoned:
                if key in calls:
                    calls[key].discard(call)

    def _taken(self, journal, call, key):
        self.takes += 1
        producer, seq = key
        where = f"{producer}:{seq} by {journal.name}"
        if key in self.taken or key in self.gone:
            return self.fault("doubled", f"{where}, but it was taken before")
        if key in self.abandoned:
            if call not in self.abandoned.pop(key):
                self.fault("doubled", f"{where}, but it was not in the file when its producer had died")
        elif key in self.refused:
            self.fault("made up", f"{where}, whose push was refused")
        elif key in self.missing:
            if call not in self.missing.pop(key):
                self.fault("doubled", f"{where}, but it was missing in the file before this call")
        elif key not in self.acked and key not in self.open_keys:
            # Another journal's intent may not be read yet: settled in check().
            self.open_keys[key] = None
        self.acked.pop(key, None)
        self.ordinals.pop(key, None)
        self.taken.add(key)
        last = journal.last.get(producer, 0)
        journal.last[producer] = max(last, seq)
        if seq < last:
            self.out_of_order.append((key, f"{where}, after {last}"))

    # -- the file

    def check(self, queue, at_rest=False):
        """queue: as queue_check reads it, at the moment to which the journals are read.
        at_rest: no call is in flight."""
        for text in queue.problems:
            kind = "torn" if " torn" in text else "lost" if " lost" in text else "file"
            self.fault(kind, f"the file: {text}")
        if queue.live["lost_n"]:
            self.fault("lost", f"the file: lost_n is {queue.live['lost_n']}")
        # Taken before its intent was read is settled now that all journals are.
        for key in [key for key, known in self.open_keys.items() if known is None]:
            del self.open_keys[key]
            self.fault("made up", f"{key} was taken, which nobody meant to push")
        for key, text in self.out_of_order:
            if key in self.claimed_ever:
                continue
            self.excused += 1
            if self.excused > self.blind_tries:
                self.fault("order broken", text)
        self.out_of_order = []
        present = self._present(queue)
        self._missing(queue, present, at_rest)

    def _present(self, queue):
        present, last = {}, {}
        for message in queue.messages:
            if message.data is None:
                continue  # told by the checker
            key = self.content(message)
            if key is None:
                continue
            producer, seq = key
            where = f"{producer}:{seq}, ordinal {message.ordinal}, {message.kind}"
            if seq <= last.get(producer, 0):
                self.fault("order broken" if key not in present else "doubled",
                           f"in the file {where} comes after {last[producer]}")
            last[producer] = max(seq, last.get(producer, 0))
            if message.kind not in (READY, LEASED):
                continue
            if key in present:
                self.fault("doubled", f"{where} is in the file at {present[key]} too")
            present[key] = message.ordinal
            if key in self.taken or key in self.gone:
                self.fault("doubled", f"{where} is in the file, but was taken")
            elif key in self.missing:
                self.fault("doubled", f"{where} is in the file again")
                del self.missing[key]
            elif key in self.abandoned:
                self.fault("made up", f"{where} came after its producer's death")
            elif key in self.refused:
                self.fault("made up", f"{where}, whose push was refused")
            elif key not in self.acked and key not in self.open_keys:
                self.fault("made up", f"{where}, which nobody meant to push")
            if self.ordinals.setdefault(key, message.ordinal) != message.ordinal:
                self.fault("file", f"{where} had ordinal {self.ordinals[key]} before")
        return present

    def _missing(self, queue, present, at_rest):
        calls = [journal.call for journal in self.journals.values() if journal.call]
        dead_pushes = [journal for journal in self.journals.values() if journal.dead and journal.push]
        for key in self.acked:
            if key not in present and key not in self.missing:
                self._may_have(self.missing, key, calls)
        # A dead producer's last push: what is there counts as pushed, what is not must never come.
        for journal in dead_pushes:
            producer, first, n, _ = journal.push
            journal.push = None
            for key in ((producer, seq) for seq in range(first, first + n)):
                self.open_keys.pop(key, None)
                if key in present:
                    self.acked[key] = True
                elif key not in self.taken:
                    self._may_have(self.abandoned, key, calls)
        for key in list(self.missing):
            self._charge(key)
        self._too_many()
        # From here on a dead call can have taken nothing that is still here.
        for journal in self.journals.values():
            if journal.dead:
                journal.call = None
        if at_rest:
            for key in list(self.missing):
                self.fault("lost", f"{key} at rest")
                self._give_up(key)

    def _may_have(self, keys, key, calls):
        keys[key] = set(calls)
        for call in calls:
            call.keys.append(key)

    def _give_up(self, key):
        del self.missing[key]
        self.acked.pop(key, None)
        self.gone.add(key)

    def _charge(self, key):
        """Once only the dead can have it, one of them is charged with it."""
        calls = self.missing[key]
        able = [call for call in calls if call.kind != "try" or call.claimed == key]
        if any(not call.dead for call in able):
            return
        claimed = [call for call in able if call.claimed == key]
        for call in claimed + sorted(able, key=lambda call: call.charged - call.most):
            if call.charged < call.most:
                call.charged += 1
                return self._give_up(key)
        self.fault("lost", f"{key[0]}:{key[1]} (ordinal {self.ordinals.get(key)}): not in the file, not"
                           f" taken; killed calls could have taken {sum(c.most for c in able)}")
        self._give_up(key)

    def _too_many(self):
        """What is missing and may be in the hands of the living must fit into their hands."""
        able = {call for calls in self.missing.values() for call in calls}
        room = sum(call.most - call.charged for call in able)
        if len(self.missing) > room:
            self.fault("lost", f"{len(self.missing)} are missing, calls in flight may have {room}:"
                               f" {sorted(self.missing)[:10]}", len(self.missing) - room)
