#!/usr/bin/env python3
"""power_storm.py --beams FOLDER... --folder F [--minutes N | --cuts N] [--fs LIST] [--cache LIST] [--seed N]:
see scripts/torture.

An Erlang VM writes to queues, counters and a mapped file, on a file system on a loop device; at random moments
what lies on that device is copied in one step; the copy is mounted elsewhere, opened as after a reboot,
and held against the journals of all calls (power_ledger.py).
"""
import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib

import queue_check
from power_ledger import Ledger
from queue_ledger import Faults

SIZE = 320 << 20        # of a file system: about the least that xfs takes
OUTER_SIZE = 8 << 30    # of the one with the copies; both are sparse
ANSWER_SECONDS = 60     # for the reader, and for calls in flight to come back
CUTS_OF_ONE = 6         # then a new file system, and new files
MKFS = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "nodiscard"],
    "xfs": ["mkfs.xfs", "-q", "-K", "-s", "size=4096"],
    "btrfs": ["mkfs.btrfs", "-q", "-K"],
}
OPTIONS = {"ext4": "nodiscard", "xfs": "nouuid,nodiscard", "btrfs": "nodiscard"}
CACHES = {"kept": "the cache reaches the disk", "lost": "the cache is lost in part"}


class Cannot(Exception):
    """What is missing here."""


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    output = done.stdout.decode(errors="replace").strip()
    if done.returncode:
        raise Cannot(f"{' '.join(command[:1])}: {output.splitlines()[0] if output else done.returncode}")
    return output


def mount_loop(image, at, options):
    """The loop device lets go of the image as soon as nothing is mounted on it, whoever unmounts."""
    os.makedirs(at, exist_ok=True)
    device = run("losetup", "--find", "--show", "--sector-size", "4096", image)
    try:
        run("mount", "-o", options, device, at)
    finally:
        run("losetup", "--detach", device)


def unmount(at):
    if subprocess.run(["umount", at], stderr=subprocess.DEVNULL, check=False).returncode:
        subprocess.run(["umount", "-l", at], stderr=subprocess.DEVNULL, check=False)


def mounted_under(folder):
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
        return [at for at in (line.split()[1] for line in mounts) if at.startswith(folder + "/")]


def clone(source, target):
    """In one ioctl. With the inode locked it writes the source's page cache to the disk, then both share it all:
    each write of the loop device is in it or not, as of one moment."""
    run("cp", "--reflink=always", source, target)


class Disk:
    """Of one file system under test, and of the cuts of its power."""

    def __init__(self, storm, kind, cache):
        self.storm, self.kind, self.cache = storm, kind, cache
        self.folder = os.path.join(storm.outer, f"{kind}-{cache}")
        self.at = os.path.join(storm.folder, "disk")
        self.after = os.path.join(storm.folder, "after")
        self.copy = os.path.join(self.folder, "cut")
        self.evidence = os.path.join(self.folder, "untouched")
        self.device = None

    def __enter__(self):
        os.makedirs(self.folder)
        image = os.path.join(self.folder, "image")
        clone(self.storm.template(self.kind), image)
        if self.cache == "lost":
            current, at = os.path.join(self.folder, "current"), os.path.join(self.storm.folder, "device")
            clone(image, current)
            os.makedirs(at, exist_ok=True)
            self.device = subprocess.Popen([self.storm.options.cut_disk, at, image, current],
                                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.device_at = at
            if self.device.stdout.readline() != "ready\n":
                raise Cannot("FUSE does not work here")
            self.image = os.path.join(at, "disk")
        else:
            self.image = image
        mount_loop(self.image, self.at, OPTIONS[self.kind])
        return self

    def cut(self):
        """(before, after, blocks in the cache that are kept, blocks in the cache)."""
        begin = time.monotonic_ns()
        if self.device:
            self.device.stdin.write(f"cut {self.copy} {self.storm.random.randrange(1 << 40)}\n")
            self.device.stdin.flush()
            kept, of = map(int, self.device.stdout.readline().split()[1:])
        else:
            kept = of = 0
            clone(self.image, self.copy)
        return begin, time.monotonic_ns(), kept, of

    def mount_cut(self):
        clone(self.copy, self.evidence)
        mount_loop(self.copy, self.after, OPTIONS[self.kind])

    def end_cut(self):
        unmount(self.after)
        os.unlink(self.copy)

    def __exit__(self, *_):
        unmount(self.after)
        unmount(self.at)
        if self.device:
            end = time.monotonic() + 5
            while self.image in run("losetup", "--list") and time.monotonic() < end:
                time.sleep(0.01)  # the loop device lets go a moment after
            unmount(self.device_at)
            self.device.stdin.close()
            self.device.kill()
            self.device.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Vm:
    def __init__(self, storm, name, *args):
        self.log_path = os.path.join(storm.folder, f"{name}.log")
        paths = [arg for beams in storm.options.beams for arg in ("-pa", beams)]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                ["erl", "-noshell", "-boot", "start_clean", "+S", "2:2", "+sbwt", "none", *paths,
                 "-kernel", "logger_level", "error", "-run", "emmap_power", *args],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE if name == "reader" else log, stderr=log,
                env={**os.environ, "ERL_CRASH_DUMP_BYTES": "0"})

    def alive(self):
        return self.process.poll() is None

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()

    def ask(self, command):
        """The lines that it answers."""
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        lines = []
        while True:
            line = self.process.stdout.readline().decode()
            if not line:
                raise RuntimeError(f"the reader has died: {self.log()}")
            if line == "done\n":
                return lines
            lines.append(line.strip())

    def log(self):
        with open(self.log_path, "rb") as log:
            return log.read()[-2000:].decode(errors="replace")


