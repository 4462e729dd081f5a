#!/usr/bin/python3
"""A pyzmq peer for python.rs, heartbeats.rs and survival.rs: plays one role and checks what it gets. Knows no fabriq.

peer.py blocking|asyncio ROLE[,ROLE...] bind|connect ENDPOINT[,ENDPOINT...] [OPTION=VALUE ...]

A bound peer prints its endpoint first. Ends with status 0 when all was as it should be.
"""

import asyncio
import struct
import sys
import threading

import zmq
import zmq.asyncio

ROUNDS = 200
PATIENCE = 20_000
SIZES = [0, 1, 33, 70, 71, 255, 256, 9000, 70_000, 300_000]

KINDS = {
    "req": zmq.REQ, "rep": zmq.REP, "dealer": zmq.DEALER, "router": zmq.ROUTER, "pair": zmq.PAIR, "echo-pair": zmq.PAIR,
    "push": zmq.PUSH, "pull": zmq.PULL, "pub": zmq.PUB, "sub": zmq.SUB, "echo": zmq.DEALER, "send-numbers": zmq.PUSH,
    "receive-numbers": zmq.PULL, "ask-and-hang": zmq.REQ,
}
# Not options of the socket.
OWN = {"size", "hello"}


def numbered(number):
    size = SIZES[number % len(SIZES)]
    head = struct.pack("<I", number)
    return [head, head * -(-size // 4), b""]


def check(ok, what):
    if not ok:
        sys.exit(f"peer.py: {what}")


def told():
    """Set when the other side says something on our standard input."""
    event = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), event.set()), daemon=True).start()
    return event


async def play(role, socket, call, options):
    """One role. `call` awaits what asyncio sockets return, and passes through what blocking ones do."""
    if role in ("req", "dealer", "pair"):
        for number in range(ROUNDS):
            # Every other one without a copy, so that the free function runs in libzmq's thread.
            await call(socket.send_multipart(numbered(number), copy=number % 2 == 0))
            check(await call(socket.recv_multipart()) == numbered(number), f"{role}: another reply than {number}")
    elif role in ("rep", "router", "echo-pair"):
        for number in range(ROUNDS):
            frames = await call(socket.recv_multipart(copy=False))
            body = [bytes(frame) for frame in frames]
            if role == "router":
                check(body[0][:1] == b"\0" and len(body.pop(0)) == 5, "a routing id that nobody made up")
            check(body == numbered(number), f"{role}: another request than {number}")
            await call(socket.send_multipart(frames, copy=False))
    elif role == "push":
        for number in range(ROUNDS):
            await call(socket.send_multipart(numbered(number)))
    elif role == "pull":
        for number in range(ROUNDS):
            check(await call(socket.recv_multipart()) == numbered(number), f"pull: {number} is not next")
    elif role == "pub":
        heard = told()
        while not heard.is_set():
            await call(socket.send(b"sync"))
            await asyncio.sleep(0.005)
        for number in range(ROUNDS):
            await call(socket.send_multipart([b"other", b"noise"]))
            await call(socket.send_multipart([b"topic", struct.pack("<I", number)]))
    elif role == "sub":
        check(await call(socket.recv()) == b"sync", "sub: not the beginning")
        print("synced", flush=True)
        expected = iter(range(ROUNDS))
        while (message := await call(socket.recv_multipart())) != [b"topic", b"end"]:
            if message != [b"sync"]:
                check(message == [b"topic", struct.pack("<I", next(expected))], f"sub: {message}")
        check(next(expected, None) is None, "sub: the end came early")
    elif role == "echo":
        if "hello" in options:
            await call(socket.send(b"hello"))
        socket.rcvtimeo = -1
        while True:
            await call(socket.send_multipart(await call(socket.recv_multipart())))
    elif role == "send-numbers":
        number = 0
        while True:
            head = struct.pack("<Q", number)
            await call(socket.send_multipart([head, head * (int(options["size"]) // 8)], copy=False))
            number += 1
    elif role == "receive-numbers":
        while True:
            head, body = await call(socket.recv_multipart())
            check(body == head * (int(options["size"]) // 8), "a body is damaged")
            print(struct.unpack("<Q", head)[0], flush=True)
    elif role == "ask-and-hang":
        await call(socket.send(b"question"))
        threading.Event().wait()


def opened(context, role, how, endpoint, options):
    socket = context.socket(KINDS[role])
    socket.linger = 5000
    socket.sndtimeo = socket.rcvtimeo = PATIENCE
    socket.reconnect_ivl = 20
    for name, value in options.items():
        if name not in OWN:
            setattr(socket, name, int(value) if value.isdigit() else value.encode())
    if role == "sub":
        for topic in (b"topic", b"sync"):
            socket.subscribe(topic)
    if how == "bind":
        socket.bind(endpoint)
        print(socket.last_endpoint.decode().rstrip("\0"), flush=True)
    else:
        socket.connect(endpoint)
    return socket


async def main(mode, roles, how, endpoints, *settings):
    options = dict(setting.split("=", 1) for setting in settings)
    context = zmq.asyncio.Context() if mode == "asyncio" else zmq.Context()

    async def call(result):
        return await result if mode == "asyncio" and result is not None else result

    tasks = [
        play(role, opened(context, role, how, endpoint, options), call, options)
        for role, endpoint in zip(roles.split(","), endpoints.split(","))
    ]
    await asyncio.gather(*tasks)
    context.destroy(linger=5000)


asyncio.run(main(*sys.argv[1:]))
