#!/usr/bin/python3
"""Runs one command in one guest: starts QEMU, passes output on as it comes, watches the limits, returns the code.

The guest and this program talk through files in a directory of the run, which the guest mounts. From here to there:
settings, command, guest (a copy of the script). From there to here: failed or started, stdout, stderr, processes,
ended, code; each of them appears whole. So whatever the guest wrote before a crash is here, and nothing that its kernel
prints mixes with the command's output.

Installs and builds nothing: ci/soft-roce says where everything is.
"""

import argparse
import ctypes
import os
import pathlib
import pwd
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

# Exit codes of the lane's own. The command may return them too; then no line "soft-roce: ..." goes with them.
DID_NOT_START = 123  # the guest did not come up
CRASHED = 122  # the guest came up and died
TIMED_OUT = 124  # as timeout(1) has it
BROKEN = 125  # nothing was started

# How often to look whether something came, in seconds. Small beside the guest's own delays.
LOOK_SECONDS = 0.02
# How long the guest may take, after the limit, to say what it was doing; and after the command, to end what it left.
LAST_WORDS_SECONDS = 5.0
CLEANUP_SECONDS = 30.0
# How much of the guest's kernel log to show when it failed.
LOG_LINES = 25
CRASH_SIGNS = ["BUG:", "Oops", "general protection fault", "Kernel panic"]
COPY_BYTES = 1 << 20

HERE = pathlib.Path(__file__).resolve().parent


