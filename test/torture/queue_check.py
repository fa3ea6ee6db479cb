#!/usr/bin/env python3
"""queue_check.py [--json] [--quiet] [--cut] FILE: judge a queue's file by docs/format/queue.md alone.

Shares no code with the library, and writes nothing. The file is taken as a kill has left it: the redo
record is laid over, and the identity is believed to be that of now. Says what is in it, message
by message, and everything that contradicts the page: checksums, counts, bytes, ordinals, and slots
that are not in exactly one of the chain, the warm list, the cold list, a participant's hand.
Exit status 0: all is well; 1: problems; 2: no queue.

With whoever has the queue open stopped (SIGSTOP) or dead, the file may be read in place.
"""
import argparse
import json
import struct
import sys
import zlib

PAGE = 4096
LIVE_OFF = PAGE
CHECKPOINT_OFFS = (2 * PAGE, 3 * PAGE)
PARTICIPANTS_OFF, PARTICIPANTS, PARTICIPANT_BYTES = 16384, 256, 64
DATA_OFF = 131072
QUEUE_MAGIC = b"EMMAPQU\n"
SEGMENT_MAGIC = 0x31746E656D676573
CHECKPOINT_MAGIC = 0x31746E696F706B63
SLOT_HEAD, SLOT_TAIL = 128, 64
RECORD_HEAD, RECORD_TAIL = 40, 8
MOST_BYTES = 1 << 30
DEFLATED = 1

READY, FILLING, LEASED, TAKING, DONE, VOID = "READY FILLING LEASED TAKING DONE VOID".split()
KINDS = {5: FILLING, 6: LEASED, 9: TAKING, 10: DONE, 12: VOID}  # any other is READY
MESSAGE_KINDS = (READY, LEASED, TAKING)

# Words of the live page: offset in it.
LIVE = {
    "lock": 0, "tail": 64, "tail_n": 72, "tail_slot": 80, "cursor": 128, "cursor_n": 136,
    "cursor_slot": 144, "head": 192, "head_n": 200, "head_slot": 208, "window_n": 216,
    "returned_n": 224, "gap_n": 232, "gap_bytes": 240, "first_slot": 256, "last_slot": 264,
    "warm_slot": 272, "warm_n": 280, "cold_slot": 288, "slots": 296, "epoch": 304,
    "next_number": 312, "max_bytes": 320, "wake": 328, "sync_error": 336, "cp_serial": 344,
    "cp_durable": 352, "lost_n": 360, "syncer": 368,
}
IDENTITY_OFF, REDO_N_OFF, REDO_OFF, REDO_MOST = 384, 512, 520, 16


# ------------------------------------------------------------------------------------ checksums

def _table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


CRC_TABLE = _table()


LANE = 256


def _plain(crc, data):
    table = CRC_TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    return crc


def crc32c(data):
    crc, whole = 0xFFFFFFFF, len(data) // LANE * LANE
    if whole < 16 * LANE:
        whole = 0
    for lane in _lanes(data[:whole]):
        crc = _zeros(crc) ^ lane
    return _plain(crc, data[whole:]) ^ 0xFFFFFFFF


# Large data is cut into lanes, whose checksums are computed side by side: the k-th byte of all of them in
# one bytes.translate for each of the register's four bytes. Checksums being linear, that of the
# whole is each lane's, moved on by as many zeros as follow it.
PLANES = [bytes(value >> shift & 255 for value in CRC_TABLE) for shift in (0, 8, 16, 24)]
ZEROS = [[_plain(byte << shift, bytes(LANE)) for byte in range(256)] for shift in (0, 8, 16, 24)]


def _zeros(crc):
    return (ZEROS[0][crc & 255] ^ ZEROS[1][crc >> 8 & 255] ^ ZEROS[2][crc >> 16 & 255]
            ^ ZEROS[3][crc >> 24])


def _lanes(data):
    n = len(data) // LANE
    of = lambda raw: int.from_bytes(raw, "little")
    c0 = c1 = c2 = c3 = 0
    for k in range(LANE if n else 0):
        index = (of(data[k::LANE]) ^ c0).to_bytes(n, "little")
        c0, c1, c2, c3 = (of(index.translate(PLANES[0])) ^ c1, of(index.translate(PLANES[1])) ^ c2,
                          of(index.translate(PLANES[2])) ^ c3, of(index.translate(PLANES[3])))
    planes = [c.to_bytes(n, "little") for c in (c0, c1, c2, c3)]
    return [b0 | b1 << 8 | b2 << 16 | b3 << 24 for b0, b1, b2, b3 in zip(*planes)]