class Tally:
    """Of one file system and cache."""

    def __init__(self):
        self.cuts = self.acknowledged = self.present = self.values = self.kept = self.of = 0
        self.missing = self.told_lost = 0
        self.faults = Faults()

    def add(self, ledger):
        self.acknowledged += ledger.acknowledged
        self.present += ledger.present
        self.values += ledger.values
        for kind, n in ledger.wrong.items():
            self.faults.wrong[kind] += n
        self.faults.details += ledger.details[:50]

    def wrong(self):
        return sum(self.faults.wrong.values())

    def line(self):
        wrong = self.faults.wrong
        others = ", ".join(f"{kind} {n}" for kind, n in wrong.items()
                           if n and kind not in ("lost", "doubled", "torn"))
        return (f"cuts {self.cuts}, acknowledged {self.acknowledged}, present {self.present},"
                f" values {self.values}, lost {wrong['lost']}, doubled {wrong['doubled']}, torn {wrong['torn']}"
                + (f", {others}" if others else "")
                + (f" (cached blocks kept: {self.kept} of {self.of})" if self.of else ""))


class Storm:
    def __init__(self, options):
        self.options, self.folder = options, options.folder
        self.random = random.Random(options.seed)
        self.outer = os.path.join(self.folder, "outer")
        self.tallies, self.skipped = {}, {}
        self.templates, self.writers = {}, 0
        self.reader = self.writer = None
        self.first_wrong = None
        self.begin = time.monotonic()

    # -- what it stands on

    def set_up(self):
        if sys.platform != "linux" or os.geteuid() != 0:
            raise Cannot("only root may mount, and only on Linux" if sys.platform == "linux" else "not Linux")
        if not os.path.exists("/dev/loop-control"):
            raise Cannot("no loop devices")
        image = os.path.join(self.folder, "outer.img")
        for tool in "losetup", "mount", "umount", "mkfs.xfs":
            if not shutil.which(tool):
                raise Cannot(f"no {tool}")
        with open(image, "wb") as file:
            file.truncate(OUTER_SIZE)
        run(*MKFS["xfs"], "-m", "reflink=1", image)
        mount_loop(image, self.outer, "defaults")

    def template(self, kind):
        return self.templates[kind]

    def try_out(self, kind, cache):
        """Whether such a one can be had: by a cut without a writer."""
        if kind not in self.templates:
            if not shutil.which(MKFS[kind][0]):
                raise Cannot(f"no {MKFS[kind][0]}")
            image = os.path.join(self.outer, f"{kind}.img")
            with open(image, "wb") as file:
                file.truncate(SIZE)
            run(*MKFS[kind], image)
            self.templates[kind] = image
        if cache == "lost" and not os.path.exists("/dev/fuse"):
            raise Cannot("no /dev/fuse")
        features = "/sys/fs/btrfs/features"
        if kind == "btrfs" and os.path.exists(features) and not os.path.exists(f"{features}/temp_fsid"):
            raise Cannot("this kernel does not mount the copy of a btrfs beside it; Linux 6.7 does")
        with Disk(self, kind, cache) as disk:
            disk.cut()
            disk.mount_cut()
            disk.end_cut()

    # -- one file system after the other

    def run(self):
        try:
            self.set_up()
            for kind in self.options.fs:
                for cache in self.options.cache:
                    try:
                        self.try_out(kind, cache)
                        self.tallies[kind, cache] = Tally()
                    except Cannot as cause:
                        self.skipped[kind, cache] = str(cause)
        except Cannot as cause:
            self.skipped = {(kind, cache): str(cause) for kind in self.options.fs for cache in self.options.cache}
        if self.tallies:
            self.reader = Vm(self, "reader", "look")
        while self.tallies and not self.enough():
            kind, cache = min(self.tallies, key=lambda key: self.tallies[key].cuts)
            self.one_disk(kind, cache)
        return self.report()

    def cuts(self):
        return sum(tally.cuts for tally in self.tallies.values())

    def enough(self):
        if sum(tally.wrong() for tally in self.tallies.values()) > 200:
            return True
        if self.options.cuts:
            return self.cuts() >= self.options.cuts
        return time.monotonic() - self.begin > self.options.minutes * 60

    def cuts_of_one(self):
        each = (self.options.cuts or 1 << 30) // len(self.tallies) or 1
        return min(CUTS_OF_ONE, each)

    def one_disk(self, kind, cache):
        """A new file system, a new writer, some cuts."""
        self.writers += 1
        tally = self.tallies[kind, cache]
        journals = os.path.join(self.folder, f"journals-{self.writers}")
        os.mkdir(journals)
        ledger = Ledger(journals)
        with Disk(self, kind, cache) as disk:
            self.writer = Vm(self, "writer", "write", disk.at, journals, str(self.options.seed + self.writers))
            try:
                for n in range(self.cuts_of_one()):
                    if self.enough() or not self.one_cut(disk, ledger, tally, journals, first=n == 0):
                        break
            finally:
                self.writer.end()
        ledger.close()
        tally.add(ledger)
        if not sum(ledger.wrong.values()):
            shutil.rmtree(journals)
        self.progress()

    def one_cut(self, disk, ledger, tally, journals, first):
        early = first and self.random.random() < 0.3  # while the files are made
        while not early and self.writer.alive() and not os.path.exists(os.path.join(journals, "ready")):
            time.sleep(0.005)
        time.sleep(self.random.choice([0.05, 0.3, 1.0]) * self.random.random() + 0.2)
        begin, end, kept, of = disk.cut()
        tally.cuts += 1
        tally.kept += kept
        tally.of += of
        before = sum(ledger.wrong.values())
        try:
            disk.mount_cut()
            self.look(disk, ledger, tally, begin, end)
        except Cannot as cause:
            ledger.fault("file", f"the copy cannot be mounted: {cause}")
        if not self.writer.alive():
            ledger.fault("errors", f"the writer has died: {self.writer.log()}")
        if sum(ledger.wrong.values()) > before and not self.first_wrong:
            self.first_wrong = f"{disk.kind}, {CACHES[disk.cache]}: cut {tally.cuts}, cut {self.cuts()} of all"
            for line in ledger.details[:10]:
                print(f"  {line}", flush=True)
            run("cp", "--sparse=always", disk.evidence, os.path.join(self.folder, "evidence.img"))
        disk.end_cut()
        return self.writer.alive()

    # -- what the cut has left

    def look(self, disk, ledger, tally, begin, end):
        found = {}
        for line in self.reader.ask(f"recover {disk.after}"):
            self.told(line, ledger, found)
        keys = {}
        for name in ledger.queues:
            path = os.path.join(disk.after, f"{name}.queue")
            if name in found:
                keys[name] = self.read_queue(path, name, found[name], ledger, tally)
        image = b""
        if os.path.exists(os.path.join(disk.after, "map")):
            with open(os.path.join(disk.after, "map"), "rb") as file:
                image = file.read()
        for line in self.reader.ask(f"drain {disk.after}"):
            self.told(line, ledger, found)
        self.settle(ledger, end)
        for name in ledger.queues:
            if name not in keys:
                tally.missing += 1
                ledger.check_queue(name, [], begin, end)
                continue
            if found.get(f"drained {name}") != keys[name]:
                ledger.fault("file", f"{name}: what comes out is not what lies in the file")
            ledger.check_queue(name, keys[name], begin, end)
        ledger.check_counters(found.get("counters"), begin, end)
        if (len(image), zlib.crc32(image)) != found.get("map", (0, 0)):
            ledger.fault("file", f"map: read as {found.get('map')}, but the file has {len(image)} bytes")
        ledger.check_map(image, begin, end)

    def told(self, line, ledger, found):
        what, *fields = line.split(" ")
        if what == "queue" and len(fields) == 4:
            found[fields[0]] = int(fields[1]), int(fields[2]), fields[3]
        elif what == "drained":
            found[f"drained {fields[0]}"] = [tuple(map(int, pair.split(":"))) for pair in fields[1:] if pair]
        elif what == "counters":
            found["counters"] = [int(value) for value in fields]
        elif what == "map":
            found["map"] = int(fields[0]), int(fields[1])
        elif not re.search(r" enoent$", line):  # not there yet: judged by what was acknowledged
            ledger.fault("file", line)

    def read_queue(self, path, name, told, ledger, tally):
        """The keys of what is in it once emmap has recovered it, read without emmap."""
        length, lost, recovered = told
        tally.told_lost += lost
        if recovered != "true":
            ledger.fault("file", f"{name} was opened as if no power had been cut")
        try:
            queue = queue_check.load(path, cut=True)
        except (queue_check.NoQueue, OSError) as cause:
            ledger.fault("file", f"{name}: {cause}")
            return []
        for problem in queue.problems:
            ledger.fault("file", f"{name}: {problem}")
        if len(queue.messages) != length:
            ledger.fault("file", f"{name} has {len(queue.messages)} messages, emmap says {length}")
        return [key for key in map(ledger.content, queue.messages) if key]

    def settle(self, ledger, end):
        until = time.monotonic() + ANSWER_SECONDS
        while True:
            ledger.read()
            if ledger.settled(end) or not self.writer.alive():
                return
            if time.monotonic() > until:
                return ledger.fault("errors", f"a call does not come back: {ledger.open}")
            time.sleep(0.01)

    # -- what it says

    def progress(self):
        print(f"{time.monotonic() - self.begin:.0f} s: {self.cuts()} cuts,"
              f" {sum(tally.acknowledged for tally in self.tallies.values())} acknowledged,"
              f" {sum(tally.wrong() for tally in self.tallies.values())} wrong", flush=True)

    def report(self):
        total = Tally()
        for (kind, cache), tally in self.tallies.items():
            for line in tally.faults.details[:50]:
                print(f"wrong: {kind}, {CACHES[cache]}: {line}")
        for (kind, cache), tally in self.tallies.items():
            print(f"{kind}, {CACHES[cache]}: {tally.line()}")
            for name in "cuts acknowledged present values kept of missing told_lost".split():
                setattr(total, name, getattr(total, name) + getattr(tally, name))
            for name, n in tally.faults.wrong.items():
                total.faults.wrong[name] += n
        for (kind, cache), cause in self.skipped.items():
            print(f"skipped: {kind}, {CACHES[cache]}: {cause}")
        if self.first_wrong:
            print(f"first wrong: {self.first_wrong}")
        print(f"seconds {time.monotonic() - self.begin:.0f}, file systems made {self.writers},"
              f" stores not yet there at a cut {total.missing}, unacknowledged messages found damaged"
              f" {total.told_lost}, seed {self.options.seed}")
        if self.first_wrong and os.path.exists(os.path.join(self.folder, "evidence.img")):
            print("evidence.img is the first wrong one, not opened since the cut")
        print(f"all: {total.line()}" + (f", skipped {len(self.skipped)}" if self.skipped else ""))
        if not self.tallies:
            print(f"skipped: no cuts, {next(iter(self.skipped.values()))}")
            return 77
        failed = bool(total.wrong() or not total.cuts)
        print("FAILED" if failed else "ok")
        return 1 if failed else 0

    def end(self):
        for vm in self.writer, self.reader:
            if vm and vm.alive():
                vm.end()
        for at in reversed(mounted_under(os.path.realpath(self.folder))):
            unmount(at)
        image = os.path.join(self.folder, "outer.img")
        if os.path.exists(image):
            until = time.monotonic() + 2
            while image in run("losetup", "--list") and time.monotonic() < until:
                time.sleep(0.01)
            os.unlink(image)


def some_of(known):
    def parse(text):
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(known)}")
        return names
    return parse


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--beams", action="append", required=True)
    parser.add_argument("--cut-disk", required=True, help="the program that cut_disk.c makes")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--cuts", type=int)
    parser.add_argument("--fs", type=some_of(list(MKFS)), default=list(MKFS))
    parser.add_argument("--cache", type=some_of(list(CACHES)), default=list(CACHES))
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--folder", required=True)
    storm = Storm(parser.parse_args())
    for name in signal.SIGTERM, signal.SIGINT:
        signal.signal(name, lambda *_: sys.exit(143))
    try:
        return storm.run()
    finally:
        storm.end()


if __name__ == "__main__":
    sys.exit(main())
