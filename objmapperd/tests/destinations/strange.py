"""Passes descriptors of every kind that no destination is, over its standard input (a Unix socket):
with each its name and a part of the reason. When that is told, looks whether anything was done to
them, and ends with 0 if not.
"""

import array
import ctypes
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import sys
import tempfile
import termios

libc = ctypes.CDLL(None, use_errno=True)
link = socket.socket(fileno=0)
place = tempfile.TemporaryDirectory()
kept = []  # (name, descriptor, what is still true of it)
NEITHER = "neither a pipe nor a socket"


def called(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "not here")
    return result


def system_call(number, *arguments):
    """By number, where that is the same everywhere (since 5.0) or known."""
    return called(libc.syscall(number, *arguments))


def give(name, why, opened, untouched=lambda fd: True):
    """What this machine has not, or does not let anybody pass, is left out, and said."""
    try:
        fd = opened() if callable(opened) else opened
        rights = array.array("i", [fd if isinstance(fd, int) else fd.fileno()])
        link.sendmsg([f"{name}\t{why}".encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    except (OSError, AttributeError) as error:
        print(f"left out: {name}: {error}", file=sys.stderr)
        return
    kept.append((name, fd, untouched))


def nothing_to_read(fd):
    fd = fd if isinstance(fd, int) else fd.fileno()
    return not select.select([fd], [], [], 0)[0]


def other_got_nothing(other):
    return lambda _: nothing_to_read(other)


def named(name):
    return os.path.join(place.name, name)


def at_three(content):
    """A file of this content, at position 3."""

    def untouched(fd):
        return os.lseek(fd, 0, os.SEEK_CUR) == 3 and os.pread(fd, 100, 0) == content

    return untouched


def file_at_three(fd, content):
    os.write(fd, content)
    os.lseek(fd, 3, os.SEEK_SET)
    return fd


def holds(count):
    return lambda fd: struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0] == count


def events():
    # A counter at 7.
    give("eventfd", NEITHER, lambda: called(libc.eventfd(7, os.O_NONBLOCK)),
         lambda fd: struct.unpack("Q", os.read(fd, 8))[0] == 7)
    give("timerfd", NEITHER, lambda: called(libc.timerfd_create(1, os.O_NONBLOCK)), nothing_to_read)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    mask = struct.pack("Q", 1 << (signal.SIGUSR1 - 1))
    give("signalfd", NEITHER, lambda: called(libc.signalfd(-1, mask, os.O_NONBLOCK)), nothing_to_read)
    give("inotify", NEITHER, lambda: called(libc.inotify_init1(os.O_NONBLOCK)), nothing_to_read)
    give("fanotify", NEITHER, lambda: called(libc.fanotify_init(2, 0)), nothing_to_read)
    epoll = select.epoll()
    out, into = os.pipe()
    epoll.register(out, select.EPOLLIN)
    give("epoll", NEITHER, epoll, lambda epoll: epoll.poll(0) == [] and into)
    give("io_uring", NEITHER, lambda: system_call(425, 4, ctypes.create_string_buffer(120)))
    number = {"x86_64": 323, "aarch64": 282}.get(platform.machine(), -1)
    give("userfaultfd", NEITHER, lambda: system_call(number, 0))



def handles():
    # Which of these count as regular files depends on the kernel.
    give("pidfd", "it is ", lambda: os.pidfd_open(os.getpid()))
    give("namespace", "it is ", lambda: os.open("/proc/self/ns/net", os.O_RDONLY))
    give("file system", NEITHER, lambda: system_call(430, b"tmpfs", 0))
    give("directory", "a directory", lambda: os.open(place.name, os.O_RDONLY),
         lambda fd: "new" not in os.listdir(fd))
    for what, path in [("directory", place.name), ("device", "/dev/null")]:
        give(f"O_PATH of a {what}", "O_PATH", lambda: os.open(path, os.O_PATH))
    os.mkfifo(named("path"))
    give("O_PATH of a FIFO", "O_PATH", lambda: os.open(named("path"), os.O_PATH))


def files():
    file = os.open(named("file"), os.O_RDWR | os.O_CREAT)
    give("file", "regular file", file_at_three(file, b"before"), at_three(b"before"))
    appending = os.open(named("appending"), os.O_RDWR | os.O_CREAT | os.O_APPEND)
    give("file to append to", "regular file", file_at_three(appending, b"before"), at_three(b"before"))
    memory = os.memfd_create("memory")
    give("memfd", "regular file", file_at_three(memory, b"before"), at_three(b"before"))
    give("memory of a process", "regular file", lambda: os.open("/proc/self/mem", os.O_RDWR))
    for device in ("null", "zero", "full", "fuse"):
        give(device, NEITHER, lambda: os.open(f"/dev/{device}", os.O_RDWR))
    master, slave = os.openpty()
    give("terminal", NEITHER, slave, other_got_nothing(master))
    master, slave = os.openpty()
    give("terminal's master", NEITHER, master, other_got_nothing(slave))


def ends():
    out, into = os.pipe()
    os.write(into, b"abc")
    give("reading end of a pipe", "reading end", out, holds(3))
    os.mkfifo(named("fifo"))
    fifo = os.open(named("fifo"), os.O_RDONLY | os.O_NONBLOCK)
    kept.append(("writer", os.open(named("fifo"), os.O_WRONLY), lambda _: True))
    os.write(kept[-1][1], b"abc")
    give("reading end of a FIFO", "reading end", fifo, holds(3))


def sockets():
    unix, inet, inet6 = socket.AF_UNIX, socket.AF_INET, socket.AF_INET6
    for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        one, other = socket.socketpair(unix, kind)
        give(f"pair, {kind.name}", "not a stream socket", one, other_got_nothing(other))
    receiver = socket.socket(inet, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    sender = socket.socket(inet, socket.SOCK_DGRAM)
    sender.connect(receiver.getsockname())
    give("UDP, connected", "not a stream socket", sender, other_got_nothing(receiver))
    give("UDP", "not a stream socket", socket.socket(inet, socket.SOCK_DGRAM))
    for family, kind in [("AF_NETLINK", socket.SOCK_RAW), ("AF_PACKET", socket.SOCK_RAW),
                         ("AF_ALG", socket.SOCK_SEQPACKET), ("AF_CAN", socket.SOCK_RAW)]:
        give(family, "not a stream socket", lambda: socket.socket(getattr(socket, family), kind))
    give("AF_VSOCK", "neither a Unix nor an internet", lambda: socket.socket(socket.AF_VSOCK))
    for family, address in [(unix, named("listening")), (inet, ("127.0.0.1", 0)), (inet6, ("::1", 0))]:
        try:
            server = socket.socket(family)
            server.bind(address)
        except OSError:
            continue
        server.listen()
        give(f"listening, {family.name}", "listening", server, nothing_to_read)
    for family in (unix, inet, inet6):
        give(f"unconnected, {family.name}", "not connected", lambda: socket.socket(family))
    bound = socket.socket(unix)
    bound.bind(named("bound"))
    give("bound, not listening", "not connected", bound)


for some in (events, handles, files, ends, sockets):
    some()
link.shutdown(socket.SHUT_WR)
link.recv(1)
changed = [name for name, fd, untouched in kept if not untouched(fd)]
sys.exit(f"something was done to {changed}" if changed else 0)
