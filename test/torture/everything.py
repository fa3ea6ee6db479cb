#!/usr/bin/env python3
"""everything.py [--minutes N] [--seed N] [--only PART,...] [--keep]: see scripts/torture.

Runs each part of the proof in turn, each within its share of the time, and adds up what they say.
"""
import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CORE = os.path.join(ROOT, "c_src")
RACES = ["test_queue_array", "test_queue", "test_queue_os", "test_stress", "test_simple_counters", "test_atomic",
         "test_close", "test_resize", "test_fault", "test_runtime"]
EVERY_SECONDS = 15  # a line of progress


class Totals:
    """What the parts have said, by name; a part that has said nothing of a thing was not run."""

    def __init__(self):
        self.sums, self.caught, self.failed, self.skipped = {}, [], [], []

    def add(self, name, n):
        self.sums[name] = self.sums.get(name, 0) + int(n)

    def read(self, line):
        if match := re.search(r"^kill states: (\d+) of (\d+)", line):
            self.add("kill states", match[2])
            self.add("kill states wrong", int(match[2]) - int(match[1]))
        elif match := re.search(r"^power states checked: (\d+)", line):
            self.add("power states checked", match[1])
        elif match := re.search(r"^seeds \d+ to \d+: (\d+) images recovered", line):
            self.add("power states checked", match[1])
        elif match := re.search(r"^faults injected: (\d+)", line):
            self.add("faults injected", match[1])
        elif match := re.search(r"^(caught|known|survived) (\S+ \S+) (.*)", line):
            self.add("mutants " + match[1], 1)
            self.caught.append(line)
        elif re.search(r"^\d+ caught, ", line) and (match := re.search(r", (\d+) not tried", line)):
            self.add("mutants not tried", match[1])
        elif match := re.search(r"^(?:ok|FAILED) (fuzz_\w+) \((\d+) inputs\)", line):
            self.add("fuzz executions", match[2])
        elif match := re.search(r"^\[  SKIPPED \] (\d+) test", line):
            self.add("tests skipped", match[1])
        elif line.startswith("all: cuts "):
            for name, n in re.findall(r"(cuts|lost|doubled|torn) (\d+)", line):
                self.add(name, n)
        elif match := re.search(r"^(kills|lost|doubled|made up|torn|order broken|VM deaths)(?: that it did not cause)?\s+(\d+)", line):
            self.add(match[1], match[2])


class Broken(Exception):
    """Why it cannot go on."""


class Part:
    def __init__(self, name, share, what, run):
        self.name, self.share, self.what, self.run = name, share, what, run


