#!/usr/bin/python3
"""Sends numbered datagrams from one host of ci/netns to a group, and says what came to each of the others, and in what
runs it was lost. For looking at the network itself: nothing is repaired here.

  ci/netns --loss 5 -- ci/netns.d/datagrams.py [--count 2000] [--group 239.192.0.1] [--protocol 113] [--segment 34]
"""

import argparse
import ipaddress
import json
import os
import socket
import struct
import subprocess
import sys
import time

PORT = 7500
END = 0xFFFFFFFF
END_PAUSE_SECONDS = 0.01
ENDS = 10  # a receiver stops at the tenth mark of the end: what was late by less has come
BUFFER_BYTES = 4 << 20
BURST = 20  # datagrams between two pauses, so that nothing is lost but on purpose
BURST_PAUSE_SECONDS = 0.001
UDP_SEGMENT = 103  # linux/udp.h
DEAF_SECONDS = 20  # a receiver to whom not even the end comes


def opened(group: str, protocol: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in group else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == socket.IPPROTO_UDP else socket.SOCK_RAW
    return socket.socket(family, kind, protocol)


def receive(given: argparse.Namespace) -> None:
    receiver = opened(given.group, given.protocol)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    index = socket.if_nametoindex("eth0")
    group = ipaddress.ip_address(given.group)
    if group.version == 6 and group.is_multicast:
        receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group.packed + struct.pack("@I", index))
    elif group.is_multicast:
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group.packed + struct.pack("@4xI", index))
    receiver.bind(("", PORT if given.protocol == socket.IPPROTO_UDP else 0))
    receiver.settimeout(DEAF_SECONDS)
    print("ready", flush=True)
    seen, ends, order, corrupted = {}, 0, [], 0
    while ends < ENDS:
        packet = receiver.recv(65535)
        if given.protocol != socket.IPPROTO_UDP and group.version == 4:
            packet = packet[(packet[0] & 15) * 4 :]  # a raw socket of IPv4 has the header too
        (number,) = struct.unpack_from("!I", packet)
        if any(packet[4:]) or (number >= given.count and number != END):
            corrupted += 1
            continue
        if number == END:
            ends += 1
        else:
            seen[number] = seen.get(number, 0) + 1
            order.append(number)
    runs, run = [], 0
    for number in range(given.count + 1):
        if number < given.count and number not in seen:
            run += 1
        elif run:
            runs.append(run)
            run = 0
    result = {
        "received": len(seen),
        "duplicates": sum(seen.values()) - len(seen),
        "overtaken": sum(later < earlier for earlier, later in zip(order, order[1:])),
        "corrupted": corrupted,
        "mean_burst": round(sum(runs) / len(runs), 2) if runs else 0,
        "lost": [number for number in range(given.count) if number not in seen],
    }
    print(json.dumps(result), flush=True)


def send(given: argparse.Namespace) -> None:
    sender = opened(given.group, given.protocol)
    to = (given.group, PORT if given.protocol == socket.IPPROTO_UDP else 0)
    if given.segment > 1:
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, given.bytes)
    number = 0
    while number < given.count:
        through = min(number + given.segment, given.count)
        sender.sendto(b"".join(struct.pack("!I", at).ljust(given.bytes, b"\0") for at in range(number, through)), to)
        if number // BURST != through // BURST:
            time.sleep(BURST_PAUSE_SECONDS)
        number = through
    while True:  # until it is ended
        sender.sendto(struct.pack("!I", END), to)
        time.sleep(END_PAUSE_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--bytes", type=int, default=1024)
    parser.add_argument("--group", default="239.192.0.1", help="or the address of a host, which then receives alone")
    parser.add_argument("--protocol", type=int, default=socket.IPPROTO_UDP)
    parser.add_argument("--segment", type=int, default=1, help="datagrams in one send (UDP_SEGMENT)")
    parser.add_argument("--from", dest="sender", default="h1")
    parser.add_argument("--to", nargs="+", help="receivers (all but the sender)")
    parser.add_argument("--json", action="store_true", help="print everything, the numbers lost too")
    parser.add_argument("--role", choices=["send", "receive"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role:
        {"send": send, "receive": receive}[given.role](given)
        return
    if "NETNS_HOSTS" not in os.environ:
        sys.exit("datagrams.py: this runs inside ci/netns: ci/netns -- ci/netns.d/datagrams.py")
    hosts = given.to or [host for host in os.environ["NETNS_HOSTS"].split() if host != given.sender]
    itself = [sys.executable, *sys.argv, "--role"]
    receivers = {}
    for host in hosts:
        receivers[host] = subprocess.Popen(["on", host, *itself, "receive"], stdout=subprocess.PIPE, text=True)
    for receiver in receivers.values():
        receiver.stdout.readline()
    sender = subprocess.Popen(["on", given.sender, *itself, "send"])
    failed = False
    for host, receiver in receivers.items():
        line = receiver.communicate()[0]
        failed |= receiver.returncode != 0
        if line and given.json:
            print(json.dumps({"host": host, **json.loads(line)}))
        elif line:
            result = json.loads(line)
            del result["lost"]
            print(f"{host}: {given.count} sent; " + ", ".join(f"{what} {value}" for what, value in result.items()))
    sender.kill()
    sys.exit(failed)


if __name__ == "__main__":
    main()
