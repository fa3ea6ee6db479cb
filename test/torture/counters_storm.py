#!/usr/bin/env python3
"""counters_storm.py --beams FOLDER... [--minutes N | --kills N] [--seed N] --folder F: see scripts/torture.

In each round three Erlang VMs add to one counter of a file and take numbers from another, telling each answer in
journals; one after the other is killed with SIGKILL. Then the file, read as docs/format/counters.md has
it, is held against the journals.
"""
import argparse
import glob
import os
import random
import signal
import struct
import subprocess
import sys
import time

VMS, PROCESSES = 3, 2
MOST_NUMBERS = 7     # in one call
MOST_COUNTERS = 300  # those that are added, one in each round, are not more
READY_SECONDS = 60   # for a VM to start and tell something
UNREADY = 4          # one round in so many kills at any moment, also while they open, make, extend the file
LIVE, DATA, NAMED = 512, 4096, 1024


class Storm:
    def __init__(self, options):
        self.options, self.random = options, random.Random(options.seed)
        self.path = os.path.join(options.folder, "counters")
        self.vms, self.round, self.begin = [], 0, time.monotonic()
        self.counters = self.count = 2  # asked for; in the file
        self.sums = {"kills": 0, "adds told": 0, "numbers told": 0, "answers that a kill kept back, at most": 0}
        self.wrong = {"lost": 0, "doubled": 0, "made up": 0, "torn": 0}
        self.deaths = 0

    # ----------------------------------------------------------------------------------- a round

    def start(self, number):
        paths = [arg for beams in self.options.beams for arg in ("-pa", beams)]
        with open(os.path.join(self.options.folder, f"{number}.log"), "wb") as log:
            return subprocess.Popen(
                ["erl", "-noshell", "-boot", "start_clean", "+S", "2:2", "+sbwt", "none", *paths,
                 "-run", "emmap_torture_counters", "main", self.options.folder, str(number), str(self.counters),
                 str(PROCESSES)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "ERL_CRASH_DUMP_BYTES": "0"})

    def journals(self):
        return glob.glob(os.path.join(self.options.folder, "*.journal"))

    def wait_told(self):
        """Until each process has told something."""
        end = time.monotonic() + READY_SECONDS
        while sum(os.path.getsize(path) > 0 for path in self.journals()) < VMS * PROCESSES:
            if time.monotonic() > end or any(vm.poll() is not None for vm in self.vms):
                return
            time.sleep(0.005)

    def kill(self, number, vm):
        if vm.poll() is not None:
            self.deaths += 1
            with open(os.path.join(self.options.folder, f"{number}.log"), encoding="utf-8", errors="replace") as log:
                print(f"wrong: a VM has died, with {vm.returncode}: {log.read()[-2000:]}")
            return
        vm.kill()
        vm.wait()
        self.sums["kills"] += 1

    def one_round(self):
        for path in self.journals():
            os.unlink(path)
        before = self.values()
        self.counters = min(self.counters + 1, MOST_COUNTERS)
        self.vms = [self.start(number) for number in range(VMS)]
        if self.round == 0 or self.random.randrange(UNREADY):
            self.wait_told()
        for number, vm in self.random.sample(list(enumerate(self.vms)), VMS):
            time.sleep(self.random.random() * 0.3)
            self.kill(number, vm)
        self.vms = []
        self.judge(before, self.values())
        self.round += 1

    # -------------------------------------------------------------------------------- the judge

    def values(self):
        """What comes next of the numbers, and how many adds there were."""
        if not os.path.exists(self.path):
            return 0, 0
        with open(self.path, "rb") as file:
            data = file.read()
        magic, stride = data[:8], struct.unpack_from("<I", data, 64)[0]
        before, self.count = self.count, struct.unpack_from("<Q", data, LIVE)[0]
        if magic != b"EMMAPCN\n" or stride != NAMED or not before <= self.count <= self.counters or \
                len(data) < DATA + self.count * stride:
            self.fault("torn", 1, f"the file has {len(data)} bytes, {self.count} counters of {stride} bytes")
        return struct.unpack_from("<q", data, DATA)[0], struct.unpack_from("<q", data, DATA + NAMED)[0]

    def told(self):
        """(First, N) of each answer, in the order of the numbers."""
        answers = []
        for path in self.journals():
            with open(path, "rb") as file:
                data = file.read()
            answers += struct.iter_unpack("<QQ", data[:len(data) // 16 * 16])
        return sorted(answers)

    def fault(self, kind, n, words):
        self.wrong[kind] += n
        print(f"wrong: round {self.round}: {kind}: {words}", flush=True)

    def judge(self, before, after):
        answers, kept_back = self.told(), VMS * PROCESSES
        end = before[0]
        for first, n in answers:
            if first < end:
                self.fault("doubled", min(end - first, n), f"{first} to {first + n - 1}, and all to {end - 1} are given")
            end = max(end, first + n)
        if end > after[0]:
            self.fault("lost", end - after[0], f"{end - 1} is given, {after[0]} comes next")
        numbers = sum(n for _, n in answers)
        for what, told, value, most in (("adds", len(answers), after[1] - before[1], kept_back),
                                        ("numbers", numbers, after[0] - before[0], kept_back * MOST_NUMBERS)):
            if value < told:
                self.fault("lost", told - value, f"{told} {what} are told, {value} are in the file")
            if value > told + most:
                self.fault("made up", value - told - most, f"{told} {what} are told, {value} are in the file")
        self.sums["adds told"] += len(answers)
        self.sums["numbers told"] += numbers
        self.sums["answers that a kill kept back, at most"] += after[1] - before[1] - len(answers)

    # -------------------------------------------------------------------------------------- all

    def is_over(self):
        if self.options.kills is not None:
            return self.sums["kills"] >= self.options.kills
        return time.monotonic() - self.begin > self.options.minutes * 60

    def run(self):
        while not self.is_over() and not self.deaths:
            self.one_round()
            if self.round % 10 == 0:
                print(f"{time.monotonic() - self.begin:.0f} s: {self.sums['kills']} kills, "
                      f"{self.sums['numbers told']} numbers told, {sum(self.wrong.values())} wrong", flush=True)
        rows = [("seconds", f"{time.monotonic() - self.begin:.0f}"), *self.sums.items(), *self.wrong.items(),
                ("VM deaths that it did not cause", self.deaths), ("seed", self.options.seed)]
        for name, value in rows:
            print(f"{name:43}{value}")
        failed = bool(sum(self.wrong.values()) or self.deaths or not self.sums["numbers told"])
        print("FAILED" if failed else "ok")
        return 1 if failed else 0

    def end(self):
        for vm in self.vms:
            if vm.poll() is None:
                vm.kill()
                vm.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--beams", action="append", required=True)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--kills", type=int)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--folder", required=True)
    storm = Storm(parser.parse_args())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return storm.run()
    finally:
        storm.end()


if __name__ == "__main__":
    sys.exit(main())
