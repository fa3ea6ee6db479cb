#!/usr/bin/env python3
"""queue_storm.py --beams FOLDER... [--minutes N | --kills N] [--seed N] [--folder F]: see scripts/torture.

Erlang VMs push and take on one queue; one of them is killed with SIGKILL at a random moment; with all
others stopped for an instant the file is read, and judged together with all journals.

A random moment is seldom one inside a step of the queue, which takes a microsecond. So half of the victims
are stopped (as asynchronously as they would be killed) and let go again, until they are seen inside.
"""
import argparse
import glob
import mmap
import os
import random
import re
import signal
import struct
import subprocess
import sys
import threading
import time

import queue_check
from queue_ledger import Ledger

BLOCK = 10          # kills with one VM on the file, then as many with two
READY_SECONDS = 60  # for a VM to start and open the queue
CALL_SECONDS = 30   # a call that takes longer hangs
AIM_SECONDS = 2   # to find a victim where it is wanted
# Holds the lock; has a redo record to finish; has a slot in hand; copies a large message in or out.
AIMS = ["anywhere"] * 5 + ["lock"] * 3 + ["redo", "hand", "large", "large"]


class Worker:
    def __init__(self, storm, number, mode):
        self.number, self.mode, self.killed = number, mode, False
        self.folder = storm.folder
        self.log_path = os.path.join(storm.folder, f"{number}.log")
        paths = [arg for beams in storm.beams for arg in ("-pa", beams)]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                ["erl", "-noshell", "-boot", "start_clean", "+S", "2:2", "+sbwt", "none", *paths,
                 "-run", "emmap_torture", "main", storm.folder, str(number), mode, str(storm.seed)],
                stdin=subprocess.PIPE, stdout=log, stderr=log,
                env={**os.environ, "ERL_CRASH_DUMP_BYTES": "0"})

    def ready(self):
        return os.path.exists(os.path.join(self.folder, f"{self.number}.ready"))

    def alive(self):
        return self.process.poll() is None

    def kill(self):
        self.killed = True
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()

    def stop(self):
        """All its threads are still when this returns."""
        os.kill(self.process.pid, signal.SIGSTOP)
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            self.process.returncode = os.waitstatus_to_exitcode(status)

    def go_on(self):
        if self.process.returncode is None:
            os.kill(self.process.pid, signal.SIGCONT)

    def log(self):
        with open(self.log_path, "rb") as log:
            return log.read()[-3000:].decode(errors="replace")


class Pace(threading.Thread):
    """The longest time that this machine let somebody wait who only wanted to sleep a moment."""

    def __init__(self):
        super().__init__(daemon=True)
        self.longest_ns = 0
        self.pauses = []  # (begin, end) of the longer ones

    def run(self):
        while True:
            begin = time.monotonic_ns() + 5_000_000
            time.sleep(0.005)
            end = time.monotonic_ns()
            self.longest_ns = max(self.longest_ns, end - begin)
            if end - begin > 20_000_000:
                self.pauses.append((begin, end))

    def within(self, begin, end):
        return sum(max(0, min(end, b) - max(begin, a)) for a, b in self.pauses[-2000:])


