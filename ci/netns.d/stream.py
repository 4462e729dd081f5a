#!/usr/bin/python3
"""Sends bytes over TCP from one host of ci/netns to another, and says how fast they came. For looking at the network
itself.

  ci/netns --rate h2=20 -- ci/netns.d/stream.py h1 h2 [--bytes 2000000]
"""

import argparse
import os
import socket
import subprocess
import sys
import time

PORT = 7501
CHUNK_BYTES = 64 << 10
SILENCE_SECONDS = 20


def receive(given: argparse.Namespace) -> None:
    with socket.create_server(("", PORT)) as listener:
        listener.settimeout(SILENCE_SECONDS)
        print("ready", flush=True)
        connection, _ = listener.accept()
    connection.settimeout(SILENCE_SECONDS)
    # The sender waits for this word, so that nothing has come before the clock runs, however late we are.
    began, received = time.monotonic(), 0
    connection.sendall(b"!")
    while part := connection.recv(CHUNK_BYTES):
        received += len(part)
    seconds = time.monotonic() - began
    if received != given.bytes:
        sys.exit(f"stream.py: {received} bytes came of {given.bytes}")
    mbit = received * 8 / seconds / 1e6
    print(f"{given.sender} -> {given.receiver}: {mbit:.1f} Mbit/s", flush=True)


def send(given: argparse.Namespace) -> None:
    with socket.create_connection((given.receiver, PORT), timeout=SILENCE_SECONDS) as connection:
        connection.recv(1)
        for sent in range(0, given.bytes, CHUNK_BYTES):
            connection.sendall(bytes(min(CHUNK_BYTES, given.bytes - sent)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sender")
    parser.add_argument("receiver")
    parser.add_argument("--bytes", type=int, default=2_000_000)
    parser.add_argument("--role", choices=["send", "receive"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role:
        {"send": send, "receive": receive}[given.role](given)
        return
    if "NETNS_HOSTS" not in os.environ:
        sys.exit("stream.py: this runs inside ci/netns: ci/netns -- ci/netns.d/stream.py h1 h2")
    itself = [sys.executable, *sys.argv, "--role"]
    receiver = subprocess.Popen(["on", given.receiver, *itself, "receive"], stdout=subprocess.PIPE, text=True)
    if receiver.stdout.readline() != "ready\n":
        sys.exit(receiver.wait() or 1)
    sender = subprocess.run(["on", given.sender, *itself, "send"])
    print(receiver.stdout.read(), end="")
    sys.exit(receiver.wait() or sender.returncode)


if __name__ == "__main__":
    main()
