#!/usr/bin/env python3
"""Holds the tree to what its documents say of it: dependencies point one way only and `unsafe` sits in the files that are
named (ARCHITECTURE.md), and every crate from outside has its reason (docs/design/dependencies.md). Judges no code."""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

# Who may depend on whom inside the workspace, in ordinary (not test-only) dependencies.
CORE = {"fabriq-transport-core"}
TRANSPORTS = {
    "fabriq-transport-inproc",
    "fabriq-transport-ofi",
    "fabriq-transport-pgm",
    "fabriq-transport-tcp",
    "fabriq-transport-verbs",
}
# What transports of a kind have in common.
SHARED = {"fabriq-hosts", "fabriq-packet-protocol", "fabriq-rdma-links"}
ALLOWED = {
    "fabriq-transport-core": set(),
    "fabriq-hosts": CORE,
    "fabriq-packet-protocol": CORE,
    "fabriq-rdma-links": CORE | {"fabriq-hosts", "fabriq-packet-protocol"},
    **{transport: CORE | SHARED for transport in TRANSPORTS},
    "fabriq-messaging": CORE,
    "fabriq": CORE | TRANSPORTS | {"fabriq-messaging"},
    "fabriq-capi": {"fabriq"},
    # What measures, and nothing else, may stand beside fabriq on a transport's device.
    "fabriq-baselines": CORE | {"fabriq-transport-ofi", "fabriq-transport-verbs"},
    "fabriq-cli": {"fabriq", "fabriq-baselines"},
    "fabriq-benches": {"fabriq", "fabriq-baselines", "fabriq-messaging"} | CORE | TRANSPORTS,
    "fabriq-testkit": CORE,
}

ROOT = pathlib.Path(__file__).resolve().parent.parent

# What may hold the word `unsafe` without meaning it. Raw strings first: a backslash escapes nothing in them.
NOT_CODE = re.compile(
    r"""(?<!\w)[bc]?r(?P<hashes>\#*)".*?"(?P=hashes)  # a raw string
      | "(?:\\.|[^"\\])*"                             # a string
      | '(?:\\[^']+|\\'|[^'\\])'                      # a character, but no lifetime
      | //[^\n]*                                      # a comment
      | /\*.*?\*/                                     # a comment, not nested
    """,
    re.DOTALL | re.VERBOSE,
)
INHERITED = re.compile(r"^([\w-]+)(?:\.workspace\s*=|\s*=\s*\{.*\bworkspace\s*=)\s*true", re.MULTILINE)
CRATE = re.compile(r"[a-z][\w-]*")
TEST_MODULE = re.compile(r"#\[cfg\((?:all\([^()]*?)?\btest\b[^\]]*\]\s*(?:pub(?:\([a-z]+\))?\s+)?mod\s+\w+\s*\{")


def directions(members):
    """What is wrong with the dependencies between the workspace's crates."""
    for name in members.keys() - ALLOWED.keys():
        yield f"{name} is in no rule; add it to ci/dependencies.py"
    for name in ALLOWED.keys() - members.keys():
        yield f"{name} is in the rules but not in the workspace"
    for name, package in members.items():
        for dependency in package["dependencies"]:
            target = dependency["name"]
            if target not in members:
                continue
            allowed = ALLOWED.get(name, set())
            if dependency["kind"] == "dev":
                # Tests may use the testkit; a test of messaging may use real transports; nothing else. A crate names itself
                # to have one of its features in its tests.
                allowed = allowed | {"fabriq-testkit", name}
                if name in {"fabriq-messaging", "fabriq-testkit"}:
                    allowed = allowed | TRANSPORTS
            if target not in allowed:
                yield f"{name} must not depend on {target} ({dependency['kind'] or 'normal'})"


def has_unsafe(text):
    """Whether Rust source has `unsafe` in it, beyond its comments, strings and test modules. (`unsafe_code` is another
    word.)"""
    code = NOT_CODE.sub(" ", text)
    while test := TEST_MODULE.search(code):
        depth, end = 1, test.end()
        while depth and end < len(code):
            depth += {"{": 1, "}": -1}.get(code[end], 0)
            end += 1
        code = code[: test.start()] + code[end:]
    return re.search(r"\bunsafe\b", code) is not None


def unsafe_files(architecture):
    """Where the tree and the list of files with `unsafe` differ. An entry that ends in a slash stands for a folder."""
    item = re.search(r"^\* `unsafe` .*?(?=^\* |\Z)", architecture, re.DOTALL | re.MULTILINE)
    listed = re.findall(r"`([^`\s]*/[^`\s]*)`", item.group()) if item else []
    if not listed:
        yield "ARCHITECTURE.md has no item that lists the files with `unsafe`"
    used = set()
    for path in sorted(ROOT.rglob("*.rs")):
        name = path.relative_to(ROOT)
        if name.parts[0].startswith(("target", ".")) or name.parts[:2] == ("fuzz", "target"):
            continue
        if "tests" in name.parts or name.name == "tests.rs" or not has_unsafe(path.read_text()):
            continue
        name = name.as_posix()
        entries = [entry for entry in listed if name == entry or entry.endswith("/") and name.startswith(entry)]
        used.update(entries)
        if not entries:
            yield f"{name} has `unsafe` in it; do without, or add the file to the list in ARCHITECTURE.md"
    for entry in sorted(set(listed) - used):
        yield f"{entry} has no `unsafe` in it any more; take it off the list in ARCHITECTURE.md"


def crates(manifest):
    """The names of the crates from outside in a parsed Cargo.toml, whatever they are for."""
    for key, value in manifest.items():
        if key.endswith("dependencies"):
            for name, how in value.items():
                if not isinstance(how, dict) or not {"path", "workspace"} & how.keys():
                    yield name
        elif isinstance(value, dict):
            yield from crates(value)


def reasons(document):
    """Where the crates of all Cargo.toml and the tables of `document` differ. (What the members take from the workspace
    is in the workspace's own.)"""
    used = set()
    for path in [ROOT / "Cargo.toml", *ROOT.glob("*/Cargo.toml")]:
        used.update(crates(tomllib.loads(path.read_text())))
    inherited = {name for path in ROOT.glob("*/Cargo.toml") for name in INHERITED.findall(path.read_text())}
    # Of the middle cell, the names without their remarks; the headings are no rows.
    cells = [row.split("|")[2] for row in document.splitlines() if row.startswith("| ")]
    named = {name for cell in cells for name in CRATE.findall(re.sub(r"\(.*?\)|, without.*", "", cell))} - {"crate"}
    for name in sorted(used - named):
        yield f"{name} has no line in docs/design/dependencies.md; give a reason or do without"
    for name in sorted(named - used):
        yield f"{name} is in docs/design/dependencies.md and in no Cargo.toml"
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["dependencies"]
    for name in sorted(workspace.keys() - inherited):
        yield f"{name} is in the workspace's dependencies and no crate takes it"


def main():
    metadata = json.loads(
        subprocess.check_output(["cargo", "metadata", "--format-version=1", "--no-deps"], cwd=ROOT)
    )
    members = {package["name"]: package for package in metadata["packages"]}
    wrong = [
        *directions(members),
        *unsafe_files((ROOT / "ARCHITECTURE.md").read_text()),
        *reasons((ROOT / "docs/design/dependencies.md").read_text()),
    ]
    for line in wrong:
        print(line, file=sys.stderr)
    print(f"dependencies: {len(members)} crates checked, {len(wrong)} wrong")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