class Torture:
    def __init__(self, options, work):
        self.options, self.work = options, work
        self.totals = Totals()
        self.process = None
        self.part = ""

    # ------------------------------------------------------------------------------- running

    def command(self, argv, seconds, environment=None, log_name=None):
        """Its status; its lines are read for what they add up to. What runs on is ended."""
        log_path = os.path.join(self.work, log_name or self.part)
        begin = told = time.monotonic()
        with open(log_path, "ab+") as log:
            at = log.seek(0, os.SEEK_END)
            self.process = subprocess.Popen(argv, cwd=ROOT, env={**os.environ, **(environment or {})},
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)
            while (status := self.process.poll()) is None:
                time.sleep(0.2)
                now = time.monotonic()
                if now - told > EVERY_SECONDS:
                    told = now
                    print(f"  {self.part}: {now - begin:.0f} s of {seconds:.0f}, "
                          f"{self.last_line(log_path)}", flush=True)
                if now - begin > 2 * seconds + 600:  # some do not look at the time
                    self.end()
                    status = "a hang"
        self.process = None
        with open(log_path, encoding="utf-8", errors="replace") as log:
            log.seek(at)
            for line in log:
                self.totals.read(line.rstrip("\n"))
        return status

    @staticmethod
    def last_line(path):
        with open(path, "rb") as log:
            log.seek(max(0, os.path.getsize(path) - 300))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:100] if lines else ""

    def end(self):
        if self.process:
            try:
                os.killpg(self.process.pid, signal.SIGTERM)
                self.process.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def build(self, name, *settings):
        out = os.path.join(CORE, "build", "torture-" + name)
        status = self.command(["make", "-s", "-j2", "-C", CORE, "CC=gcc", f"BUILD={out}", *settings, "tests"], 600)
        if status:
            raise Broken(f"it does not build, see {self.work}/{self.part}")
        return os.path.join(out, "test")

    def test(self, program, seconds, environment=None, prefix=()):
        folder = tempfile.mkdtemp(dir=self.work)
        os.chmod(folder, 0o1777)  # tests that run as nobody come here too
        memory = tempfile.mkdtemp(prefix="emmap-torture.", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else folder)
        try:
            return self.command([*prefix, program], seconds,
                                {"TMPDIR": folder, "EMMAP_TEST_MEMORY": memory, **(environment or {})})
        finally:
            self.end()
            shutil.rmtree(memory, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)

    def must(self, what, status):
        if status == 77:
            self.totals.skipped.append(what)
        elif status:
            self.totals.failed.append(what)
            print(f"FAILED {what} ({status}), see {self.work}/{self.part}", flush=True)

    # ---------------------------------------------------------------------------------- parts

    def states(self, seconds):
        """All states that a kill leaves, all faults; in less than five minutes each second, third, ..."""
        tests = self.build("plain")
        every = str(max(1, round(300 / seconds)))
        for name, environment in (("test_kill", {}), *((name, {"EMMAP_KILL_EVERY": every}) for name in ("test_kill_counters", "test_queue_kill")),
                                  *((name, {"EMMAP_FAIL_EVERY": every}) for name in self.fault_tests(tests))):
            self.must(name, self.test(os.path.join(tests, name), seconds, environment))

    @staticmethod
    def fault_tests(tests):
        return sorted(name for name in os.listdir(tests)
                      if re.fullmatch(r"test_(\w*fail\w*|fault|full|sigbus|queue_truncated)", name))

    def power(self, seconds):
        """Other histories, one after the other, until the time is up."""
        tests = self.build("plain")
        until, seed = time.monotonic() + seconds, self.options.seed
        while True:
            for name, environment in (("test_queue_cut", {"EMMAP_CUT_SEED": str(seed), "EMMAP_CUT_ROUNDS": "4"}),
                                      ("test_power", {"EMMAP_POWER_SEED": str(seed), "EMMAP_POWER_ROUNDS": "4"})):
                if os.path.exists(os.path.join(tests, name)):
                    self.must(f"{name} seed {seed}", self.test(os.path.join(tests, name), seconds, environment))
            seed += 4
            if time.monotonic() > until:
                return

    def mutants(self, seconds):
        self.must("mutants", self.command([sys.executable, "-B", "scripts/mutants", "--seed", str(self.options.seed),
                                           "--seconds", str(int(seconds))], seconds))

    def model(self, seconds):
        """By which mutants of memory order are caught, too."""
        self.must("model", self.command(["scripts/model"], seconds))

    def storm(self, seconds):
        self.must("storm", self.command(["scripts/torture", "queue", "--seed", str(self.options.seed),
                                         f"{seconds / 60:.2f}"], seconds))

    def counters(self, seconds):
        self.must("counters", self.command(["scripts/torture", "counters", "--seed", str(self.options.seed),
                                            f"{seconds / 60:.2f}"], seconds))

    def disks(self, seconds):
        self.must("disks", self.command(["scripts/torture", "power", "--seed", str(self.options.seed),
                                         f"{seconds / 60:.2f}"], seconds))

    def fuzz(self, seconds):
        targets = subprocess.run(["scripts/fuzz", "--list"], cwd=ROOT, check=True, text=True,
                                 stdout=subprocess.PIPE).stdout.split()
        each = max(5, int(seconds / len(targets)))
        self.must("fuzz", self.command(["scripts/fuzz", "--seconds", str(each)], seconds))

    def races(self, seconds):
        """Thread sanitizer, with threads that give way by chance."""
        tests = self.build("tsan", "SANITIZE=thread")
        prefix = ("setarch", "-R")
        if not shutil.which(prefix[0]) or subprocess.run([*prefix, "true"], stderr=subprocess.DEVNULL,
                                                         check=False).returncode:
            prefix = ()  # as in a container that forbids it
        until, seed = time.monotonic() + seconds, self.options.seed
        while True:
            for name in RACES:
                self.must(f"{name} perturbed with {seed}",
                          self.test(os.path.join(tests, name), seconds, {"EMMAP_PERTURB": str(seed)}, prefix))
                self.totals.add("perturbed runs", 1)
                if time.monotonic() > until:
                    return
            seed += 1

    PARTS = [
        Part("states", 0.10, "kill states and failing system calls", states),
        Part("power", 0.15, "power cuts in simulation", power),
        Part("storm", 0.12, "kills of VMs", storm),
        Part("counters", 0.03, "kills of VMs that use counters", counters),
        Part("disks", 0.10, "power cuts on ext4, xfs, btrfs", disks),
        Part("races", 0.10, "thread sanitizer with perturbation", races),
        Part("fuzz", 0.20, "fuzzers", fuzz),
        Part("model", 0.05, "models of the lock and of the stripes", model),
        Part("mutants", 0.15, "mutants that the tests must catch", mutants),
    ]

    # ---------------------------------------------------------------------------------- summary

    def run(self):
        begin = time.monotonic()
        parts = [part for part in self.PARTS if not self.options.only or part.name in self.options.only]
        whole = sum(part.share for part in parts)
        for part in parts:
            seconds = self.options.minutes * 60 * part.share / whole
            self.part = part.name
            print(f"{time.monotonic() - begin:.0f} s: {part.what}, for about {seconds:.0f} s", flush=True)
            part.run(self, seconds)
        self.tell(time.monotonic() - begin)

    def tell(self, seconds):
        sums = dict(self.totals.sums)
        caught, survived, known, untried = (sums.pop("mutants " + word, 0)
                                            for word in ("caught", "survived", "known", "not tried"))
        for line in self.totals.caught:
            print(line)
        print(f"{seconds:.0f} s, seed {self.options.seed}")
        for name in ("power states checked", "kill states", "kill states wrong", "kills", "cuts"):
            if name in sums:
                print(f"{name:24}{sums.pop(name)}")
        if caught + survived + known + untried:
            print(f"{'mutants caught':24}{caught} of {caught + survived}"
                  f"{f', {known} that none can catch here' if known else ''}"
                  f"{f', {untried} not tried in this time' if untried else ''}")
        for name in ("faults injected", "fuzz executions", "perturbed runs", "lost", "doubled", "made up", "torn",
                     "order broken", "VM deaths", "tests skipped"):
            if name in sums:
                print(f"{name:24}{sums.pop(name)}")
        for name in self.totals.skipped:
            print(f"skipped: {name}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--only", type=lambda text: text.split(","))
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    names = [part.name for part in Torture.PARTS]
    for name in options.only or ():
        if name not in names:
            sys.exit(f"torture: there is no part '{name}', only {', '.join(names)}")
    work = tempfile.mkdtemp(prefix="emmap-torture.")
    os.chmod(work, 0o755)
    torture = Torture(options, work)
    ended = False
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        torture.run()
        ended = True
    except KeyboardInterrupt:
        print("torture: it was ended before its time")
    except (Broken, OSError, subprocess.CalledProcessError) as cause:
        print(f"torture: {cause}")
    finally:
        torture.end()
        failed = not ended or torture.totals.failed
        if failed or options.keep:
            print(f"logs are in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    for what in torture.totals.failed:
        print(f"failed: {what}")
    print("FAILED" if failed else "ok")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
