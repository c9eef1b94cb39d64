"""A file system of a few files that hangs where it is told to, and a program that sees it.

    fuse.py DIR RELEASE PROGRAM [ARGUMENT]...

Mounts it at DIR in a mount namespace of its own and becomes PROGRAM; a child answers for the
file system and dies with it. Files are NAME: each has SIZE bytes of a pattern. The first open of
"hang-open", read of "hang-read" and flush of "hang-flush", and all that follow, are answered only
when the file RELEASE exists. Status 77: it cannot be mounted here. Protocol: fuse(4),
include/uapi/linux/fuse.h, version 7.31.
"""
import ctypes, errno, os, select, signal, stat, struct, sys

SIZE = 700_000
NAMES = ["plain", "hang-open", "hang-read", "hang-flush"]
CONTENT = (b"0123456789abcde" * (SIZE // 15 + 1))[:SIZE]
LONG = 3600  # seconds that names and attributes stay valid

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE = 1, 2, 3, 14, 15, 17, 18
FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, INTERRUPT, BATCH_FORGET = 25, 26, 27, 28, 29, 36, 42
HANGS = {OPEN: "hang-open", READ: "hang-read", FLUSH: "hang-flush"}


def attributes(node):
    directory = node == 1
    mode = stat.S_IFDIR | 0o755 if directory else stat.S_IFREG | 0o644
    size = 0 if directory else SIZE
    return struct.pack("<6Q10I", node, size, (size + 511) // 512, 1, 1, 1,
                       1, 1, 1, mode, 1, 0, 0, 0, 4096, 0)


def answer(op, node, body):
    if op == INIT:
        return struct.pack("<4I2H2I2H8I", 7, 31, 1 << 17, 0, 12, 9, 1 << 17, 1, 32, 0, *[0] * 8)
    if op == LOOKUP:
        name = body.rstrip(b"\0").decode(errors="replace")
        if name not in NAMES:
            return -errno.ENOENT
        node = NAMES.index(name) + 2
        return struct.pack("<4Q2I", node, 0, LONG, LONG, 0, 0) + attributes(node)
    if op == GETATTR:
        return struct.pack("<Q2I", LONG, 0, 0) + attributes(node)
    if op in (OPEN, OPENDIR):
        return struct.pack("<Q2I", 0, 0, 0)
    if op == READ:
        _, offset, size = struct.unpack_from("<2QI", body)
        return CONTENT[offset:offset + size]
    if op == READDIR:
        _, offset, _ = struct.unpack_from("<2QI", body)
        out = b""
        for at, name in enumerate(NAMES[offset:], offset + 1):
            entry = struct.pack("<2Q2I", at + 1, at, len(name), 8) + name.encode()
            out += entry + bytes(-len(entry) % 8)
        return out
    if op == STATFS:
        return struct.pack("<5Q4I6I", 0, 0, 0, 4, 0, 4096, 255, 4096, 0, *[0] * 6)
    if op in (FLUSH, RELEASE, RELEASEDIR):
        return b""
    return -errno.ENOSYS


def reply(device, unique, result):
    error, payload = (result, b"") if isinstance(result, int) else (0, result)
    try:
        os.write(device, struct.pack("<IiQ", 16 + len(payload), error, unique) + payload)
    except OSError as failed:
        if failed.errno != errno.ENOENT:  # whoever asked was interrupted meanwhile
            raise


def serve(device, release):
    parked = []
    while True:
        ready, _, _ = select.select([device], [], [], 0.01)
        if parked and os.path.exists(release):
            for unique, result in parked:
                reply(device, unique, result)
            parked = []
        if not ready:
            continue
        try:
            request = os.read(device, 1 << 18)
        except OSError as failed:
            if failed.errno == errno.ENODEV:  # unmounted
                return
            if failed.errno in (errno.ENOENT, errno.EINTR):
                continue
            raise
        _, op, unique, node = struct.unpack_from("<2I2Q", request)
        if op in (FORGET, BATCH_FORGET, INTERRUPT):
            continue
        result = answer(op, node, request[40:])
        name = NAMES[node - 2] if node >= 2 else ""
        if HANGS.get(op) == name and not os.path.exists(release):
            parked.append((unique, result))
        else:
            reply(device, unique, result)


def main():
    directory, release, *program = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)

    def call(done):
        if done != 0:
            print("fuse.py:", os.strerror(ctypes.get_errno()), file=sys.stderr)
            sys.exit(77)

    CLONE_NEWNS, MS_REC, MS_PRIVATE, MS_NOSUID_NODEV, PR_SET_PDEATHSIG = 0x20000, 0x4000, 1 << 18, 6, 1
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError as failed:
        print("fuse.py:", failed, file=sys.stderr)
        sys.exit(77)
    call(libc.unshare(CLONE_NEWNS))
    call(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    call(libc.mount(b"hangs", directory.encode(), b"fuse", MS_NOSUID_NODEV, options.encode()))
    parent = os.getpid()
    if os.fork() == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            serve(device, release)
        os._exit(0)
    os.execv(program[0], program)


main()