class Storm:
    def __init__(self, options):
        self.folder, self.beams, self.seed = options.folder, options.beams, options.seed
        self.options = options
        self.random = random.Random(options.seed)
        self.path = os.path.join(self.folder, "queue")
        self.ledger = Ledger()
        self.workers, self.started = [], 0
        self.kills = {"alone": 0, "multi_os": 0}
        self.hits = dict.fromkeys(AIMS, 0)
        self.deaths = 0
        self.frozen = []       # (begin, end) in which all were stopped
        self.stall_ns = {"alone": 0, "multi_os": 0}
        self.stalled = ""      # which call it was
        self.killed_ns = []    # when the kills were
        self.pace = Pace()
        self.modes = {}        # of each worker
        self.most_messages = self.most_slots = self.redone = self.checks = self.held = 0
        self.begin = time.monotonic()
        self.evidence = None

    # -- workers

    def start(self, mode):
        self.started += 1
        worker = Worker(self, self.started, mode)
        self.modes[worker.number] = mode
        self.workers.append(worker)
        return worker

    def wait_ready(self, worker):
        end = time.monotonic() + READY_SECONDS
        while not worker.ready():
            if not worker.alive():
                return self.died(worker)
            if time.monotonic() > end:
                self.ledger.fault("errors", f"worker {worker.number} is not ready: {worker.log()}")
                return self.bury(worker)
            time.sleep(0.005)
        return None

    def died(self, worker):
        """Not by our hand."""
        self.deaths += 1
        self.ledger.details.append(f"worker {worker.number} died: {worker.process.returncode} {worker.log()}")
        self.bury(worker)

    def bury(self, worker):
        if worker.alive():
            worker.kill()
        if worker in self.workers:
            self.workers.remove(worker)
        self.take_journals()
        self.ledger.dead(worker.number)

    def look_for_deaths(self):
        for worker in list(self.workers):
            if not worker.alive():
                self.died(worker)

    # -- the file and the journals

    def take_journals(self):
        for path in glob.glob(os.path.join(self.folder, "*.journal")):
            number = int(re.match(r"\d+", os.path.basename(path)).group())
            self.ledger.add(path, number)

    def judge(self, at_rest=False):
        """Everybody stands still while file and journals are read."""
        self.look_for_deaths()
        begin = time.monotonic_ns()
        for worker in self.workers:
            worker.stop()
        try:
            image = b""
            if os.path.exists(self.path):
                with open(self.path, "rb") as file:
                    image = file.read()
            self.take_journals()
            self.ledger.read_raw()
        finally:
            for worker in self.workers:
                worker.go_on()
            self.frozen.append((begin, time.monotonic_ns()))
        wrong = sum(self.ledger.wrong.values())
        self.ledger.read()
        try:
            queue = queue_check.Queue(image) if image else None
        except queue_check.NoQueue as cause:
            queue = self.ledger.fault("file", str(cause))
        if queue:
            self.ledger.check(queue, at_rest)
            self.checks += 1
            self.most_messages = max(self.most_messages, len(queue.messages))
            self.most_slots = max(self.most_slots, queue.live["slots"])
            self.redone += queue.redone > 0
            self.held += queue.live["lock"] != 0
        self.measure()
        if sum(self.ledger.wrong.values()) > wrong and not self.evidence:
            self.keep_evidence(image)
        return queue

    def keep_evidence(self, image):
        """Of the first thing that was wrong: the file and the journals as they were."""
        self.evidence = os.path.join(self.folder, "evidence")
        os.mkdir(self.evidence)
        with open(os.path.join(self.evidence, "queue"), "wb") as file:
            file.write(image)
        for path in glob.glob(os.path.join(self.folder, "*.journal")):
            with open(path, "rb") as source, \
                    open(os.path.join(self.evidence, os.path.basename(path)), "wb") as file:
                file.write(source.read())
        for line in self.ledger.details[:20]:
            print(f"  {line}", flush=True)

    def measure(self):
        for worker, begin, end, kind in self.ledger.fetch():
            ns = end - begin
            for frozen, thawed in self.frozen[-50:]:
                ns -= max(0, min(end, thawed) - max(begin, frozen))
            mode = self.modes[worker]
            if ns > self.stall_ns.get(mode, ns):
                self.stall_ns[mode] = ns
                if mode == "multi_os":
                    after = [f"{(end - killed) / 1e6:.0f} ms after a kill" for killed in self.killed_ns
                             if killed < end]
                    self.stalled = (f"a {kind}, ended {(after or ['before all kills'])[-1]}; the machine"
                                    f" paused for {self.pace.within(begin, end) / 1e6:.0f} ms of it")
        now = time.monotonic_ns()
        for worker, begin in self.ledger.in_flight():
            if now - begin > CALL_SECONDS * 1e9:
                self.ledger.fault("errors", f"worker {worker}: a call has not come back for {CALL_SECONDS} s")

    # -- the storm

    def kill(self, victims):
        for worker in victims:
            if not worker.alive():
                self.died(worker)
                continue
            self.killed_ns.append(time.monotonic_ns())
            worker.kill()
            self.kills[worker.mode] += 1
            self.workers.remove(worker)
            self.take_journals()
            self.ledger.dead(worker.number)

    def inside(self, worker, aim):
        """Whether the stopped worker is where it is wanted, by the file's own words."""
        with open(self.path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as raw:
            return self.inside_of(raw, worker, aim)

    @staticmethod
    def inside_of(raw, worker, aim):
        word = lambda off: struct.unpack_from("<Q", raw, off)[0]
        participants = [at for at in range(queue_check.PARTICIPANTS_OFF, queue_check.PARTICIPANTS_OFF
                                           + queue_check.PARTICIPANTS * queue_check.PARTICIPANT_BYTES,
                                           queue_check.PARTICIPANT_BYTES)
                        if word(at + 24) == worker.process.pid]
        if aim == "hand":
            return any(word(at + 8) or word(at + 16) for at in participants)
        numbers = [(at - queue_check.PARTICIPANTS_OFF) // queue_check.PARTICIPANT_BYTES for at in participants]
        if aim == "large":
            try:
                claims = list(queue_check.Queue(raw, records=False).claims(60))
            except queue_check.NoQueue:
                return False
            return any(kind != queue_check.LEASED and owner in numbers for kind, owner in claims)
        held = (word(queue_check.LIVE_OFF) >> 48) - 1 in numbers
        return held and (aim == "lock" or word(queue_check.LIVE_OFF + queue_check.REDO_N_OFF) != 0)

    def aim_at(self, worker, aim):
        end = time.monotonic() + AIM_SECONDS
        while aim != "anywhere" and time.monotonic() < end:
            worker.stop()
            if not worker.alive() or self.inside(worker, aim):
                break
            worker.go_on()
            time.sleep(self.random.random() * 0.0015)
        else:
            aim = "anywhere"
        self.hits[aim] += 1

    def one_kill(self, mode):
        wanted = 1 if mode == "alone" else 2
        fresh = []
        while len(self.workers) < wanted:
            fresh.append(self.start(mode))
        early = self.random.random() < 0.1
        if early:
            time.sleep(self.random.uniform(0, 0.6))
        else:
            for worker in fresh:
                self.wait_ready(worker)
            time.sleep(self.random.choice([0.02, 0.2, 0.5, 1.0]) * self.random.random())
        self.look_for_deaths()
        if not self.workers:
            return
        victims = [fresh[-1] if early and fresh and fresh[-1] in self.workers
                   else self.random.choice(self.workers)]
        if len(self.workers) == 2 and self.random.random() < 0.1:
            victims = list(self.workers)
        elif not early:
            self.aim_at(victims[0], self.random.choice(AIMS))
        self.kill(victims)
        if self.workers:
            time.sleep(self.random.choice([0, 0.05, 0.3, 0.6]) * self.random.random())
        self.judge()

    def run(self):
        self.pace.start()
        told = 0
        while not self.enough():
            for mode in "alone", "multi_os":
                goal = self.kills[mode] + BLOCK
                while self.kills[mode] < goal and not self.enough(mode):
                    self.one_kill(mode)
                    if sum(self.kills.values()) >= told + 10:
                        told = sum(self.kills.values())
                        self.progress()
                if self.workers:
                    self.kill(list(self.workers))
                    self.judge()
        self.drain()
        return self.report()

    def enough(self, mode=None):
        kills = sum(self.kills.values())
        if sum(self.ledger.wrong.values()) > 50 or self.deaths > 10:
            return True
        if self.options.kills:
            if mode == "alone":
                return self.kills[mode] >= self.options.kills - self.options.kills // 2
            return kills >= self.options.kills
        return time.monotonic() - self.begin > self.options.minutes * 60

    def drain(self):
        """What is still in the queue comes out, and then nothing is missing."""
        worker = self.start("drain")
        self.wait_ready(worker)
        end = time.monotonic() + 60
        while worker.alive() and time.monotonic() < end:
            time.sleep(0.01)
        if worker.process.returncode != 0:
            return self.died(worker)
        self.workers.remove(worker)
        self.take_journals()
        self.ledger.dead(worker.number)
        queue = self.judge(at_rest=True)
        if queue and queue.messages:
            self.ledger.fault("lost", f"{len(queue.messages)} messages are left that nobody gets")
        return None

    def progress(self):
        ledger = self.ledger
        print(f"{time.monotonic() - self.begin:.0f} s: {sum(self.kills.values())} kills,"
              f" {ledger.pushes} pushed, {ledger.takes} taken,"
              f" {sum(ledger.wrong.values())} wrong, longest stall {self.stall_ns['multi_os'] / 1e6:.0f} ms",
              flush=True)

    def report(self):
        ledger, wrong = self.ledger, self.ledger.wrong
        stall_ms = self.stall_ns["multi_os"] / 1e6
        pause_ms = self.pace.longest_ns / 1e6
        slow = stall_ms - pause_ms > self.options.stall_ms
        for line in ledger.details:
            print(f"wrong: {line}")
        if slow:
            print(f"wrong: a survivor was held up for {stall_ms:.0f} ms, more than {self.options.stall_ms}")
        rows = [
            ("seconds", f"{time.monotonic() - self.begin:.0f}"),
            ("kills", f"{sum(self.kills.values())} ({self.kills['alone']} alone on the file,"
                      f" {self.kills['multi_os']} with another VM)"),
            ("aimed: lock, step, slot in hand, large", ", ".join(
                str(self.hits[aim]) for aim in ("lock", "redo", "hand", "large"))),
            ("checks of file and journals", f"{self.checks} (a redo record to finish in {self.redone},"
                                            f" the lock held in {self.held})"),
            ("pushes acknowledged", ledger.pushes), ("takes acknowledged", ledger.takes),
            ("taken by a call killed before its answer", len(ledger.gone)),
            ("most messages, slots at a check", f"{self.most_messages}, {self.most_slots}"),
            *wrong.items(),
            ("longest stall of a survivor, ms", f"{stall_ms:.1f}: {self.stalled}"),
            ("longest call alone, ms", f"{self.stall_ns['alone'] / 1e6:.1f}"),
            ("longest pause of the machine, ms", f"{pause_ms:.1f}"),
            ("VM deaths that it did not cause", self.deaths),
            ("seed", self.seed),
        ]
        for name, value in rows:
            print(f"{name:43}{value}")
        failed = bool(sum(wrong.values()) or self.deaths or slow or not sum(self.kills.values()))
        print("FAILED" if failed else "ok")
        return 1 if failed else 0

    def end(self):
        for worker in self.workers:
            if worker.alive():
                worker.kill()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--beams", action="append", required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--kills", type=int)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--stall-ms", type=float, default=1000)
    parser.add_argument("--folder", required=True)
    storm = Storm(parser.parse_args())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return storm.run()
    finally:
        storm.end()


if __name__ == "__main__":
    sys.exit(main())
