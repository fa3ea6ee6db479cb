#!/usr/bin/env python3
"""The judge is judged: faults planted in sound queues must be found, and sound ones pass.

MAKE_QUEUE in the environment: the program of make_queue.c, which makes the queues.
"""
import os
import struct
import subprocess
import tempfile
import unittest

import queue_check
from queue_check import LIVE, LIVE_OFF, Queue, crc32c
from queue_ledger import Ledger, filling


class Edit:
    """A queue's file, to be changed with all checksums made right again."""

    def __init__(self, image):
        self.image = bytearray(image)
        self.queue = Queue(image)

    def word(self, off):
        return struct.unpack_from("<Q", self.image, off)[0]

    def set(self, off, value):
        struct.pack_into("<Q", self.image, off, value)

    def add(self, name, n):
        self.set(LIVE_OFF + LIVE[name], self.word(LIVE_OFF + LIVE[name]) + n)

    def live(self, name, value):
        self.set(LIVE_OFF + LIVE[name], value)

    def off(self, position):
        """In the file. The records edited here lie in one segment each."""
        for segment in self.queue.chain:
            if segment.start <= position < segment.end:
                return self.queue.slot_off(segment.slot) + 128 + position - segment.start, segment
        raise KeyError(position)

    def size(self, message):
        return 48 + (len(message.data) + 7) // 8 * 8

    def state(self, message, kind):
        self.set(self.off(message.position)[0] + 32, kind)

    def data(self, message, data):
        """In place of what it has, with its checksums."""
        assert (len(data) + 7) // 8 == (len(message.data) + 7) // 8
        off, segment = self.off(message.position)
        padded = data + bytes(-len(data) % 8)
        self.image[off + 40:off + 40 + len(padded)] = padded
        struct.pack_into("<II", self.image, off + 40 + len(padded), len(data), len(data) ^ 0xFFFFFFFF)
        struct.pack_into("<II", self.image, off + 24, len(data), crc32c(data))
        begun = self.queue.salt + struct.pack("<QQ", segment.epoch, message.position)
        struct.pack_into("<I", self.image, off, crc32c(begun + self.image[off + 4:off + 32]))

    def problems(self):
        return Queue(bytes(self.image)).problems


def queue_of(*commands, size=65536):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "q")
        made = subprocess.run([os.environ["MAKE_QUEUE"], path, str(size), *commands], check=False)
        assert made.returncode == -9, made.returncode
        with open(path, "rb") as file:
            return file.read()


def external(producer, seq, data):
    return bytes([131, 104, 3, 98]) + struct.pack(">I", producer) + b"b" + struct.pack(">I", seq) \
        + b"m" + struct.pack(">I", len(data)) + data


MIXED = "p300:100 t100 p6:70000 t203 s p100 c p3:200000 t2".split()


