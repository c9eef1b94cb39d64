"""What a real systemd does with the units. Run by `systemd/tests/run`, as root, in a system of its own.

Every line is a check. What a person would do is done with systemctl; what a client would do, with
the Python client, as a user who may connect.
"""

import errno
import grp
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import traceback

sys.path.insert(0, "examples/python")
import objmapper  # noqa: E402

SOCKET = "/run/objmapper/objmapper.sock"
KEYS = "/run/objmapper/kv.sock"
CONFIG = "/etc/objmapper/objmapperd.toml"
UNIT = "objmapperd.service"
PATIENCE = 60  # seconds: beyond what a busy machine needs

failures = []


def check(what, holds, got=""):
    print(f"{'ok  ' if holds else 'FAIL'} {what}" + (f": {got}" if got != "" else ""), flush=True)
    if not holds:
        failures.append(what)


def run(*words, **more):
    return subprocess.run(words, capture_output=True, text=True, **more)


def must(*words, **more):
    done = run(*words, **more)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def shown(name):
    return must("systemctl", "show", "-P", name, UNIT)


def until(what, condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"waited in vain until {what}")
        time.sleep(0.02)


def as_user(name, work):
    """What `work` returns as this user, or the error it ends with, as text."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            uid, gid = ids(name)
            os.initgroups(name, gid)
            os.setgid(gid)
            os.setuid(uid)
            result = work()
        except BaseException as error:  # the other side prints it
            number = getattr(error, "errno", None)
            result = errno.errorcode.get(number, repr(error)) if number else repr(error)
        os.write(writing, str(result).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


def ids(name):
    entry = pwd.getpwnam(name)
    return entry.pw_uid, entry.pw_gid


def content(client, uri):
    fd = client.open(uri)
    try:
        return os.pread(fd, 1000, 0).decode().strip()
    finally:
        os.close(fd)


def read(uri):
    return content(objmapper.Client(SOCKET), uri)


def mount(uri, directory, rules='["group:objmapper-clients", "user:root"]'):
    os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/name", "w") as file:
        file.write(directory)
    return f'[[mount]]\nuri = "{uri}"\ndir = "{directory}"\nallow = {rules}\n'


def write_config(text):
    with open(CONFIG, "w") as file:
        file.write(text)


def drop_in(name, text):
    os.makedirs(f"/run/systemd/system/{UNIT}.d", exist_ok=True)
    with open(f"/run/systemd/system/{UNIT}.d/{name}.conf", "w") as file:
        file.write(text)
    must("systemctl", "daemon-reload")


def version():
    return int(re.search(r"systemd (\d+)", must("systemctl", "--version")).group(1))


def install():
    print(f"-- systemd {version()}: as systemd/README.md says")
    must("systemd-sysusers", "objmapperd.conf")
    must("systemd-tmpfiles", "--create", "objmapperd.conf")
    must("systemd-sysusers", "-", input="u alice -\nu mallory -\nm alice objmapper-clients\n")
    must("objmapperd", "--check-config")
    write_config(mount("/", "/srv/objmapper"))
    # A test starts a service more often than people do.
    drop_in("test", "[Unit]\nStartLimitIntervalSec=0\n")
    if version() < 253:
        os.makedirs(f"/etc/systemd/system/{UNIT}.d")
        source = "/usr/share/objmapperd/objmapperd-before-253.conf"
        shutil.copy(source, f"/etc/systemd/system/{UNIT}.d/before-253.conf")
        must("systemctl", "daemon-reload")
    must("systemctl", "enable", "--now", "objmapperd.socket")
    said = run("systemd-analyze", "verify", UNIT, "objmapperd.socket")
    text = (said.stdout + said.stderr).strip()
    expected = "service type, ignoring: notify-reload" if version() < 253 else ""
    strange = [line for line in text.splitlines() if not expected or expected not in line]
    check("systemd-analyze verify", said.returncode == 0 and not strange, "\n".join(strange) or "clean")
    security = must("systemd-analyze", "security", "--no-pager", UNIT).splitlines()[-1]
    check("systemd-analyze security", "SAFE" in security or "OK" in security, security.split("service:")[-1].strip())


def activation():
    print("-- activation, readiness, who may")
    check("before the first client", run("systemctl", "is-active", UNIT).stdout.strip() == "inactive")
    got = as_user("alice", lambda: read("/name"))
    check("the first client starts it and is served", got == "/srv/objmapper", got)
    check("it is active", shown("ActiveState") == "active")
    check("type", shown("Type") == ("notify" if version() < 253 else "notify-reload"), shown("Type"))
    check("status", shown("StatusText") == "Serving 1 mount", shown("StatusText"))
    got = as_user("mallory", lambda: read("/name"))
    check("who is not in the group", "EACCES" in got or "Permission" in got, got)
    with open(f"/proc/{shown('MainPID')}/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file)
    uid = str(ids("objmapper")[0])
    facts = [status["Uid"].split()[0] == uid, int(status["CapEff"], 16) == 0, status["NoNewPrivs"] == "1"]
    check("a user of its own, no capability, nothing to gain, filtered", all(facts) and status["Seccomp"] == "2")


def places():
    print("-- users and places")

    def look(path):
        found = os.stat(path)
        owner, group = pwd.getpwuid(found.st_uid).pw_name, grp.getgrgid(found.st_gid).gr_name
        return f"{stat.filemode(found.st_mode)} {owner}:{group}"

    for path, expected in [
        ("/run/objmapper", "drwxr-xr-x root:root"),
        (SOCKET, "srw-rw---- root:objmapper-clients"),
        ("/srv/objmapper", "drwxr-xr-x root:root"),
    ]:
        check(path, look(path) == expected, look(path))
    user = pwd.getpwnam("objmapper")
    groups = sorted(grp.getgrgid(gid).gr_name for gid in os.getgrouplist("objmapper", user.pw_gid))
    check("the daemon's user logs in nowhere", user.pw_shell.endswith("nologin"), user.pw_shell)
    check("and is no client", groups == ["objmapper"], groups)
    done = run("systemd-tmpfiles", "--create", "objmapperd.conf")
    again = run("systemd-sysusers", "objmapperd.conf")
    said = done.stderr + again.stderr
    check("a second time changes nothing", done.returncode + again.returncode == 0, said.strip())


class Sharing(objmapper.Client):
    """Says with each GET that a shared descriptor will do."""

    def _send(self, op, payload):
        if op != objmapper.GET:
            return super()._send(op, payload)
        self.id += 1
        shared = 4
        head = objmapper.HEADER.pack(len(payload), op, shared, 0, self.id)
        self.socket.sendall(head + payload)


def shared():
    print("-- files that are kept open and shared")
    with open("/srv/objmapper/kept", "w") as file:
        file.write("old")
    write_config(mount("/", "/srv/objmapper") + "shared = true\n")
    must("systemctl", "reload", UNIT)
    clients = [Sharing(SOCKET), Sharing(SOCKET)]

    def have_one_position():
        one, two = [client.open("/kept") for client in clients]
        os.lseek(one, 2, os.SEEK_SET)
        position = os.lseek(two, 0, os.SEEK_CUR)
        os.close(one)
        os.close(two)
        return position == 2

    # One that was written a moment ago is not shared yet.
    until("two clients have one description", have_one_position)

    def reopen():
        os.open(f"/proc/self/fd/{Sharing(SOCKET).open('/kept')}", os.O_RDWR)
        return "opened for writing"

    os.chmod("/srv/objmapper/kept", 0o666)
    until("it is old enough again", have_one_position)
    got = as_user("alice", reopen)
    check("alice, through a shared one", got == "EROFS", got)
    with open("/srv/objmapper/new", "w") as file:
        file.write("new")
    os.rename("/srv/objmapper/new", "/srv/objmapper/kept")
    got = content(clients[0], "/kept")
    check("a file renamed over it is seen at once", got == "new", got)
    until("it is old enough again", have_one_position)
    done = run("objmapper", "--socket", SOCKET, "flush", "/")
    check("flush", done.stdout == "1 shared file closed\n", (done.stdout + done.stderr).strip())


def read_only():
    print("-- a descriptor that was received cannot be reopened for writing")
    path = "/srv/objmapper/open"
    with open(path, "w") as file:
        file.write("anybody may write here")
    os.chmod(path, 0o666)

    def reopen():
        fd = objmapper.Client(SOCKET).open("/open")
        os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
        return "opened for writing"

    def by_path():
        os.close(os.open(path, os.O_RDWR))
        return "opened for writing"

    for user in ["alice", "root"]:
        got = as_user(user, reopen)
        check(f"{user}, through the descriptor", got == "EROFS", got)
    got = as_user("alice", by_path)
    check("alice, by its name: the file itself would let her", got == "opened for writing", got)


def reload():
    print("-- reload under a client that stays connected")
    client = objmapper.Client(SOCKET)
    pid = shown("MainPID")
    check("before", content(client, "/name") == "/srv/objmapper")
    more = mount("/", "/srv/objmapper") + mount("/more", "/srv/more")
    write_config(more)
    done = run("systemctl", "reload", UNIT)
    check("systemctl reload", done.returncode == 0, done.stderr.strip())
    if version() < 253:
        # It may end before the reload does.
        until("it is reloaded", lambda: shown("StatusText") == "Serving 2 mounts")
    check("status", shown("StatusText") == "Serving 2 mounts", shown("StatusText"))
    check("the same connection sees the new mount", content(client, "/more/name") == "/srv/more")
    check("the same process", shown("MainPID") == pid)

    write_config(more + "[pool]\nworkrs = 3\n")
    run("systemctl", "reload", UNIT)
    until("it says why", lambda: "not reloaded" in shown("StatusText"))
    check("a mistake is told", "workrs" in shown("StatusText"), shown("StatusText"))
    check("and changes nothing", content(client, "/more/name") == "/srv/more")
    check("it is active", shown("ActiveState") == "active", shown("SubState"))

    write_config(mount("/", "/srv/objmapper", '["user:root"]'))
    run("systemctl", "reload", UNIT)
    until("it is reloaded", lambda: shown("StatusText") == "Serving 1 mount")
    got = as_user("alice", lambda: read("/name"))
    check("new rules", "no rule of this mount allows uid" in got, got)
    write_config(mount("/", "/srv/objmapper"))
    run("systemctl", "reload", UNIT)
    until("it is reloaded", lambda: as_user("alice", lambda: read("/name")) == "/srv/objmapper")


def watchdog():
    print("-- watchdog")
    drop_in("watchdog", "[Service]\nWatchdogSec=1s\n")
    must("systemctl", "restart", UNIT)
    seen = {shown("WatchdogTimestampMonotonic")}

    def often():
        seen.add(shown("WatchdogTimestampMonotonic"))
        return len(seen) >= 5

    until("it has shown life often enough", often)
    check("idle, it shows that it lives", shown("NRestarts") == "0", f"{len(seen)} times seen")
    pid = int(shown("MainPID"))
    os.kill(pid, signal.SIGSTOP)
    until("it is started again", lambda: shown("NRestarts") == "1" and shown("ActiveState") == "active")
    check("stopped dead, it is replaced", int(shown("MainPID")) != pid)
    check("and answers", read("/name") == "/srv/objmapper")
    journal = must("journalctl", "-u", UNIT, "-o", "cat", "--no-pager")
    check("the journal knows why", "Watchdog timeout" in journal)
    os.remove(f"/run/systemd/system/{UNIT}.d/watchdog.conf")
    must("systemctl", "daemon-reload")


def restart():
    print("-- restart: nobody is refused")
    restarting = subprocess.Popen(["systemctl", "restart", UNIT])
    answers = 0
    while restarting.poll() is None or answers < 20:
        try:
            answers += read("/name") == "/srv/objmapper"
        except (ConnectionRefusedError, FileNotFoundError) as error:
            check("a connection during the restart", False, repr(error))
            return
        except ConnectionError:
            pass  # let in before the stop, and told to come again
    check("answered meanwhile and after", restarting.returncode == 0, answers)
    must("systemctl", "stop", UNIT)
    check("stopped cleanly", shown("Result") == "success", shown("Result"))
    check("the next client starts it", read("/name") == "/srv/objmapper")


def command(*words):
    """A command of Redis, and the beginning of its answer."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(KEYS)
        peer.sendall((" ".join(words) + "\r\n").encode())
        return peer.recv(4096).decode().strip()


