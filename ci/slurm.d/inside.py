"""Starts Slurm's daemons on the hosts of ci/netns and runs the command on the first. It runs in the namespaces of
ci/netns, which end with it, so nothing here cleans up."""

import json
import os
import pathlib
import secrets
import subprocess
import sys
import time

NOTHING_STARTED = 125
READY_SECONDS = 30.0  # how long the daemons may take, on a machine that is busy with something else
LOOK_SECONDS = 0.01
LOG_LINES = 12  # of each daemon, when the cluster does not come up
MUNGE_KEY_BYTES = 128

PARTS = pathlib.Path(__file__).resolve().parent
# Both are directories of Debian's packages, and file systems of ours are mounted there: what they hold is this
# cluster's alone, and Slurm's programs find it without being told.
CONFIGURATION = pathlib.Path("/etc/slurm")
STATE = pathlib.Path("/var/lib/slurm")
LOGS = STATE / "logs"
SCRATCH = STATE / "tmp"  # a file system of each host's own

MUNGE_SOCKET = STATE / "munge" / "socket"

# Without cgroups, which namespaces do not separate: tasks are found by their parents, and are not bound. What is
# measured in seconds is what a test would wait for.
SLURM_CONF = """\
ClusterName=netns
SlurmctldHost={first}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={munge}
CredType=cred/munge
StateSaveLocation={state}/slurmctld
SlurmdSpoolDir={state}/%n
SlurmctldPidFile={state}/slurmctld.pid
SlurmdPidFile={state}/%n.pid
SlurmctldLogFile={logs}/slurmctld
SlurmdLogFile={logs}/slurmd-%n
TmpFS={scratch}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0
MpiDefault=none
MailProg=/bin/true
EnforcePartLimits=ALL
ReturnToService=2
KillWait=2
NodeName={hosts} CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

# Open MPI does not like to be root, which everybody in here is. And each node's daemon takes all processors for its own and
# binds ranks to them, the first to the first: with one rank on each node all ranks share one processor, and of those some
# get none of it for seconds. Names of version 4 and of version 5.
OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}


class Failure(Exception):
    pass


def run(command: list) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip() or 'failed without a word'}")
    return done.stdout


def mount_over(directory: pathlib.Path) -> None:
    run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(directory)])


def files(hosts: list, cpus: int) -> None:
    """Everything that Slurm reads and writes."""
    for directory in CONFIGURATION, STATE:
        mount_over(directory)
    for directory in LOGS, SCRATCH, MUNGE_SOCKET.parent, STATE / "slurmctld", *(STATE / host for host in hosts):
        directory.mkdir(mode=0o755)
    key = MUNGE_SOCKET.parent / "key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(MUNGE_KEY_BYTES))
    text = SLURM_CONF.format(first=hosts[0], hosts=",".join(hosts), cpus=cpus, munge=MUNGE_SOCKET, state=STATE,
                             logs=LOGS, scratch=SCRATCH)
    (CONFIGURATION / "slurm.conf").write_text(text)


# What a host mounts, in a namespace that a process keeps: a sysfs shows the network devices of whoever mounts it. The
# cgroups below it stay what they are; a runtime counts its CPUs by them.
KEEP = """
mkdir "$0/cgroup" && mount --rbind /sys/fs/cgroup "$0/cgroup" && mount -t sysfs sysfs /sys &&
    mount --move "$0/cgroup" /sys/fs/cgroup && rmdir "$0/cgroup" &&
    mount -t tmpfs -o mode=1777 tmpfs /dev/shm && mount -t tmpfs -o mode=1777 tmpfs "$1" &&
    echo && exec sleep infinity
"""


class Host:
    def __init__(self, name: str) -> None:
        self.name = name
        self.holder = subprocess.Popen(
            ["on", name, "unshare", "--mount", "sh", "-c", KEEP, str(STATE / name), str(SCRATCH)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )

    def await_holder(self) -> None:
        if not self.holder.stdout.readline():
            raise Failure(f"no mounts for host {self.name}: see above for what failed")


class Daemon:
    """A process that stays, and what it says."""

    def __init__(self, name: str, command: list) -> None:
        self.name = name
        # What it says while it has no log of its own; then it says it there too, and when.
        self.said = LOGS / f"{name}.said"
        with self.said.open("wb") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def lines(self) -> list:
        log = LOGS / self.name
        return (log if log.exists() else self.said).read_text(errors="replace").splitlines()


def start(hosts: list) -> list:
    """The daemons, which are ready when all nodes are idle."""
    munged = Daemon("munged", ["on", hosts[0], "munged", "--foreground", "--force", f"--key-file={MUNGE_SOCKET.parent}/key",
                               f"--socket={MUNGE_SOCKET}", f"--pid-file={MUNGE_SOCKET.parent}/pid",
                               f"--seed-file={MUNGE_SOCKET.parent}/seed"])
    daemons = [munged]
    until(MUNGE_SOCKET.exists, "munged's socket", daemons)
    # In this order: a slurmd that finds no slurmctld tries again only after a second.
    daemons.append(Daemon("slurmctld", ["on", hosts[0], "slurmctld", "-D"]))
    until(lambda: answers(["on", hosts[0], "scontrol", "ping"], " is UP"), "slurmctld's answer", daemons)
    daemons += [Daemon(f"slurmd-{host}", ["on", host, "slurmd", "-D", "-N", host]) for host in hosts]
    states = ["on", hosts[0], "sinfo", "--noheader", "--Node", "--format=%T"]
    until(lambda: answers(states, *["idle\n"] * len(hosts)), "that all nodes are idle", daemons)
    return daemons


def answers(command: list, *expected: str) -> bool:
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return said == "".join(expected) if len(expected) > 1 else expected[0] in said


def until(ready, what: str, daemons: list) -> None:
    end = time.monotonic() + READY_SECONDS
    while not ready():
        ended = next((daemon for daemon in daemons if daemon.process.poll() is not None), None)
        if ended is not None:
            raise Failure(f"{ended.name} ended by itself, while this waited for {what}\n{tails([ended])}")
        if time.monotonic() > end:
            raise Failure(f"waited {READY_SECONDS:.0f} s for {what}\n{tails(daemons)}")
        time.sleep(LOOK_SECONDS)


def tails(daemons: list) -> str:
    return "\n".join(f"slurm: {daemon.name}: {line}" for daemon in daemons for line in daemon.lines()[-LOG_LINES:])


def main() -> int:
    cluster = json.loads(sys.argv[1])
    names = os.environ["NETNS_HOSTS"].split()
    try:
        files(names, cluster["cpus"])
        hosts = [Host(name) for name in names]
        for host in hosts:
            host.await_holder()
        os.environ.update({f"NETNS_PID_{host.name}": str(host.holder.pid) for host in hosts})
        os.environ["PATH"] = f"{PARTS / 'bin'}:{os.environ['PATH']}"
        daemons = start(names)
    except Failure as failure:
        print(f"slurm: {failure}", file=sys.stderr)
        return NOTHING_STARTED
    around = {**os.environ, **OPEN_MPI, "TMPDIR": str(SCRATCH)}
    code = subprocess.run(["on", names[0], *sys.argv[2:]], env=around).returncode
    if cluster["logs"]:
        for daemon in daemons:
            print(*(f"{daemon.name}: {line}" for line in daemon.lines()), sep="\n", file=sys.stderr)
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main())
