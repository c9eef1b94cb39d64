#!/usr/bin/env python3
"""A client of objmapper with nothing but the standard library, Python 3.9 or later.

    client = Client()                           # or Client("/run/objmapper/objmapper.sock")
    fd = client.open("/models/a.gguf")          # yours to close; read-only, close-on-exec
    body = client.read("/etc/small.json")
    results = client.open_many(["/a", "/b"])    # for each a descriptor or a Refused (at most 4096
                                                # URIs and 256 KiB)

Written from proto/PROTOCOL.md, whose sections are quoted as (4). A Refused is the daemon's no;
the connection goes on. Every other exception ends it and closes what has no owner yet. One
thread at a time. URIs are ASCII as (7) says: quote(os.fsencode(path), safe=...) makes them.

    python3 objmapper.py SOCKET URI...

prints for each URI "fdpass SIZE SHA256 URI" and "copy SIZE SHA256 URI"; the descriptors come by
GET_MANY if there are several URIs. It exits with 1, and the reason, at the first refusal.
"""
import array, hashlib, os, socket, struct, sys

HEADER = struct.Struct("<IBBHQ")  # length, op, flags, fds, id (3)
ITEM = struct.Struct("<HxBxxH40xQ4xI")  # status, delivery, text_length, length, inline_length (9)
HELLO, GET, GET_MANY, REPLY = 0x01, 0x02, 0x03, 0x80  # their answers have the bit REPLY
DATA, END, ERROR = 0x84, 0x85, 0x8F
FDPASS, COPY = 1, 2
DESCRIPTOR, INLINE, STREAM = 1, 2, 3


NAMES = {  # of statuses (14)
    0x0101: "BAD_URI", 0x0102: "NOT_FOUND", 0x0103: "DENIED", 0x0104: "NOT_REGULAR",
    0x0105: "BAD_RANGE", 0x0106: "UNSUPPORTED", 0x0107: "BAD_REQUEST", 0x0108: "ESCAPE",
    0x0109: "TOO_LARGE", 0x010A: "BAD_DESTINATION",
    0x010B: "DESTINATION_GONE", 0x010C: "DESTINATION_STALLED", 0x0201: "BUSY", 0x0202: "IO", 0x0203: "CHANGED", 0x0204: "STOPPING",
    0x0301: "BAD_MAGIC", 0x0302: "BAD_VERSION", 0x0303: "BAD_FRAME", 0x0304: "FRAME_TOO_LARGE",
    0x0305: "UNEXPECTED_DESCRIPTOR", 0x0306: "HELLO_EXPECTED",
}


class Refused(Exception):
    """The daemon's no: the number of its status (14), and what it says to do about it."""

    def __init__(self, status, text=""):
        super().__init__(status, text)
        self.status, self.text = status, text

    def __str__(self):
        name = NAMES.get(self.status, "status 0x%04x" % self.status)
        return name + ": " + self.text if self.text else name


def check(sound, text="the daemon broke the protocol"):
    if not sound:
        raise ConnectionError(text)