def keys():
    print("-- keys: a second socket")
    must("systemctl", "stop", UNIT)
    must("systemctl", "enable", "--now", "objmapperd-kv.socket")
    said = run("systemd-analyze", "verify", "objmapperd-kv.socket")
    check("systemd-analyze verify", said.returncode == 0, (said.stdout + said.stderr).strip() or "clean")
    check("a client of Redis starts the daemon", command("SET", "a", "1") == "+OK")
    check("and objects are there too", read("/name") == "/srv/objmapper")
    said = as_user("alice", lambda: command("GET", "a"))
    check("who may connect and is not named is nobody", said.startswith("-NOAUTH"), said)
    check("who may not connect does not", as_user("mallory", lambda: command("PING")) == "EACCES")
    write_config(mount("/", "/srv/objmapper") + '[kv]\nallow = ["group:objmapper-clients"]\n')
    must("systemctl", "restart", UNIT)
    check("who is named is in", as_user("alice", lambda: command("PING")) == "+PONG")
    # As the README says.
    drop_in("state", "[Service]\nStateDirectory=objmapper\n")
    write_config(mount("/", "/srv/objmapper") + '[kv]\ndir = "/var/lib/objmapper/kv"\nsync = "always"\n')
    must("systemctl", "restart", UNIT)
    check("keys go to disk", command("SET", "a", "2") == "+OK")
    must("systemctl", "restart", UNIT)
    got = command("GET", "a")
    check("and come back", got == "$1\r\n2", got)
    must("systemctl", "disable", "--now", "objmapperd-kv.socket")
    must("systemctl", "stop", UNIT)


try:
    for part in [install, activation, places, read_only, shared, reload, watchdog, restart, keys]:
        part()
except Exception:
    traceback.print_exc()
    failures.append("an error")
if failures:
    print(must("journalctl", "-u", UNIT, "--no-pager", "-n", "60"))
    sys.exit(f"{len(failures)} of these failed: {', '.join(failures)}")
print("all as it should be")
