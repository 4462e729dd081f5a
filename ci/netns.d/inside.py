"""Builds the network of ci/netns and runs the command beside it. It is the first process of its own namespaces of
processes, mounts and network: when it ends, the kernel ends and removes all the rest, so nothing here cleans up."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

NOTHING_STARTED = 125
READY_SECONDS = 10.0  # how long links and the switch may take to come up
LOOK_SECONDS = 0.01
# How long the bridge, once it is a querier, still floods: the time that it gives listeners to answer, here the least.
QUERY_RESPONSE_CENTISECONDS = 10

PARTS = pathlib.Path(__file__).resolve().parent

# What a kernel says when it has no such device, and which one a command is about.
LACKS = ["Unknown device type", "not supported", "missing kernel module", "No such device", "No such file",
         "kind is unknown"]
KERNEL = {
    "type veth": ("virtual Ethernet pairs", "CONFIG_VETH", "modprobe veth"),
    "type bridge": ("bridges", "CONFIG_BRIDGE", "modprobe bridge"),
    "statistic": ("iptables' match 'statistic'", "CONFIG_NETFILTER_XT_MATCH_STATISTIC", "modprobe xt_statistic"),
    "ip6tables": ("IPv6 filters", "CONFIG_IP6_NF_FILTER or CONFIG_NFT_COMPAT", "modprobe ip6_tables"),
    "iptables": ("IP filters", "CONFIG_IP_NF_FILTER or CONFIG_NFT_COMPAT", "modprobe ip_tables nft_compat"),
    "rate ": ("the token bucket 'tbf'", "CONFIG_NET_SCH_TBF", "modprobe sch_tbf"),
    "tap-switch": ("TAP devices", "CONFIG_TUN", "modprobe tun; in a container also --device /dev/net/tun"),
}


class Failure(Exception):
    pass


def run(command: list, text: str | None = None, env: dict | None = None) -> str:
    """Runs one command of the set-up, and says what is to be done if it fails."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, env=env)
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.strip().splitlines()
    raise Failure(explain(" ".join(command) + (": " + text.replace("\n", "; ") if text else ""), said))


def explain(command: str, said: list) -> str:
    message = f"{command}: {' | '.join(said) or 'failed without a word'}"
    lacking = any(lack in line for lack in LACKS for line in said)
    for part, (what, option, how) in KERNEL.items():
        if part in command and lacking:
            return f"{message}\nnetns: does the kernel have {what} ({option})? As root: {how}"
    return message


def until(ready, what: str) -> None:
    end = time.monotonic() + READY_SECONDS
    while not ready():
        if time.monotonic() > end:
            raise Failure(f"{what} did not happen within {READY_SECONDS:.0f} s")
        time.sleep(LOOK_SECONDS)


class Host:
    def __init__(self, number: int) -> None:
        self.name = f"h{number}"
        self.number = number
        self.address = f"10.8.0.{number}"
        self.address6 = f"fd08::{number:x}"
        self.mac = f"02:00:0a:08:00:{number:02x}"
        # A process that does nothing keeps the namespaces.
        keep = 'hostname "$0" && echo && exec sleep infinity'
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--uts", "sh", "-c", keep, self.name],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )

    def await_holder(self) -> None:
        if not self.holder.stdout.readline():
            raise Failure(f"no namespace for host {self.name}: see above for what unshare said")

    def run(self, command: list, text: str | None = None) -> str:
        enter = ["nsenter", "--target", str(self.holder.pid), "--net", "--uts", "--"]
        return run([*enter, *command], text)

    def configure(self, mtu: int, v6: bool) -> None:
        if v6:
            # No half minute of looking whether somebody has our address.
            self.run(["sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad"])
        lines = [
            "link set lo up",
            f"link set eth0 address {self.mac} mtu {mtu}",
            f"addr add {self.address}/24 brd + dev eth0",
            *([f"addr add {self.address6}/64 dev eth0 nodad"] if v6 else []),
            "link set eth0 up",
            "route add 224.0.0.0/4 dev eth0",
        ]
        self.run(["ip", "-batch", "-"], "\n".join(lines) + "\n")

    def separate_datagrams(self) -> None:
        """Else a send of many datagrams (UDP_SEGMENT) crosses as one, and is lost as one."""
        self.run(["ethtool", "-K", "eth0", "tx-udp-segmentation", "off"])

    def filters(self, percent: float, v6: bool) -> None:
        """The chain FAULTS sees all UDP and PGM that arrive; what it sends to LOST is counted there and dropped. Rule 1
        is the chance; `blackout` puts another before it."""
        for tables in ["iptables", "ip6tables"] if v6 else ["iptables"]:
            for rule in [
                "-N LOST", "-A LOST -j DROP", "-N FAULTS",
                f"-A FAULTS -m statistic --mode random --probability {percent / 100} -j LOST",
                "-A INPUT -i eth0 -p udp -j FAULTS", "-A INPUT -i eth0 -p 113 -j FAULTS",
            ]:
                self.run([tables, "--wait", *rule.split()])


