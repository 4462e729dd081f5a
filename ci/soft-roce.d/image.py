#!/usr/bin/python3
"""Makes what QEMU boots: the kernel as a plain ELF file, and an initramfs of busybox, a few modules and our init.

  image.py kernel VMLINUZ OUTPUT
  image.py initramfs KERNEL_ROOT BUSYBOX INIT OUTPUT    KERNEL_ROOT holds one lib/modules/VERSION with a modules.dep

Runs on the host, touches nothing but OUTPUT. Knows no QEMU option and no test.
"""

import lzma
import os
import pathlib
import stat
import struct
import subprocess
import sys
import zlib

# What the guest needs before it can load a module by itself, and the RDMA stack. In modprobe's names; the order is
# kept, and modprobe adds what each of them needs.
MODULES = [
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "overlay",
    "veth",
    "crc32_generic",
    "rdma_rxe",
    "ib_uverbs",
    "ib_umad",
    "rdma_ucm",
]
# rdma_rxe asks for crc32 by name when a device is added. Kernels from 6.14 on have no module for it.
OPTIONAL = {"crc32_generic"}


def plain_kernel(image: bytes) -> bytes:
    """The ELF file inside a bzImage. QEMU starts it by its PVH note, so that the emulated CPU need not decompress it.

    Layout: Documentation/arch/x86/boot.rst, protocol 2.08 (payload_offset, payload_length).
    """
    if image[0x202:0x206] != b"HdrS":
        raise ValueError("not a Linux bzImage")
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start : start + length]
    if payload.startswith(b"\xfd7zXZ\x00"):
        elf = lzma.LZMADecompressor().decompress(payload)
    elif payload.startswith(b"\x1f\x8b"):
        elf = zlib.decompressobj(wbits=31).decompress(payload)
    elif payload.startswith(b"\x28\xb5\x2f\xfd"):
        # The last four bytes are the uncompressed size, which zstd takes for the start of another frame.
        elf = subprocess.run(["zstd", "-dc"], input=payload[:-4], stdout=subprocess.PIPE, check=True).stdout
    else:
        raise ValueError(f"the kernel's compression is not known: its payload starts with {payload[:6].hex()}")
    if not elf.startswith(b"\x7fELF"):
        raise ValueError("the kernel's payload is no ELF file")
    return elf


def module_files(kernel_root: pathlib.Path) -> list[pathlib.Path]:
    """The files of MODULES and of what they depend on, in the order in which to load them."""
    version = next((kernel_root / "lib/modules").iterdir()).name
    files: list[pathlib.Path] = []
    for name in MODULES:
        listing = subprocess.run(
            ["modprobe", "--dirname", str(kernel_root), "--set-version", version, "--show-depends", name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"},
        )
        if listing.returncode != 0 and name not in OPTIONAL:
            raise ValueError(f"kernel {version} has no module {name}: {listing.stderr.strip()}")
        for line in listing.stdout.splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "insmod" and (file := pathlib.Path(rest.split()[0])) not in files:
                files.append(file)
    return files


def module_bytes(file: pathlib.Path) -> bytes:
    data = file.read_bytes()
    return lzma.decompress(data) if file.suffix == ".xz" else data


def archive(entries: list[tuple[str, int, bytes]]) -> bytes:
    """A cpio archive in the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    out = bytearray()
    for inode, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
        path = name.encode() + b"\0"
        # inode, mode, uid, gid, links, mtime, size, four device numbers, length of the name, checksum (unused).
        fields = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0]
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + path
        out += b"\0" * (-len(out) % 4)
        out += data
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


def initramfs(kernel_root: pathlib.Path, busybox: pathlib.Path, init: pathlib.Path) -> bytes:
    directories = ["bin", "dev", "modules", "proc", "lower", "upper", "root"]
    entries = [(name, stat.S_IFDIR | 0o755, b"") for name in directories]
    entries.append(("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes()))
    entries.append(("init", stat.S_IFREG | 0o755, init.read_bytes()))
    for place, file in enumerate(module_files(kernel_root)):
        name = f"modules/{place:02}-{file.name.removesuffix('.xz')}"
        entries.append((name, stat.S_IFREG | 0o644, module_bytes(file)))
    # Not compressed: the emulated CPU would have to undo it.
    return archive(entries)


def main() -> None:
    match sys.argv[1:]:
        case ["kernel", vmlinuz, output]:
            made = plain_kernel(pathlib.Path(vmlinuz).read_bytes())
        case ["initramfs", kernel_root, busybox, init, output]:
            made = initramfs(pathlib.Path(kernel_root), pathlib.Path(busybox), pathlib.Path(init))
        case _:
            sys.exit(__doc__)
    # A name of its own first, so that an interrupted run leaves no half file under the final one.
    unfinished = pathlib.Path(f"{output}.{os.getpid()}")
    unfinished.write_bytes(made)
    unfinished.rename(output)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"soft-roce: cannot make the guest's image: {error}")