class Failure(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Stream:
    """One of the command's outputs: a file that the guest appends to, and the caller's descriptor."""

    def __init__(self, path: pathlib.Path, target: int) -> None:
        path.touch()
        self.file = path.open("rb", buffering=0)
        self.target = target

    def copy(self) -> None:
        while chunk := self.file.read(COPY_BYTES):
            while chunk:
                try:
                    chunk = chunk[os.write(self.target, chunk) :]
                except BlockingIOError:  # the caller's choice; it holds for the caller as well, so let it stay
                    select.select([], [self.target], [])


def same_file(one: int, other: int) -> bool:
    try:
        return os.path.samestat(os.fstat(one), os.fstat(other))
    except OSError:
        return False


def command_script(options: argparse.Namespace) -> str:
    """What the guest runs: the caller's directory, environment and arguments, with the limits asked for."""
    command = ["env", "-i", *(f"{name}={value}" for name, value in os.environ.items()), *options.command]
    if options.user:
        try:
            entry = pwd.getpwuid(int(options.user)) if options.user.isdigit() else pwd.getpwnam(options.user)
            user, group = entry.pw_uid, entry.pw_gid
        except KeyError:
            if not options.user.isdigit():
                raise Failure(BROKEN, f"--user {options.user}: no such user on this host") from None
            user = group = int(options.user)
        command = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--", *command]
    directory = shlex.quote(os.getcwd())
    return f"""\
cd {directory} || exit {BROKEN}
ulimit -Hn 524288
ulimit -l {options.memlock}
exec {shlex.join(command)}
"""


def qemu_command(options: argparse.Namespace, run: pathlib.Path) -> list[str]:
    def share(tag: str, path: str, mode: str = "") -> list[str]:
        # multidevs=remap: the host's tree may span file systems whose inode numbers clash.
        backend = f"local,id={tag},path={path.replace(',', ',,')},security_model=none,multidevs=remap{mode}"
        return ["-fsdev", backend, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]

    kernel_options = [
        "console=ttyS0 quiet",
        # A kernel that has oopsed leaves processes that never end: stop at once instead, and do not restart.
        "oops=panic panic=-1",
        # What costs time under emulation and protects or helps nobody here.
        "mitigations=off init_on_alloc=0 nokaslr audit=0 tsc=reliable no_timer_check random.trust_cpu=on",
        "cryptomgr.notests",
    ]
    return [
        options.qemu,
        *["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
        # Never KVM: where a hypervisor offers it half-way, a stock kernel stops in an instruction that is not emulated.
        *["-accel", "tcg,thread=multi,tb-size=512", "-machine", "q35", "-cpu", "max"],
        *["-smp", str(options.cpus), "-m", f"{options.memory // (1 << 20)}M"],
        *["-kernel", options.kernel, "-initrd", options.initramfs, "-append", " ".join(kernel_options)],
        *["-chardev", f"file,id=console,path={str(run / 'console').replace(',', ',,')}", "-serial", "chardev:console"],
        *share("root", "/", ",readonly=on"),
        *share("run", str(run)),
        *(share("work", options.work) if options.work else []),
    ]


def die_with_parent() -> None:
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Guest:
    def __init__(self, options: argparse.Namespace, run: pathlib.Path) -> None:
        self.run = run
        merged = same_file(1, 2)
        settings = {
            "work": options.work,
            "modules": options.modules,
            "timeout": options.timeout,
            "wire": options.wire,
            # One pipe for both keeps the order of what the command writes, where the caller has one file for both.
            "merge": int(merged),
        }
        lines = [f"{name}={shlex.quote(str(value))}\n" for name, value in settings.items()]
        (run / "settings").write_text("".join(lines))
        (run / "command").write_text(command_script(options))
        shutil.copy(HERE / "guest", run / "guest")
        self.streams = [Stream(run / "stdout", 1), Stream(run / "stderr", 1 if merged else 2)]
        environment = dict(os.environ)
        if options.libraries:
            environment["LD_LIBRARY_PATH"] = options.libraries
        with (run / "qemu").open("wb") as log:
            self.process = subprocess.Popen(
                qemu_command(options, run),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                preexec_fn=die_with_parent,
            )

    def said(self, name: str) -> str | None:
        try:
            return (self.run / name).read_text(errors="replace").strip()
        except FileNotFoundError:
            return None

    def wait_for(self, names: list[str], seconds: float) -> str | None:
        """Passes output on until the guest has said one of `names`, or died, or the time is over."""
        limit = time.monotonic() + seconds
        while True:
            # In this order: what is there when the process has ended, or when the limit is reached, still counts.
            over = self.process.poll() is not None or time.monotonic() >= limit
            found = next((name for name in names if (self.run / name).exists()), None)
            for stream in self.streams:
                stream.copy()
            if found or over:
                return found
            time.sleep(LOOK_SECONDS)

    def dead(self) -> bool:
        return self.process.poll() is not None

    def end(self) -> None:
        if not self.dead():
            self.process.kill()
        self.process.wait()

    def log(self) -> str:
        """The part of the kernel's log that tells most: from the first sign of a crash, or else the end."""
        lines = ((self.said("console") or "") + "\n" + (self.said("qemu") or "")).strip().splitlines()
        crash = next((place for place, line in enumerate(lines) if any(sign in line for sign in CRASH_SIGNS)), None)
        shown = lines[-LOG_LINES:] if crash is None else lines[crash : crash + LOG_LINES]
        return "\n".join(["  | " + line for line in shown] or ["  | (the guest's kernel wrote nothing)"])

    def death(self) -> str:
        panic = next((line for line in (self.said("console") or "").splitlines() if "Kernel panic" in line), None)
        if panic:
            return f"the guest's kernel crashed: {panic}"
        return f"QEMU ended with status {self.process.returncode}"


def in_guest(options: argparse.Namespace, guest: Guest) -> int:
    begin = time.monotonic()
    came = guest.wait_for(["failed", "started"], options.boot_timeout)
    if came == "failed":
        raise Failure(DID_NOT_START, f"the guest did not come up: {guest.said('failed')}\n{guest.log()}")
    if came is None and guest.dead():
        raise Failure(DID_NOT_START, f"the guest did not come up: {guest.death()}\n{guest.log()}")
    if came is None:
        raise Failure(
            DID_NOT_START,
            f"the guest did not come up within --boot-timeout {options.boot_timeout} s\n{guest.log()}",
        )
    up = time.monotonic()

    came = guest.wait_for(["ended"], options.timeout)
    if came is None and guest.dead():
        raise Failure(CRASHED, f"{guest.death()}; {time.monotonic() - up:.1f} s into the command\n{guest.log()}")
    if came is None:
        guest.wait_for(["processes"], LAST_WORDS_SECONDS)
        processes = guest.said("processes")
        state = f"it was running:\n{processes}" if processes else f"the guest does not answer:\n{guest.log()}"
        raise Failure(TIMED_OUT, f"the command did not end within --timeout {options.timeout} s; {state}")
    ended = time.monotonic()

    came = guest.wait_for(["code"], CLEANUP_SECONDS)
    if came is None:
        how = guest.death() if guest.dead() else f"what it left running could not be ended in {CLEANUP_SECONDS:.0f} s"
        raise Failure(CRASHED, f"the command ended with code {guest.said('ended')}, but then {how}\n{guest.log()}")
    guest.end()
    if options.times:
        print(
            f"soft-roce: {up - begin:.2f} s to the command, {ended - up:.2f} s in it,"
            f" {time.monotonic() - ended:.2f} s after it",
            file=sys.stderr,
        )
    return int(guest.said("code") or BROKEN)


def parse() -> argparse.Namespace:
    # Called by ci/soft-roce, which checks and explains the options; all of them are there.
    parser = argparse.ArgumentParser()
    for name in ["qemu", "libraries", "kernel", "initramfs", "modules", "work", "memlock", "user", "console"]:
        parser.add_argument(f"--{name}", required=True)
    for name in ["memory", "cpus", "timeout", "boot-timeout", "wire", "times"]:
        parser.add_argument(f"--{name}", required=True, type=int)
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def main() -> int:
    options = parse()

    def stop(number: int, _frame: object) -> None:
        raise Failure(128 + number, f"stopped by {signal.Signals(number).name}")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    # Holds the caller's environment: for the owner only, which mkdtemp sees to.
    run = pathlib.Path(tempfile.mkdtemp(prefix="soft-roce."))
    guest = None
    try:
        guest = Guest(options, run)
        return in_guest(options, guest)
    except Failure as failure:
        print(f"soft-roce: {failure}", file=sys.stderr)
        return failure.code
    except OSError as error:
        print(f"soft-roce: {error}", file=sys.stderr)
        return BROKEN
    finally:
        if guest:
            guest.end()
        if options.console and (run / "console").exists():
            shutil.copy(run / "console", options.console)
        shutil.rmtree(run, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
