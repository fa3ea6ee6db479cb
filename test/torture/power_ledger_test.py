"""Faults for power_ledger.py to find: journals as they are written, and files that contradict them."""
import os
import tempfile
import unittest

from power_ledger import PLACE, Ledger
from queue_ledger import filling


class Judged(unittest.TestCase):
    """The cut is between times 100 and 110."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def ledger(self, **journals):
        for name, lines in journals.items():
            with open(os.path.join(self.folder, f"{name.replace('_', '-')}.journal"), "w", encoding="ascii") as file:
                file.write("".join(line + "\n" for line in lines))
        ledger = Ledger(self.folder)
        ledger.read()
        self.addCleanup(ledger.close)
        return ledger

    def wrong(self, ledger):
        return {kind: n for kind, n in ledger.wrong.items() if n}

    def queue(self, name, keys, **journals):
        ledger = self.ledger(**journals)
        ledger.check_queue(name, keys, 100, 110)
        return self.wrong(ledger)

    # -- queues

    def test_acknowledged_is_lost_when_durable(self):
        pushes = ["+ 1 1 2 50", "= 60"]
        self.assertEqual(self.queue("sync", [(1, 1), (1, 2)], sync_p1=pushes), {})
        self.assertEqual(self.queue("sync", [(1, 1)], sync_p1=pushes), {"lost": 1})

    def test_acknowledged_during_the_cut_need_not_be_there(self):
        self.assertEqual(self.queue("sync", [], sync_p1=["+ 1 1 1 90", "= 105"]), {})

    def test_without_durability_only_a_sync_that_began_later_covers(self):
        pushes = ["+ 1 1 1 50", "= 60", "+ 1 2 1 61", "= 70"]
        self.assertEqual(self.queue("process", [], process_p1=pushes), {})
        self.assertEqual(self.queue("process", [], process_p1=pushes, process_s=["s 65", "= 99"]), {"lost": 1})
        self.assertEqual(self.queue("process", [], process_p1=pushes, process_s=["s 65", "= 101"]), {})

    def test_a_take_that_had_begun_may_have_it(self):
        for begun, wrong in (108, {}), (111, {"lost": 1}):
            takes = [f"? take 1 {begun}", "= 120 1:1"]
            self.assertEqual(self.queue("sync", [], sync_p1=["+ 1 1 1 50", "= 60"], sync_c1=takes), wrong)

    def test_taken_before_a_sync_may_not_come_back(self):
        journals = {"sync_p1": ["+ 1 1 1 50", "= 60"], "sync_c1": ["? take 1 70", "= 75 1:1"]}
        self.assertEqual(self.queue("sync", [(1, 1)], **journals), {})
        self.assertEqual(self.queue("sync", [(1, 1)], sync_s=["s 80", "= 90"], **journals), {"doubled": 1})

    def test_what_is_there_twice_out_of_order_or_made_up(self):
        pushes = ["+ 1 1 2 50", "= 60", "+ 1 3 1 112", "= 113"]
        self.assertEqual(self.queue("sync", [(1, 1), (1, 2), (1, 1)], sync_p1=pushes), {"doubled": 1})
        self.assertEqual(self.queue("sync", [(1, 2), (1, 1)], sync_p1=pushes), {"order broken": 1})
        self.assertEqual(self.queue("sync", [(1, 1), (1, 2), (1, 3)], sync_p1=pushes), {"made up": 1})
        self.assertEqual(self.queue("sync", [(1, 1), (1, 2), (7, 1)], sync_p1=pushes), {"made up": 1})

    def test_calls_are_waited_for(self):
        ledger = self.ledger(sync_c1=["? take 1 105"])
        self.assertFalse(ledger.settled(110))
        self.assertTrue(ledger.settled(104))

    # -- values

    def counter(self, value):
        ledger = self.ledger(counters=["v 0 5 10", "= 20", "v 0 9 30", "= 40", "v 0 12 90", "= 105", "v 0 15 112"])
        ledger.check_counters(value and [value], 100, 110)
        return self.wrong(ledger)

    def test_counters(self):
        self.assertEqual([self.counter(n) for n in (9, 12)], [{}, {}])
        self.assertEqual([self.counter(n) for n in (None, 5)], [{"lost": 1}, {"lost": 1}])
        self.assertEqual([self.counter(n) for n in (10, 15)], [{"made up": 1}, {"made up": 1}])

    def place(self, image):
        ledger = self.ledger(map=["w 0 1 100 10", "r 20", "w 0 2 50 90", "= 105", "w 0 3 60 111"])
        ledger.check_map(image, 100, 110)
        return self.wrong(ledger)

    def test_places(self):
        old = filling(0, 1, 100) + bytes(PLACE - 100)
        new = filling(0, 2, 50) + old[50:]
        for image in old, new, old[:100], new[:24] + old[24:], old[:24] + new[24:]:
            self.assertEqual(self.place(image), {})
        for image in b"", old[:99], bytes(PLACE), filling(0, 3, 60) + old[60:], old[:60] + b"x" + old[61:]:
            self.assertEqual(self.place(image), {"lost": 1})

    def test_a_range_sync_covers_its_own_place_alone(self):
        ledger = self.ledger(map=["w 0 1 8 10", "w 1 2 8 11", "r 20"])
        ledger.check_map(b"", 100, 110)
        self.assertEqual(self.wrong(ledger), {"lost": 1})


if __name__ == "__main__":
    unittest.main()
