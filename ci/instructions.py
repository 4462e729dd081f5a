#!/usr/bin/env python3
"""Compares counts of instructions with a baseline: instructions.py COUNTS BASELINE [--record]. Counts nothing itself.

COUNTS is gungraun's JSON, an object per line. BASELINE is text: what it was counted with, then a name and a count per
line. Counts depend on the compiler above all, then on the C library's copying of memory, which chooses by processor, so
they are compared only with what the same versions counted.
"""

import json
import platform
import re
import subprocess
import sys
from pathlib import Path

# What a subject may grow by, as a share of its baseline. Counts repeat exactly; this is room for what a compiler makes
# of unrelated changes nearby.
TOLERANCE = 0.05
# What stands in front of the versions in a baseline.
COUNTED_WITH = "# counted with: "


def versions():
    def first_line(*command):
        return subprocess.check_output(command, text=True).splitlines()[0]

    flags = re.search(r"^(flags|Features)\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    avx2 = "avx2" in (flags[2].split() if flags else [])
    return ", ".join(
        [
            first_line("rustc", "--version"),
            platform.machine() + (" with AVX2" if avx2 else ""),
            first_line("getconf", "GNU_LIBC_VERSION"),
            first_line("valgrind", "--version"),
        ]
    )


def read_counts(path):
    counts = {}
    for line in path.read_text().splitlines():
        bench = json.loads(line)
        metrics = bench["profiles"][0]["data"]["total"]["metrics"]
        # The values are {new, old} when there was a run before, and {new} in the first.
        counts[f'{bench["function_name"]}/{bench["id"]}'] = metrics["Ir"]["values"]["new"]
    return counts


def read_baseline(path):
    if not path.exists():
        return None, {}
    lines = path.read_text().splitlines()
    counted_with = next((line[len(COUNTED_WITH) :] for line in lines if line.startswith(COUNTED_WITH)), None)
    pairs = (line.split() for line in lines if line and not line.startswith("#"))
    return counted_with, {name: int(count) for name, count in pairs}


def compare(counts, baseline):
    """Prints a line for each subject; returns what is wrong."""
    wrong = []
    for name in sorted(counts.keys() | baseline.keys()):
        new, old = counts.get(name), baseline.get(name)
        if new is None:
            wrong.append(f"{name} stands in the baseline, but is no longer counted")
            continue
        if old is None:
            wrong.append(f"{name} does not stand in the baseline")
            print(f"{name:24}{new:12}")
            continue
        change = new / old - 1
        remark = ""
        if change > TOLERANCE:
            wrong.append(f"{name} grew by {change:.1%}, more than {TOLERANCE:.0%}")
            remark = "  GREW"
        elif change < -TOLERANCE:
            remark = "  shrank: record it, or it may grow back unnoticed"
        print(f"{name:24}{new:12}{change:+9.1%}{remark}")
    return wrong


def main():
    counts = read_counts(Path(sys.argv[1]))
    path = Path(sys.argv[2])
    now = versions()
    if not counts:
        sys.exit(f"instructions: {sys.argv[1]} holds no counts")
    if "--record" in sys.argv[3:]:
        lines = [
            "# Instructions of 1000 operations of each subject, see benches/src/subjects. Written by",
            "# `ci/instructions --record`.",
            COUNTED_WITH + now,
            *(f"{name} {count}" for name, count in sorted(counts.items())),
        ]
        path.write_text("\n".join(lines) + "\n")
        print(f"instructions: {len(counts)} subjects recorded")
        return
    counted_with, baseline = read_baseline(path)
    if baseline and counted_with is None:
        sys.exit(f"instructions: {path} has no line '{COUNTED_WITH}'; write it anew with `ci/instructions --record`")
    if baseline and counted_with != now:
        for name, count in sorted(counts.items()):
            print(f"{name:24}{count:12}")
        print(f"instructions: NOT COMPARED. Here: {now}. Baseline: {counted_with}. Record one with `ci/instructions --record`.")
        return
    wrong = compare(counts, baseline)
    for line in wrong:
        print(f"instructions: {line}", file=sys.stderr)
    print(f"instructions: {len(counts)} subjects compared, {len(wrong)} wrong")
    if wrong:
        sys.exit("instructions: if the change is worth it, record it with `ci/instructions --record`")


main()