class Faults(unittest.TestCase):
    """Each edit is one thing that the page forbids."""

    @classmethod
    def setUpClass(cls):
        edit = Edit(queue_of(*MIXED))
        # How far the background came differs: all free slots go to the cold list.
        free = edit.queue.warm_slots + edit.queue.cold_slots + [slot for _, _, slot in edit.queue.hands]
        for name, value in ("cold_slot", free[0]), ("warm_slot", 0), ("warm_n", 0):
            edit.live(name, value)
        for slot, then in zip(free, free[1:] + [0]):
            edit.set(edit.queue.slot_off(slot) + 88, then)
        for i in range(queue_check.PARTICIPANTS):
            for off in 8, 16:
                edit.set(queue_check.PARTICIPANTS_OFF + 64 * i + off, 0)
        cls.mixed = bytes(edit.image)

    def setUp(self):
        self.edit = Edit(self.mixed)
        self.assertEqual(self.edit.problems(), [])

    def found(self, words):
        problems = self.edit.problems()
        self.assertTrue(any(words in problem for problem in problems), problems)

    def test_checksum(self):
        self.assertEqual(crc32c(b"123456789"), 0xE3069283)
        for n in 0, 1, 4095, 4096, 4097, 70003:
            data = bytes(i * i >> 3 & 255 for i in range(n))
            self.assertEqual(crc32c(data), queue_check._plain(0xFFFFFFFF, data) ^ 0xFFFFFFFF)

    def test_sound_queues_pass(self):
        for commands in (), ("p1",), ("p1", "t1"), ("p2000:100", "t2000"), MIXED, ("p3:900000", "t1"):
            image = queue_of(*commands)
            self.assertEqual(Queue(image).problems, [], commands)

    def test_messages_are_read(self):
        terms = [message.term() for message in self.edit.queue.messages]
        self.assertEqual([seq for _, seq, _ in terms], list(range(306, 410)))
        self.assertEqual(terms[0][2], bytes((306 + i) % 256 for i in range(70000)))

    def test_flipped_data_is_torn(self):
        small = self.edit.queue.messages[50]
        self.edit.image[self.edit.off(small.position)[0] + 50] ^= 1
        self.found("torn")

    def test_flipped_data_of_a_large_one_is_torn(self):
        self.edit.image[self.edit.off(self.edit.queue.messages[0].position)[0] + 1000] ^= 1
        self.found("torn")

    def test_flipped_record_header(self):
        self.edit.image[self.edit.off(self.edit.queue.messages[50].position)[0] + 17] ^= 1
        self.found("the header's checksum")
        self.found("lost")

    def test_record_of_another_place(self):
        one, other = (self.edit.off(m.position)[0] for m in self.edit.queue.messages[50:52])
        self.edit.image[other:other + 40] = self.edit.image[one:one + 40]
        self.found("the header's checksum")

    def test_flipped_trailer(self):
        message = self.edit.queue.messages[50]
        self.edit.image[self.edit.off(message.position)[0] + self.edit.size(message) - 3] ^= 1
        self.found("the trailer")

    def test_voided_message(self):
        self.edit.state(self.edit.queue.messages[50], 12)
        self.found("gap_n is")
        self.found("gap_bytes is")

    def test_taken_message_that_is_not_counted(self):
        self.edit.state(self.edit.queue.messages[50], 10)
        self.found("gap_n is")

    def test_wrong_counts(self):
        for name, words in (("gap_n", "gap_n is"), ("gap_bytes", "gap_bytes is"), ("tail_n", "tail_n is"),
                            ("returned_n", "returned_n is"), ("window_n", "window_n is"),
                            ("warm_n", "warm_n is"), ("head_n", "has ordinal"), ("cursor_n", "cursor_n is")):
            self.edit = Edit(self.mixed)
            self.edit.add(name, 1)
            self.found(words)

    def test_head_inside_a_record(self):
        self.edit.add("head", 8)
        self.edit.add("cursor", 8)
        self.found("the header's checksum")

    def test_cursor_inside_a_record(self):
        self.edit.add("cursor", 8)
        self.found("no record starts at the cursor")

    def test_tail_short_of_a_record(self):
        self.edit.add("tail", -8)
        self.found("passes the tail")

    def test_lost_slot(self):
        slot = self.edit.queue.cold_slots[0]
        self.edit.live("cold_slot", self.edit.word(self.edit.queue.slot_off(slot) + 88))
        self.found(f"slot {slot} of")

    def test_slot_in_two_lists(self):
        self.edit.live("warm_slot", self.edit.queue.cold_slots[0])
        self.found("is in the warm list and in the cold list")

    def test_slot_in_a_list_and_in_a_hand(self):
        self.edit.set(queue_check.PARTICIPANTS_OFF + 64 * 7 + 8, self.edit.queue.cold_slots[0])
        self.found("participant 7's preparing")

    def test_chain_cut(self):
        self.edit.set(self.edit.queue.slot_off(self.edit.queue.chain_slots[1]) + 64, 0)
        self.found("the chain does not come to its last slot")

    def test_free_list_in_a_circle(self):
        slot = self.edit.queue.cold_slots[-1]
        self.edit.set(self.edit.queue.slot_off(slot) + 88, slot)
        self.found("is in the cold list and in the cold list")

    def test_segment_headers(self):
        for name, off in ("first", 24), ("second", 24 + self.edit.queue.segment_bytes - 64):
            self.edit = Edit(self.mixed)
            self.edit.image[self.edit.queue.slot_off(self.edit.queue.chain_slots[1]) + off] ^= 1
            self.found("copies")

    def test_segment_with_wrong_first(self):
        segment = self.edit.queue.chain[-1]
        off = self.edit.queue.slot_off(segment.slot)
        struct.pack_into("<Q", self.edit.image, off + 32, segment.first_n + 1)
        crc = crc32c(self.edit.queue.salt + bytes(self.edit.image[off:off + 56]))
        struct.pack_into("<I", self.edit.image, off + 56, crc)
        again = off + self.edit.queue.segment_bytes - 64
        self.edit.image[again:again + 64] = self.edit.image[off:off + 64]
        self.found("first_n")

    def test_checkpoints(self):
        durable = queue_check.CHECKPOINT_OFFS[self.edit.queue.live["cp_durable"] % 2]
        self.edit.image[durable + 30] ^= 1
        self.found("the durable checkpoint")

    def test_redo_is_laid_over(self):
        self.edit.set(LIVE_OFF + 520, LIVE_OFF + LIVE["tail_n"])
        self.edit.set(LIVE_OFF + 528, 7)
        self.assertEqual(self.edit.problems(), [])
        self.edit.set(LIVE_OFF + 512, 1)
        self.found("tail_n is 7")

    def test_redo_out_of_bounds(self):
        self.edit.set(LIVE_OFF + 520, 64)
        self.edit.set(LIVE_OFF + 512, 1)
        self.found("redo record's offset")

    def test_headers(self):
        for off in 0, 8, 60, 92:
            self.edit.image[off] ^= 1
            with self.assertRaises(queue_check.NoQueue):
                self.edit.problems()
            self.edit.image[off] ^= 1


