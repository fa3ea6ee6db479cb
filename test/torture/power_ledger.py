"""What the journals of a writer say, held against what a cut of the power has left of its files.

The journals lie on a file system that is not cut, and are read after the cut; each line has the time
(CLOCK_MONOTONIC, nanoseconds), taken before the call or after it. The cut happened between two times:
what was answered before the first had been acknowledged, what begins after the second had not been begun.
Messages and most lines are those of queue_ledger.py. There are, beside them:

    syncs        s TIME                  about to sync the queue; = TIME: all before is on the disk
    counters     v INDEX VALUE TIME      about to give it this value, higher than all before
                 = TIME                  synced: all of them
    mapped file  w PLACE SEQ LEN TIME    about to fill the first LEN bytes of a place
                 r TIME                  this one is synced; = TIME: all of them

Rules:
- pushed with durability sync and acknowledged, or pushed before a sync began that was acknowledged, and
  not in the hands of a take that had begun: it is there
- what is there was intended, is whole, there once, in its producer's order, and was not taken before
  such a sync began
- a counter has the last synced value, or a later one that was intended; a place's bytes are, each,
  those last synced or later intended ones (zeros before the first)
"""
import glob
import os

from queue_ledger import Faults, Journal, filling

PLACE = 8192


class History:
    """Of a journal of values: (where, value, intended, acknowledged or None)."""

    def __init__(self):
        self.of = {}
        self.open = []

    def intend(self, where, value, time):
        entry = [value, time, None]
        self.of.setdefault(where, []).append(entry)
        self.open.append(entry)

    def acknowledge(self, time, only_last=False):
        acknowledged = self.open[-1:] if only_last else self.open
        for entry in acknowledged:
            entry[2] = time
        self.open = self.open[:-1] if only_last else []

    def candidates(self, where, begin, end):
        """(values, whether one is acknowledged): the last acknowledged one and all behind it, up to the cut."""
        entries = [entry for entry in self.of.get(where, []) if entry[1] <= end]
        for i in range(len(entries) - 1, -1, -1):
            if entries[i][2] is not None and entries[i][2] <= begin:
                return [value for value, _, _ in entries[i:]], True
        return [value for value, _, _ in entries], False

    def acknowledged(self, begin):
        return sum(any(ack is not None and ack <= begin for _, _, ack in entries) for entries in self.of.values())


class QueueHistory:
    def __init__(self, durable):
        self.durable = durable
        self.pushes = {}  # key: [intended, acknowledged or None]
        self.takes = {}   # key: (begun, answered)
        self.syncs = []   # (begun, answered)

    def covered(self, begin):
        """What was answered before this time was on the disk before begin."""
        return max((begun for begun, answered in self.syncs if answered <= begin), default=0)