class Client:
    def __init__(self, path=None):
        own = os.path.join(os.environ.get("XDG_RUNTIME_DIR") or "/nowhere", "objmapper.sock")
        usual = own if os.path.exists(own) else "/run/objmapper/objmapper.sock"
        path = path or os.environ.get("OBJMAPPER_SOCKET") or usual
        self.id, self.buffer, self.fds = 0, b"", []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect("\0" + path[1:] if path[0] == "@" else path)
        self._send(HELLO, struct.pack("<4sHHQIIH6x", b"OBJM", 1, 1, 0, 524288, 0, 253))
        check(self._frame(HELLO | REPLY)[1][:6] == b"OBJM\1\0")

    def open(self, uri):
        return self._one(uri, FDPASS, [DESCRIPTOR])

    def read(self, uri):
        return self._one(uri, COPY, [INLINE, STREAM])

    def open_many(self, uris):
        names = [struct.pack("<H", len(uri)) + uri.encode("ascii") for uri in uris]
        head = struct.pack("<BBHI", FDPASS, 0, len(names), 0)
        return self._ask(GET_MANY, head + b"".join(names), len(names), [DESCRIPTOR])

    def close(self):
        self.socket.close()
        while self.fds:
            os.close(self.fds.pop())

    def _one(self, uri, mode, forms):
        head = struct.pack("<BBHIQQ", mode, 0, len(uri), 0, 0, 2**64 - 1)
        [result] = self._ask(GET, head + uri.encode("ascii"), 1, forms)
        if isinstance(result, Refused):
            raise result
        return result

    def _ask(self, op, payload, count, forms):
        """The results of a GET or GET_MANY, in order."""
        results = []
        try:
            self._send(op, payload)
            while len(results) < count:
                _, reply, fds = self._frame(op | REPLY)
                items = reply if op == GET else reply[8:]
                check(items and (op == GET or reply[:4] == struct.pack("<I", len(results))))
                while items:
                    status, form, text, length, inline = ITEM.unpack_from(items)
                    text, inline = 64 + text, 64 + text + inline  # where they end
                    check(inline <= len(items) and (status or form in forms))
                    check(inline - text == (length if form == INLINE else 0))
                    if status:
                        results.append(Refused(status, items[64:text].decode(errors="replace")))
                    elif form == DESCRIPTOR:
                        results.append(self.fds.pop(0))
                        fds -= 1
                    elif form == INLINE:
                        results.append(items[text:inline])
                    else:  # the body follows, and it is the last item here (11)
                        check(inline == len(items))
                        results.append(self._body(length))
                    items = items[inline:]
                check(fds == 0 and len(results) <= count)
        except Refused as no:  # an ERROR answers all that has not come yet (11)
            results += [no] * (count - len(results))
        except BaseException:
            self.fds += [result for result in results if isinstance(result, int)]
            self.close()
            raise
        return results

    def _body(self, announced):
        body = bytearray()
        while True:
            op, piece, _ = self._frame(DATA, END)
            if op == END:
                status, length = struct.unpack_from("<H6xQ", piece)
                check(length == len(body) and (status or length == announced))
                no = Refused(status, piece[16:].decode(errors="replace"))
                return no if status else bytes(body)
            body += piece

    def _send(self, op, payload):
        check(not self.fds, "descriptors came that no frame declares")
        self.id += 1
        self.socket.sendall(HEADER.pack(len(payload), op, 0, 0, self.id) + payload)

    def _frame(self, *ops):
        """Op, payload and number of descriptors of the next frame, which must be one of `ops`."""
        length, op, flags, fds, id = HEADER.unpack(self._receive(16))
        check(length <= 524288)
        payload = self._receive(length)
        if op == ERROR:  # with id 0 it ends the connection (14)
            no = struct.unpack_from("<H", payload)[0], payload[8:].decode(errors="replace")
            raise Refused(*no) if id == self.id else ConnectionError(str(Refused(*no)))
        check(op in ops and flags == 0 and id == self.id and fds <= len(self.fds))
        return op, payload, fds

    def _receive(self, size):
        """So many bytes; the descriptors that come with them go to the queue (4)."""
        while len(self.buffer) < size:
            room = socket.CMSG_SPACE(253 * 4)
            data, control, flags, _ = self.socket.recvmsg(65536, room, socket.MSG_CMSG_CLOEXEC)
            for level, kind, content in control:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    self.fds.extend(array.array("i", content))
            check(not flags & socket.MSG_CTRUNC, "descriptors were lost: too many open files?")
            check(data, "the daemon closed the connection")
            self.buffer += data
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken


def main(path, *uris):
    client = Client(path)
    opened = client.open_many(uris) if len(uris) > 1 else [client.open(uris[0])]
    for uri, fd in zip(uris, opened):
        if isinstance(fd, Refused):
            raise fd
        with open(fd, "rb") as file:
            for way, body in ("fdpass", file.read()), ("copy", client.read(uri)):
                print(way, len(body), hashlib.sha256(body).hexdigest(), uri)
    client.close()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: objmapper.py SOCKET URI...")
    try:
        main(*sys.argv[1:])
    except (Refused, OSError) as no:
        sys.exit("objmapper.py: %s" % no)