class Journals(unittest.TestCase):
    """A queue of 20 that somebody pushed and nobody took, and what journals say of it."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.ledger = Ledger()
        self.edit = Edit(queue_of("p20:40"))
        for message in self.edit.queue.messages:
            _, seq, _ = message.term()
            data = external(9, seq, filling(9, seq, 40))[:len(message.data)]
            self.edit.data(message, external(9, seq, filling(9, seq, len(message.data) - 19)))
        self.edit = Edit(bytes(self.edit.image))
        self.producer = "".join(f"+ {seq} 1 {seq}\n= {seq}\n".replace("+", "+ 9") for seq in range(1, 21))

    def tearDown(self):
        for journal in self.ledger.journals.values():
            journal.file.close()
        self.folder.cleanup()

    def judged(self, producer, consumer="", dead=True, at_rest=False):
        for name, text in ("1-p", producer), ("2-c", consumer):
            path = os.path.join(self.folder.name, name)
            with open(path, "a", encoding="ascii") as file:
                file.write(text)
            self.ledger.add(path, int(name[0]))
        if dead:
            self.ledger.dead(2)
        self.ledger.read_raw()
        self.ledger.read()
        self.ledger.check(Queue(bytes(self.edit.image)), at_rest)
        return {kind: n for kind, n in self.ledger.wrong.items() if n}

    def pass_by(self, n):
        """The queue goes on as if n had been taken."""
        message = self.edit.queue.messages[n]
        for name in "head", "cursor":
            self.edit.live(name, message.position)
            self.edit.live(name + "_n", message.ordinal)

    def test_sound(self):
        self.assertEqual(self.judged(self.producer), {})
        self.assertEqual(self.ledger.pushes, 20)

    def test_taken(self):
        self.pass_by(2)
        self.assertEqual(self.judged(self.producer, "? many 5 1\n= 2 9:1 9:2\n", at_rest=True), {})
        self.assertEqual(self.ledger.takes, 2)

    def test_lost(self):
        self.pass_by(1)
        self.assertEqual(self.edit.problems(), [])
        self.assertEqual(self.judged(self.producer), {"lost": 1})

    def test_killed_take_may_have_one(self):
        self.pass_by(1)
        self.assertEqual(self.judged(self.producer, "? take 1 1\n"), {})
        self.assertEqual(len(self.ledger.gone), 1)

    def test_killed_take_has_no_second(self):
        self.pass_by(2)
        self.assertEqual(self.judged(self.producer, "? take 1 1\n"), {"lost": 1})

    def test_killed_take_is_asked_once(self):
        self.assertEqual(self.judged(self.producer, "? take 1 1\n"), {})
        self.pass_by(1)
        self.assertEqual(self.judged(""), {"lost": 1})

    def test_killed_batch(self):
        self.pass_by(5)
        self.assertEqual(self.judged(self.producer, "? many 5 1\n"), {})
        self.pass_by(6)
        self.assertEqual(self.judged(""), {"lost": 1})

    def test_call_in_flight_may_have_one(self):
        self.pass_by(1)
        self.assertEqual(self.judged(self.producer, "? take 1 1\n", dead=False), {})
        self.assertEqual(len(self.ledger.missing), 1)
        self.assertEqual(self.judged("", "= 2 9:1\n", dead=False), {})
        self.assertEqual((len(self.ledger.missing), self.ledger.takes), (0, 1))

    def test_call_in_flight_had_another(self):
        self.pass_by(1)
        self.assertEqual(self.judged(self.producer, "? take 1 1\n", dead=False), {})
        self.assertEqual(self.judged("", "= 2\n", dead=False), {"lost": 1})

    def test_try_has_what_its_fun_had(self):
        self.pass_by(1)
        self.assertEqual(self.judged(self.producer, "? try 1 1\nc 9 1\n"), {})

    def test_try_has_nothing_before_its_fun(self):
        self.pass_by(1)
        self.assertEqual(self.judged(self.producer, "? try 1 1\n"), {"lost": 1})

    def test_try_that_raised_has_nothing(self):
        self.pass_by(1)
        self.assertEqual(self.judged(self.producer, "? try 1 1\nc 9 1\nx 2\n"), {"lost": 1})

    def test_doubled_in_the_file(self):
        first, second = self.edit.queue.messages[3:5]
        self.edit.data(second, first.data)
        self.assertEqual(self.edit.problems(), [])
        wrong = self.judged(self.producer)
        self.assertGreaterEqual(wrong["doubled"], 1)
        self.assertEqual(wrong["lost"], 1)

    def test_taken_and_still_there(self):
        self.assertEqual(self.judged(self.producer, "? take 1 1\n= 2 9:1\n"), {"doubled": 1})

    def test_taken_twice(self):
        self.pass_by(1)
        self.assertEqual(self.judged(self.producer, "? take 1 1\n= 2 9:1\n? take 1 1\n= 2 9:1\n"),
                         {"doubled": 1})

    def test_missing_comes_back(self):
        there = bytes(self.edit.image)
        self.pass_by(1)
        self.assertEqual(self.judged(self.producer, "? take 1 1\n"), {})
        self.edit.image[:] = there
        self.assertEqual(self.judged(""), {"doubled": 1})

    def test_torn_with_all_checksums_right(self):
        message = self.edit.queue.messages[3]
        self.edit.data(message, message.data[:-1] + bytes([message.data[-1] ^ 1]))
        self.assertEqual(self.edit.problems(), [])
        self.assertEqual(self.judged(self.producer), {"torn": 1})

    def test_made_up(self):
        message = self.edit.queue.messages[19]
        self.edit.data(message, external(9, 21, filling(9, 21, len(message.data) - 19)))
        self.assertEqual(self.judged(self.producer), {"made up": 1, "lost": 1})

    def test_made_up_and_taken(self):
        self.assertEqual(self.judged(self.producer, "? take 1 1\n= 2 9:77\n"), {"made up": 1})

    def test_refused_but_there(self):
        lines = self.producer.splitlines(True)
        lines[-1] = "! 20 enospc\n"
        self.assertEqual(self.judged("".join(lines)), {"errors": 1, "made up": 1})

    def test_push_in_flight(self):
        lines = self.producer.splitlines(True)
        self.assertEqual(self.judged("".join(lines[:-1])), {})
        self.assertEqual(self.judged(lines[-1]), {})
        self.assertEqual(self.ledger.pushes, 20)

    def killed_producer(self, text):
        path = os.path.join(self.folder.name, "2-p")
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        self.ledger.add(path, 2)

    def test_killed_push_may_be_there_or_not(self):
        lines = self.producer.splitlines(True)
        self.killed_producer("".join(lines[:-4]) + "+ 9 19 5 7\n")
        self.assertEqual(self.judged(""), {})
        self.assertEqual(len(self.ledger.abandoned), 3)

    def test_killed_push_comes_later(self):
        self.killed_producer("".join(self.producer.splitlines(True)[:-1]))
        there = bytes(self.edit.image)
        self.edit.live("tail", self.edit.queue.messages[19].position)
        self.edit.live("tail_n", 20)
        self.assertEqual(self.judged(""), {})
        self.edit.image[:] = there
        self.assertEqual(self.judged(""), {"made up": 1})

    def test_order_in_the_file(self):
        first, second = self.edit.queue.messages[3:5]
        self.edit.data(first, second.data)
        self.edit.data(second, first.data)
        self.assertEqual(self.judged(self.producer), {"order broken": 1})

    def test_order_of_takes(self):
        self.pass_by(2)
        self.assertEqual(self.judged(self.producer, "? many 5 1\n= 2 9:2 9:1\n"), {"order broken": 1})

    def test_order_of_takes_that_came_back(self):
        self.pass_by(2)
        self.assertEqual(self.judged(self.producer, "? try 1 1\nc 9 1\nx 2\n? many 5 1\n= 2 9:2 9:1\n"), {})

    def test_ordinal_changes(self):
        self.assertEqual(self.judged(self.producer), {})
        self.pass_by(1)
        messages = self.edit.queue.messages
        for one, next_one in zip(messages[1:], messages[2:]):
            self.edit.data(one, next_one.data)
        self.assertIn("file", self.judged("", "? take 1 1\n= 2 9:1\n", dead=False))


if __name__ == "__main__":
    unittest.main()