# --------------------------------------------------------------------------------------- terms

class Atom(str):
    """An Erlang atom; a string otherwise."""


class Undecodable(Exception):
    pass


def decode(data):
    """The term of a message: ints, floats, Atom, bytes, tuple, list, dict."""
    try:
        if data[0] != 131:
            raise Undecodable("does not start with 131")
        term, end = _term(data, 1)
    except (IndexError, struct.error, UnicodeDecodeError) as cause:
        raise Undecodable(f"ends too early: {cause}") from cause
    if end != len(data):
        raise Undecodable(f"{len(data) - end} bytes behind the term")
    return term


def _need(data, at, n):
    if at + n > len(data):
        raise Undecodable("ends too early")
    return bytes(data[at:at + n]), at + n


def _terms(data, at, n):
    terms = []
    for _ in range(n):
        term, at = _term(data, at)
        terms.append(term)
    return terms, at


def _term(data, at):
    tag = data[at]
    at += 1
    if tag == 97:
        return data[at], at + 1
    if tag == 98:
        return struct.unpack_from(">i", data, at)[0], at + 4
    if tag in (110, 111):
        n, at = (data[at], at + 1) if tag == 110 else (struct.unpack_from(">I", data, at)[0], at + 4)
        sign = data[at]
        raw, at = _need(data, at + 1, n)
        value = int.from_bytes(raw, "little")
        return (-value if sign else value), at
    if tag == 70:
        return struct.unpack_from(">d", data, at)[0], at + 8
    if tag in (100, 118):
        raw, at = _need(data, at + 2, struct.unpack_from(">H", data, at)[0])
        return Atom(raw.decode("utf-8" if tag == 118 else "latin-1")), at
    if tag in (115, 119):
        raw, at = _need(data, at + 1, data[at])
        return Atom(raw.decode("utf-8" if tag == 119 else "latin-1")), at
    if tag in (104, 105):
        n, at = (data[at], at + 1) if tag == 104 else (struct.unpack_from(">I", data, at)[0], at + 4)
        terms, at = _terms(data, at, n)
        return tuple(terms), at
    if tag == 106:
        return [], at
    if tag == 107:
        raw, at = _need(data, at + 2, struct.unpack_from(">H", data, at)[0])
        return list(raw), at
    if tag == 108:
        terms, at = _terms(data, at + 4, struct.unpack_from(">I", data, at)[0])
        tail, at = _term(data, at)
        return (terms if tail == [] else terms + [("improper", tail)]), at
    if tag == 109:
        return _need(data, at + 4, struct.unpack_from(">I", data, at)[0])
    if tag == 116:
        pairs, at = _terms(data, at + 4, 2 * struct.unpack_from(">I", data, at)[0])
        return {repr(k): v for k, v in zip(pairs[::2], pairs[1::2])}, at
    raise Undecodable(f"tag {tag} at {at - 1} is not known here")


# ------------------------------------------------------------------------------------- the file

class NoQueue(Exception):
    """The header does not hold: nothing else is looked at."""


class Message:
    __slots__ = ("ordinal", "position", "kind", "attempt", "owner", "time", "flags", "data")

    def __init__(self, ordinal, position, kind, attempt, owner, time, flags, data):
        self.ordinal, self.position, self.kind, self.attempt = ordinal, position, kind, attempt
        self.owner, self.time, self.flags, self.data = owner, time, flags, data

    def term(self):
        return decode(self.data)


class Segment:
    """One of the chain: its bytes of the stream are start .. end."""
    __slots__ = ("slot", "number", "epoch", "first_pos", "first_n", "prev", "prev_end", "start", "end")