def join_by_bridge(hosts: list, network: dict) -> None:
    lines = ["link set lo up", "link add br0 type bridge stp_state 0 mcast_snooping 0"]
    if network["snooping"]:
        # One by one and in this order: the interval counts from when there is a querier, with the value it has then.
        lines.append(f"link set br0 type bridge mcast_query_response_interval {QUERY_RESPONSE_CENTISECONDS}")
        lines.append("link set br0 type bridge mcast_snooping 1")
        lines.append("link set br0 type bridge mcast_querier 1")
    for host in hosts:
        lines.append(f"link add {host.name} mtu {network['mtu']} type veth peer name eth0 netns {host.holder.pid}")
        lines.append(f"link set {host.name} master br0")
        lines.append(f"link set {host.name} up")
    lines.append("link set br0 up")
    # One command each: a batch's errors do not say which device the kernel lacks.
    for line in lines:
        run(["ip", *line.split()])


def await_bridge(hosts: list, network: dict) -> None:
    def forwarding() -> bool:
        ports = json.loads(run(["bridge", "-json", "link"]))
        return sum(port.get("state") == "forwarding" for port in ports) == len(hosts)

    until(forwarding, "forwarding by the bridge")
    if network["snooping"]:
        time.sleep(QUERY_RESPONSE_CENTISECONDS / 100 * 2)


def join_by_switch(hosts: list, network: dict) -> subprocess.Popen:
    """The program makes a TAP device for each host and keeps its other end; the device itself goes to the host."""
    program, *options = network["switch"]
    names = [host.name for host in hosts]
    try:
        switch = subprocess.Popen([program, *options, *names], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True)
    except OSError as error:
        raise Failure(f"{program}: {error.strerror}") from error
    if switch.stdout.readline().strip() != "ready":
        raise Failure(explain(f"tap-switch {' '.join(options)}", switch.stderr.read().strip().splitlines()))
    for host in hosts:
        run(["ip", "link", "set", host.name, "netns", str(host.holder.pid), "name", "eth0"])
    return switch


def names(hosts: list, v6: bool) -> None:
    """Names are looked up in files alone: a name server would not be reached, and OpenPGM looks up even the names of
    interfaces, and the host's own. Seen only in this namespace of mounts."""
    table = ["127.0.0.1 localhost"]
    for host in hosts:
        table.append(f"{host.address} {host.name}")
        if v6:
            table.append(f"{host.address6} {host.name}-v6")
    with tempfile.TemporaryDirectory() as scratch:
        for target, text in ("/etc/hosts", "\n".join(table)), ("/etc/nsswitch.conf", "hosts: files"):
            if not os.path.exists(target):
                raise Failure(f"there is no {target}, which hosts here see another of: touch it")
            file = pathlib.Path(scratch) / "file"
            file.write_text(text + "\n")
            run(["mount", "--bind", str(file), target])
            file.unlink()  # The mount keeps it.


def await_carriers(hosts: list) -> None:
    for host in hosts:
        until(lambda: "LOWER_UP" in host.run(["ip", "link", "show", "eth0"]), f"a carrier on eth0 of {host.name}")


def build(network: dict) -> tuple:
    hosts = [Host(number) for number in range(1, network["hosts"] + 1)]
    v6 = os.path.exists("/proc/sys/net/ipv6")
    for host in hosts:
        host.await_holder()
    names(hosts, v6)
    switch = join_by_switch(hosts, network) if network["switch"] else join_by_bridge(hosts, network)
    for host in hosts:
        host.configure(network["mtu"], v6)
        if not switch:
            host.separate_datagrams()
        host.filters(network["loss"].get(host.name, 0), v6)
    await_carriers(hosts)
    if not switch:
        await_bridge(hosts, network)
    return hosts, switch


def environment(hosts: list) -> dict:
    return {
        **os.environ,
        "PATH": f"{PARTS / 'bin'}:{os.environ['PATH']}",
        "NETNS_HOSTS": " ".join(host.name for host in hosts),
        **{f"NETNS_PID_{host.name}": str(host.holder.pid) for host in hosts},
    }


def await_command(command: subprocess.Popen) -> int:
    """The command's exit code. Whatever else ends meanwhile is nobody's child but ours."""
    while True:
        pid, status = os.wait()
        if pid == command.pid:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code


def main() -> int:
    network = json.loads(sys.argv[1])
    try:
        hosts, switch = build(network)
        around = environment(hosts)
        for host, mbit in network["rate"].items():
            run([str(PARTS / "bin" / "rate"), host, f"{mbit:g}"], env=around)
        try:
            command = subprocess.Popen(sys.argv[2:], env=around)
        except OSError as error:
            print(f"netns: {sys.argv[2]}: {error.strerror}", file=sys.stderr)
            return 127 if isinstance(error, FileNotFoundError) else 126  # as the shell has them
    except Failure as failure:
        print(f"netns: {failure}", file=sys.stderr)
        return NOTHING_STARTED
    code = await_command(command)
    if network["packets"]:
        subprocess.run(["packets"], env=around, stdout=sys.stderr)
        if switch:
            # It says what it did when its input ends.
            print(switch.communicate()[0], end="", file=sys.stderr)
    return code


if __name__ == "__main__":
    # os._exit would do as well: what flushes is flushed, and the kernel does the rest.
    sys.exit(main())
