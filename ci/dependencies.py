#!/usr/bin/env python3
"""Checks that dependencies point one way only (ARCHITECTURE.md), from cargo metadata. Looks at no code."""

import json
import subprocess
import sys

# Who may depend on whom inside the workspace, in ordinary (not test-only) dependencies.
CORE = {"fabriq-transport-core"}
TRANSPORTS = {"fabriq-transport-inproc", "fabriq-transport-tcp"}
ALLOWED = {
    "fabriq-transport-core": set(),
    **{transport: CORE for transport in TRANSPORTS},
    "fabriq-messaging": CORE,
    "fabriq": CORE | TRANSPORTS | {"fabriq-messaging"},
    "fabriq-capi": {"fabriq"},
    "fabriq-cli": {"fabriq"},
    "fabriq-benches": {"fabriq", "fabriq-messaging"} | CORE | TRANSPORTS,
    "fabriq-testkit": CORE,
}

metadata = json.loads(
    subprocess.check_output(["cargo", "metadata", "--format-version=1", "--no-deps"])
)
members = {package["name"]: package for package in metadata["packages"]}
wrong = [f"{name} is in no rule; add it to ci/dependencies.py" for name in members.keys() - ALLOWED.keys()]
wrong += [f"{name} is in the rules but not in the workspace" for name in ALLOWED.keys() - members.keys()]
for name, package in members.items():
    for dependency in package["dependencies"]:
        target = dependency["name"]
        if target not in members:
            continue
        if dependency["kind"] == "dev":
            # Tests may use the testkit; a test of messaging may use real transports; nothing else.
            allowed = {"fabriq-testkit"} | ALLOWED.get(name, set())
            if name in {"fabriq-messaging", "fabriq-testkit"}:
                allowed |= TRANSPORTS
        else:
            allowed = ALLOWED.get(name, set())
        if target not in allowed:
            wrong.append(f"{name} must not depend on {target} ({dependency['kind'] or 'normal'})")

for line in wrong:
    print(line, file=sys.stderr)
print(f"dependencies: {len(members)} crates checked, {len(wrong)} wrong")
sys.exit(bool(wrong))