class Queue:
    """What is in a file (bytes, or an mmap of it): messages, records, problems.

    messages   READY, LEASED and TAKING, in order
    records    (ordinal, kind) of all from head to tail
    problems   what contradicts the page, in words

    With records false nothing is walked, for claims() alone. With cut the file is as the recovery of
    a power cut has left it: where segments are missing, or records are, which no sync had covered, the ordinals go
    on with a higher one, and segments tell of what was there.
    """

    def __init__(self, image, records=True, cut=False):
        self.raw, self.cut, self.after_gap = image, cut, set()
        self.laid_over = {}
        self.problems = []
        self.messages = []
        self.records = []
        self.live = {}
        self.chain = []
        self.redone = 0
        self._header()
        self._redo()
        self.live = {name: self.word(LIVE_OFF + off) for name, off in LIVE.items()}
        self._checkpoints()
        self._slots()
        self._chain()
        if self.chain and records:
            self._records()

    def problem(self, text):
        if len(self.problems) < 100:
            self.problems.append(text)

    def word(self, off):
        if off in self.laid_over:
            return self.laid_over[off]
        return struct.unpack_from("<Q", self.raw, off)[0]

    def bytes(self, off, n):
        """As they are with the redo record laid over."""
        raw = bytes(self.raw[off:off + n])
        if len(raw) != n:
            self.problem(f"the file ends before {off + n}")
            raw += bytes(n - len(raw))
        for at, value in self.laid_over.items():
            if off - 8 < at < off + n:
                for i, byte in enumerate(struct.pack("<Q", value)):
                    if off <= at + i < off + n:
                        raw = raw[:at + i - off] + bytes([byte]) + raw[at + i - off + 1:]
        return raw

    # -- the header

    def _header(self):
        raw = bytes(self.raw[:96])
        if len(raw) < 16:
            raise NoQueue("foreign: shorter than 16 bytes")
        if raw[:8] != QUEUE_MAGIC:
            raise NoQueue("foreign: another magic")
        if len(raw) < 96:
            raise NoQueue("truncated: shorter than its header")
        if crc32c(raw[:92]) != struct.unpack_from("<I", raw, 92)[0]:
            raise NoQueue("corrupt: the header's checksum")
        version, kind = struct.unpack_from("<II", raw, 8)
        incompat, ro_compat = struct.unpack_from("<QQ", raw, 16)
        if version != 1 or kind != 1 or incompat or ro_compat:
            raise NoQueue("enotsup: of a later version")
        self.salt = raw[56:64]
        self.segment_bytes, data_off, self.created, self.flags = struct.unpack_from("<QQQI", raw, 64)
        size = self.segment_bytes
        if size & (size - 1) or not 1 << 16 <= size <= 1 << 24 or data_off != DATA_OFF:
            raise NoQueue("corrupt: its sizes")
        if len(self.raw) < DATA_OFF:
            raise NoQueue("truncated: no room for the tables")
        self.cap = size - SLOT_HEAD - SLOT_TAIL
        self.file_slots = (len(self.raw) - DATA_OFF) // size

    def slot_off(self, slot):
        return DATA_OFF + (slot - 1) * self.segment_bytes

    # -- the redo record

    def _redo(self):
        n = self.word(LIVE_OFF + REDO_N_OFF)
        if n > REDO_MOST:
            return self.problem(f"redo_n is {n}")
        self.redone = n
        end_of_slots = DATA_OFF + self.file_slots * self.segment_bytes
        for i in range(n):
            off, value = struct.unpack_from("<QQ", self.raw, LIVE_OFF + REDO_OFF + 16 * i)
            allowed = (
                LIVE_OFF + LIVE["tail"] <= off < LIVE_OFF + IDENTITY_OFF
                or PARTICIPANTS_OFF <= off < PARTICIPANTS_OFF + PARTICIPANTS * PARTICIPANT_BYTES
                or DATA_OFF <= off < end_of_slots)
            if off % 8 or not allowed:
                self.problem(f"the redo record's offset {off}")
            else:
                self.laid_over[off] = value

    # -- checkpoints

    def _checkpoints(self):
        self.checkpoints = []
        for off in CHECKPOINT_OFFS:
            raw = self.bytes(off, 80)
            names = "serial epoch head head_n tail tail_n slots next_number".split()
            values = dict(zip(names, struct.unpack_from("<8Q", raw, 8)))
            valid = (struct.unpack_from("<Q", raw, 0)[0] == CHECKPOINT_MAGIC
                     and crc32c(self.salt + raw[:72]) == struct.unpack_from("<I", raw, 72)[0])
            self.checkpoints.append(values if valid else None)
        live = self.live
        durable = self.checkpoints[live["cp_durable"] % 2]
        if not durable or durable["serial"] != live["cp_durable"]:
            self.problem(f"the durable checkpoint {live['cp_durable']} is not there: {durable}")
        if live["cp_serial"] < live["cp_durable"]:
            self.problem(f"cp_serial {live['cp_serial']} is below cp_durable {live['cp_durable']}")
        for values in self.checkpoints:
            if not values or (self.cut and values["serial"] < live["cp_durable"]):
                continue  # what the recovery began with may tell of more than it found
            for low, high in ("head", "tail"), ("head_n", "tail_n"):
                if values[low] > values[high]:
                    self.problem(f"checkpoint {values['serial']}: {low} is above {high}")
            for name in "head", "head_n", "tail", "tail_n", "epoch", "next_number":
                if values[name] > live[name]:
                    self.problem(f"checkpoint {values['serial']}: {name} {values[name]} is above"
                                 f" the live page's {live[name]}")

    # -- slots: each in exactly one place

    def _slots(self):
        self.places = {}
        slots = self.live["slots"]
        if slots > 1 << 40:
            return self.problem(f"slots is {slots}")
        self.hands = []
        for i in range(PARTICIPANTS):
            at = PARTICIPANTS_OFF + i * PARTICIPANT_BYTES
            for name, off in ("preparing", 8), ("punching", 16):
                slot = self.word(at + off)
                if slot:
                    self._place(slot, f"participant {i}'s {name}")
                    self.hands.append((i, name, slot))
        self.chain_slots = self._list("the chain", self.live["first_slot"], 64, self.live["last_slot"])
        warm = self._list("the warm list", self.live["warm_slot"], 88)
        self.cold_slots = self._list("the cold list", self.live["cold_slot"], 88)
        self.warm_slots = warm
        if len(warm) != self.live["warm_n"]:
            self.problem(f"warm_n is {self.live['warm_n']}, its list has {len(warm)}")
        for slot in range(1, slots + 1):
            if slot not in self.places:
                self.problem(f"slot {slot} of {slots} is nowhere")
        growing = any(name == "preparing" and slot == slots for _, name, slot in self.hands)
        if self.file_slots < slots - (1 if growing else 0):
            self.problem(f"the file reaches to {self.file_slots} of {slots} slots")

    def _place(self, slot, where):
        if not 1 <= slot <= self.live["slots"]:
            self.problem(f"{where} has slot {slot} of {self.live['slots']}")
            return False
        if slot in self.places:
            self.problem(f"slot {slot} is in {self.places[slot]} and in {where}")
            return False
        self.places[slot] = where
        return True

    def _list(self, name, slot, link_off, last=None):
        """Its slots; the chain ends with the last one, a free list with 0."""
        found = []
        while slot:
            if not self._place(slot, name):
                break
            found.append(slot)
            if slot == last:
                return found
            if slot > self.file_slots:
                self.problem(f"{name} has slot {slot}, to which the file does not reach")
                break
            slot = self.word(self.slot_off(slot) + link_off)
        if last is not None and (found or last):
            self.problem(f"{name} does not come to its last slot {last}: {found[-5:]}")
        return found

    # -- the chain's segments, up to the tail's

    def _segment_copy(self, raw):
        if struct.unpack_from("<Q", raw, 0)[0] != SEGMENT_MAGIC:
            return None
        if crc32c(self.salt + raw[:56]) != struct.unpack_from("<I", raw, 56)[0]:
            return None
        return struct.unpack_from("<6Q", raw, 8)

    def _segment(self, slot):
        off = self.slot_off(slot)
        copies = [self._segment_copy(self.bytes(at, 64))
                  for at in (off, off + self.segment_bytes - SLOT_TAIL)]
        if copies[0] is None or copies[0] != copies[1]:
            self.problem(f"slot {slot}: the header's copies are {copies[0]} and {copies[1]}")
        found = copies[0] or copies[1]
        if found is None:
            return None
        segment = Segment()
        segment.slot = slot
        (segment.number, segment.epoch, segment.first_pos, segment.first_n, segment.prev,
         segment.prev_end) = found
        segment.start = segment.number * self.cap
        segment.end = segment.start + self.cap
        return segment

    def _chain(self):
        live = self.live
        if not self.chain_slots and not live["tail_slot"]:
            if live["head"] != live["tail"]:
                self.problem("no chain, but head and tail differ")
            return
        if live["tail_slot"] not in self.chain_slots:
            return self.problem(f"the tail's slot {live['tail_slot']} is not in the chain")
        for slot in self.chain_slots[:self.chain_slots.index(live["tail_slot"]) + 1]:
            segment = self._segment(slot)
            if segment is None:
                return
            before = self.chain[-1] if self.chain else None
            self._follows(before, segment)
            self.chain.append(segment)
        last = self.chain[-1]
        sealed = self.word(self.slot_off(last.slot) + 72)
        if sealed:
            last.end = last.start + sealed
        if not last.start <= live["tail"] <= last.end:
            self.problem(f"the tail {live['tail']} is not in its segment {last.start}..{last.end}")
        for name in "head_slot", "cursor_slot":
            if live[name] not in [segment.slot for segment in self.chain]:
                self.problem(f"{name} {live[name]} is not in the chain up to the tail")

    def _follows(self, before, segment):
        name = f"slot {segment.slot} (segment {segment.number})"
        if segment.epoch > self.live["epoch"]:
            self.problem(f"{name}: its epoch {segment.epoch} is above {self.live['epoch']}")
        if not segment.start <= segment.first_pos <= segment.end:
            self.problem(f"{name}: first_pos {segment.first_pos} lies outside")
        if before is None:
            return
        if segment.prev != before.slot and not (self.cut and segment.number > before.number + 1):
            self.problem(f"{name}: prev is {segment.prev}, not {before.slot}")
        if segment.epoch < before.epoch:
            self.problem(f"{name}: its epoch falls from {before.epoch} to {segment.epoch}")
        if segment.number <= before.number:
            self.problem(f"{name} comes behind segment {before.number}")
        sealed = self.word(self.slot_off(before.slot) + 72)
        if self.cut and segment.number > before.number + 1:
            self.after_gap.add(len(self.chain))
        if not before.start <= segment.prev_end <= before.end:  # those between are missing
            if segment.number == before.number + 1:
                self.problem(f"{name}: prev_end {segment.prev_end} is not in {before.start}..{before.end}")
            before.end = before.start + (sealed or self.cap)
            return
        before.end = segment.prev_end
        if sealed and before.start + sealed != segment.prev_end:
            self.problem(f"{name}: prev_end {segment.prev_end}, but the one before is sealed at"
                         f" {before.start + sealed}")
        if not sealed and segment.start != segment.prev_end:
            self.problem(f"{name}: begins behind a gap, but the one before is not sealed")

    # -- records

    def _find(self, slot, position):
        """Index in the chain of the segment in which the position lies, and the position there."""
        for i, segment in enumerate(self.chain):
            if segment.slot == slot:
                return self._on(i, position)
        return None, position

    def _on(self, i, position):
        while position == self.chain[i].end and i + 1 < len(self.chain):
            i += 1
            if position != self.chain[i].start:  # behind a seal, or what is missing
                position = self.chain[i].first_pos
        return i, position

    def _stream(self, i, position, n):
        """n bytes of the stream from there: (bytes or None, segment's index, position behind)."""
        pieces = []
        while n:
            was = position
            i, position = self._on(i, position)
            segment = self.chain[i]
            step = min(n, segment.end - position)
            if step <= 0 or position != was:  # no record goes on behind a seal
                return None, i, position
            pieces.append(self.bytes(self.slot_off(segment.slot) + SLOT_HEAD + position - segment.start,
                                     step))
            position += step
            n -= step
        return b"".join(pieces), i, position

    def _record(self, i, position):
        """(Message or None, ordinal, whole size, segment's index and position behind it)."""
        head, _, _ = self._stream(i, position, RECORD_HEAD)
        where = f"record at {position}"
        if head is None:
            self.problem(f"{where}: its header ends behind the stream")
            return None
        crc, flags, ordinal, time, len_bytes, dcrc, state = struct.unpack("<IIQQIIQ", head)
        begun = self.salt + struct.pack("<QQ", self.chain[i].epoch, position)
        if crc != crc32c(begun + head[4:32]):
            self.problem(f"{where}: the header's checksum")
            return None
        if flags & ~DEFLATED or len_bytes > MOST_BYTES:
            self.problem(f"{where}: flags {flags}, {len_bytes} bytes")
            return None
        padded = (len_bytes + 7) // 8 * 8
        kind = KINDS.get(state & 15, READY)
        size = RECORD_HEAD + padded + RECORD_TAIL
        body, behind_i, behind = self._stream(i, position, size)
        if body is None:
            self.problem(f"{where}: ends behind the stream")
            return None
        if body[-8:] != struct.pack("<II", len_bytes, len_bytes ^ 0xFFFFFFFF):
            self.problem(f"{where}: the trailer is {body[-8:].hex()}, len {len_bytes}")
        data = body[RECORD_HEAD:RECORD_HEAD + len_bytes]
        if kind in MESSAGE_KINDS:
            if crc32c(data) != dcrc:
                self.problem(f"{where}: torn: the data's checksum, message {ordinal}, {kind}")
                data = None
            elif any(body[RECORD_HEAD + len_bytes:-8]):
                self.problem(f"{where}: what is behind the data is not zero")
        owner = None
        if kind in (FILLING, LEASED, TAKING):
            owner = (state >> 16 & 0xFFFF, state >> 32)
            if owner[0] >= PARTICIPANTS:
                self.problem(f"{where}: {kind} by participant {owner[0]}")
        if data is not None and flags & DEFLATED and kind in MESSAGE_KINDS:
            data = self._inflated(where, data)
        message = Message(ordinal, position, kind, state >> 4 & 0xFFF, owner, time, flags, data)
        return message, size, behind_i, behind

    def _inflated(self, where, data):
        try:
            term = zlib.decompress(data[4:])
        except zlib.error as cause:
            return self.problem(f"{where}: torn: {cause}")
        if len(data) < 4 or struct.unpack_from("<I", data)[0] != len(term):
            return self.problem(f"{where}: torn: inflated it has another length")
        return term

    def _records(self):
        live = self.live
        i, position = self._find(live["head_slot"], live["head"])
        if i is None:
            return
        if live["head"] > live["cursor"] or live["cursor"] > live["tail"]:
            return self.problem(f"head {live['head']}, cursor {live['cursor']}, tail {live['tail']}")
        if live["head_n"] > live["cursor_n"] or live["cursor_n"] > live["tail_n"]:
            self.problem(f"head_n {live['head_n']}, cursor_n {live['cursor_n']}, tail_n {live['tail_n']}")
        _, cursor = self._find(live["cursor_slot"], live["cursor"])
        _, tail = self._find(live["tail_slot"], live["tail"])
        ordinal, gap_n, gap_bytes, returned_n = live["head_n"], 0, position - live["head"], 0
        cursor_seen = False
        last_i, last = i, position
        entered = i  # segments up to this one have been entered by the walk
        while position < tail:
            if position == cursor:
                cursor_seen = True
                if ordinal != live["cursor_n"]:
                    self.problem(f"cursor_n is {live['cursor_n']}, the record there {ordinal}")
            entered = self._entered(entered, i, position, ordinal)
            found = self._record(i, position)
            if found is None:
                return self.problem(f"the walk ends at {position}, before the tail {tail}: the rest is"
                                    f" lost, ordinals {ordinal} to {live['tail_n'] - 1}")
            message, size, i, behind = found
            if message.ordinal != ordinal:
                gap = self.cut and message.ordinal > ordinal and (message.kind == VOID or i in self.after_gap)
                gap or self.problem(f"record at {position} has ordinal {message.ordinal}, expected {ordinal}")
                gap_n += max(0, message.ordinal - ordinal)
                ordinal = message.ordinal
            in_window = position < cursor
            if message.kind in (LEASED, TAKING) and not in_window:
                self.problem(f"message {ordinal} is {message.kind}, but not before the cursor")
            if message.kind == FILLING and in_window:
                self.problem(f"record {ordinal} is FILLING, but before the cursor")
            returned_n += message.kind == READY and in_window
            gap_n += message.kind in (FILLING, DONE, VOID)
            gap_bytes += size if message.kind in (DONE, VOID) else 0
            self.records.append((ordinal, message.kind))
            if message.kind in MESSAGE_KINDS:
                self.messages.append(message)
            ordinal += 1
            if self.cut and message.kind == VOID:
                entered = i  # it stands for what lay there
            last_i, last = i, behind
            i, position = self._on(i, behind)
            if position != last and position < tail:
                gap_bytes += position - last  # behind a seal
            if last == tail:
                position = last
        self._entered(entered, last_i, last, ordinal)
        if position != tail:
            self.problem(f"the walk passes the tail {tail}, to {position}")
        if ordinal != live["tail_n"]:
            self.problem(f"tail_n is {live['tail_n']}, the walk comes to {ordinal}")
        if cursor == tail:
            cursor_seen = True
            if live["cursor_n"] != live["tail_n"]:
                self.problem(f"the cursor is at the tail, cursor_n {live['cursor_n']}, tail_n {live['tail_n']}")
        if not cursor_seen:
            self.problem(f"no record starts at the cursor {cursor}")
        window_n = live["cursor_n"] - live["head_n"]
        if live["window_n"] not in (0, window_n) or (live["window_n"] == 0 and window_n):
            self.problem(f"window_n is {live['window_n']}, head to cursor {window_n}")
        for name, counted in ("returned_n", returned_n), ("gap_n", gap_n), ("gap_bytes", gap_bytes):
            if live[name] != counted:
                self.problem(f"{name} is {live[name]}, counted {counted}")
        if live["tail_n"] - live["head_n"] - live["gap_n"] != len(self.messages):
            self.problem(f"{len(self.messages)} messages, by the live page"
                         f" {live['tail_n'] - live['head_n'] - live['gap_n']}")

    def claims(self, most):
        """(kind, participant) of the claimed among the first records from the head, unchecked."""
        i, position = self._find(self.live["head_slot"], self.live["head"])
        for _ in range(most if i is not None else 0):
            if position >= self.live["tail"]:
                return
            head, _, _ = self._stream(i, position, RECORD_HEAD)
            if head is None:
                return
            len_bytes, _, state = struct.unpack_from("<IIQ", head, 24)
            kind = KINDS.get(state & 15, READY)
            if kind in (FILLING, LEASED, TAKING):
                yield kind, state >> 16 & 0xFFFF
            rest = RECORD_HEAD + (len_bytes + 7) // 8 * 8 + RECORD_TAIL
            while rest:
                i, position = self._on(i, position)
                step = min(rest, self.chain[i].end - position)
                if step <= 0:
                    return
                position, rest = position + step, rest - step
            i, position = self._on(i, position)

    def _entered(self, entered, i, position, ordinal):
        """The first record that starts in a segment, or behind it, is named in its header."""
        while entered < i:
            entered += 1
            segment = self.chain[entered]
            if self.after_gap and entered >= min(self.after_gap):
                continue
            expected = position if entered == i else segment.end
            if (segment.first_pos, segment.first_n) != (expected, ordinal):
                self.problem(f"segment {segment.number}: first_pos {segment.first_pos}, first_n"
                             f" {segment.first_n}, but {expected}, {ordinal}")
        return entered

    # -- what it says

    def summary(self):
        live = self.live
        kinds = {}
        for _, kind in self.records:
            kinds[kind] = kinds.get(kind, 0) + 1
        return {
            "messages": len(self.messages), "bytes": live["tail"] - live["head"] - live["gap_bytes"],
            "records": kinds, "head_n": live["head_n"], "cursor_n": live["cursor_n"],
            "tail_n": live["tail_n"], "lost_n": live["lost_n"], "slots": live["slots"],
            "segment_bytes": self.segment_bytes, "chain": len(self.chain_slots),
            "warm": len(self.warm_slots), "cold": len(self.cold_slots), "hands": len(self.hands),
            "redone": self.redone, "lock": live["lock"], "problems": self.problems}


def load(path, cut=False):
    with open(path, "rb") as file:
        return Queue(file.read(), cut=cut)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("file")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--cut", action="store_true", help="a power cut was recovered from")
    parser.add_argument("--quiet", action="store_true", help="no messages, only the summary")
    options = parser.parse_args()
    try:
        queue = load(options.file, options.cut)
    except (NoQueue, OSError) as cause:
        print(f"{options.file}: {cause}", file=sys.stderr)
        return 2
    for message in [] if options.quiet else queue.messages:
        try:
            term = repr(message.term()) if message.data is not None else "torn"
        except Undecodable as cause:
            term = f"undecodable: {cause}"
        if options.json:
            print(json.dumps({"ordinal": message.ordinal, "state": message.kind, "time": message.time,
                              "attempt": message.attempt, "owner": message.owner, "term": term}))
        else:
            print(message.ordinal, message.kind, term if len(term) < 100 else term[:97] + "...")
    summary = queue.summary()
    if options.json:
        print(json.dumps(summary))
    else:
        print(", ".join(f"{name} {value}" for name, value in summary.items() if name != "problems"))
        for problem in queue.problems:
            print(f"problem: {problem}")
    return 1 if queue.problems else 0


if __name__ == "__main__":
    sys.exit(main())