class Ledger(Faults):
    """Of one writer; folder: of its journals."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.queues = {"sync": QueueHistory(True), "process": QueueHistory(False)}
        self.counters, self.map = History(), History()
        self.journals = {}
        self.open = {}  # journal's name: its call that has no answer
        self.acknowledged = self.present = self.values = 0

    # -- journals

    def read(self):
        for path in glob.glob(os.path.join(self.folder, "*.journal")):
            name = os.path.basename(path)[:-len(".journal")]
            if name not in self.journals:
                self.journals[name] = Journal(path, 0)
            journal = self.journals[name]
            journal.fetch()
            for line in journal.lines():
                self._line(name, line)

    def close(self):
        for journal in self.journals.values():
            journal.file.close()

    def settled(self, end):
        """Whether all calls that had begun by then are answered."""
        return all(begun > end for begun, *_ in self.open.values())

    def _line(self, name, line):
        what, *fields = line.split()
        queue = self.queues.get(name.split("-")[0])
        if what == "+":
            producer, first, n, time = map(int, fields)
            keys = [(producer, seq) for seq in range(first, first + n)]
            for key in keys:
                queue.pushes[key] = [time, None]
            self.open[name] = time, keys
        elif what == "?":
            self.open[name] = int(fields[2]), None
        elif what == "s":
            self.open[name] = int(fields[0]), None
        elif what == "v":
            self.counters.intend(int(fields[0]), int(fields[1]), int(fields[2]))
        elif what == "w":
            place, seq, n, time = map(int, fields)
            self.map.intend(place, (seq, n), time)
        elif what == "r":
            self.map.acknowledge(int(fields[0]), only_last=True)
        elif what == "=" and name in ("counters", "map"):
            getattr(self, name).acknowledge(int(fields[0]))
        elif what == "=":
            self._answer(queue, name, fields)
        else:
            self.open.pop(name, None)
            self.fault("torn" if what == "#" else "errors", f"{name}: {line}")

    def _answer(self, queue, name, fields):
        begun, keys = self.open.pop(name)
        answered = int(fields[0])
        for key in keys or []:
            queue.pushes[key][1] = answered
        for pair in fields[1:]:
            producer, seq = map(int, pair.split(":"))
            queue.takes[producer, seq] = begun, answered
        if name.endswith("-s"):
            queue.syncs.append((begun, answered))

    # -- what a cut has left

    def acknowledged_anything(self, name, begin):
        queue = self.queues[name]
        covered = begin if queue.durable else queue.covered(begin)
        return any(ack is not None and ack <= covered for _, ack in queue.pushes.values())

    def check_queue(self, name, keys, begin, end):
        """keys: of the messages that are there, in their order."""
        queue = self.queues[name]
        synced = queue.covered(begin)
        covered = begin if queue.durable else synced
        there, last = set(), {}
        for key in keys:
            where = f"{name}: {key[0]}:{key[1]}"
            if key in there:
                self.fault("doubled", f"{where} is there twice")
            elif key[1] < last.get(key[0], 0):
                self.fault("order broken", f"{where} comes after {last[key[0]]}")
            there.add(key)
            last[key[0]] = max(key[1], last.get(key[0], 0))
            if key not in queue.pushes or queue.pushes[key][0] > end:
                self.fault("made up", f"{where} is there, which nobody meant to push")
            elif key in queue.takes and queue.takes[key][1] <= synced:
                self.fault("doubled", f"{where} is there, but was taken before a sync")
        for key, (_, ack) in queue.pushes.items():
            if ack is None or ack > covered or (key in queue.takes and queue.takes[key][0] <= end):
                continue
            self.acknowledged += 1
            if key not in there:
                self.fault("lost", f"{name}: {key[0]}:{key[1]}, acknowledged {(begin - ack) / 1e6:.3f} ms"
                                   " before the cut")
        self.present += len(there)

    def check_counters(self, values, begin, end):
        """values: None when there is no such file."""
        for index in self.counters.of if values is None else range(len(values)):
            found = 0 if values is None else values[index]
            allowed, known = self.counters.candidates(index, begin, end)
            self.values += known
            if found not in allowed + ([] if known else [0]):
                self.fault("lost" if allowed and found < allowed[0] else "made up",
                           f"counter {index} is {found}, not one of {allowed[:5]}")

    def check_map(self, image, begin, end):
        """image: the file's bytes, empty when there is no such file."""
        for place in self.map.of:
            allowed, known = self.map.candidates(place, begin, end)
            self.values += known
            found = image[place * PLACE:(place + 1) * PLACE]
            if not found and not known:
                continue
            found += bytes(PLACE - len(found))  # the file ends behind the last byte ever written
            images = [] if known else [bytes(PLACE)]
            images += self._images(place, allowed[0][0] if allowed else None, end)
            if any(found == one for one in images):
                continue
            if not all(byte in those for byte, *those in zip(found, *images)):
                self.fault("lost", f"place {place} is none of {allowed[:5]}, begins with {found[:16].hex()}")

    def _images(self, place, first_seq, end):
        """The place as it was from this write of it on; a shorter one leaves the end of the one before."""
        image = bytearray(PLACE)
        for (seq, n), intended, _ in self.map.of[place]:
            if intended > end or first_seq is None:
                return
            image[:n] = filling(place, seq, n)
            if seq >= first_seq:
                yield bytes(image)
