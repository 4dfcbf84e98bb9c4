"""Runs inside Blender, from a text block of a hostile scene: does what a frame must not.

Which attack, and what it aims at, stands in the first line of the order's script, which lies in the renderer's folder::

    # attack: {"name": "look", "files": [...], ...}

Python of Blender 2.80 to 5.x; the standard library and nothing of ours. What an attack found is printed as one line,
``attack found: {...}``, which a failed frame's log holds.
"""

import contextlib
import ctypes
import glob
import json
import os
import socket
import sys
import time

HOME = os.environ["HOME"]
LIBC = ctypes.CDLL(None, use_errno=True)
#: Bits of ``unshare``. A user's own namespace comes with all rights in those that are made with it.
NAMESPACES = {"user": 0x10000000, "user and network": 0x50000000, "network": 0x40000000, "mount": 0x00020000}
#: However the sandbox fails, an attack of these tests ends.
GIVES_UP_S = 25


def tried(step, *arguments):
    """What came of a step: ``"done"`` with its value, or the name of the error."""
    try:
        return ["done", step(*arguments)]
    except BaseException as error:
        return ["refused", type(error).__name__]


def look(told):
    """Reads what is others', connects to the farm, and writes outside."""
    found = {"files": {path: tried(read, path) for path in told["files"]}}
    found["folders"] = {path: tried(os.listdir, path) for path in told["folders"]}
    found["writes"] = {path: tried(write, path) for path in told["writes"]}
    found["ports"] = {str(port): tried(connect, port) for port in told["ports"]}
    found["udp"] = tried(send, told["ports"][0])
    found["netlink"] = tried(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW)[0]
    everybody = {*processes(), os.getppid(), told["worker"], *told["others"]}
    found["environments"] = [text for text in map(environ_of, everybody) if told["secret"] in text]
    found["signal"] = tried(os.kill, told["worker"], 0)
    found["memory"] = tried(read, "/proc/%d/mem" % told["worker"])
    found["linked"] = tried(os.link, told["files"][-1], os.path.join(HOME, "second name"))
    found["variables"] = sorted(os.environ)
    found["sockets"] = {repr(name): tried(connect_local, name) for name in told["sockets"]}
    # The last: what follows would be in the new ones.
    found["namespaces"] = {"of the worker": tried(enter, "/proc/%d/ns/net" % told["worker"])}
    for name, flags in NAMESPACES.items():
        found["namespaces"][name] = tried(unshare, flags)
    print("attack found: " + json.dumps(found, default=str), flush=True)
    os._exit(3)


def read(path):
    with open(path, "rb") as file:
        return file.read(100).decode("latin-1")


def write(path):
    with open(path, "wb") as file:
        file.write(b"written by a frame")


def connect(port):
    with socket.create_connection(("127.0.0.1", port), 2):
        pass


def send(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", port))


def connect_local(name):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(name)


def enter(path):
    checked(LIBC.setns(os.open(path, os.O_RDONLY), 0))


def unshare(flags):
    checked(LIBC.unshare(flags))


def checked(answer):
    if answer:
        raise OSError(ctypes.get_errno(), "refused")


def processes():
    return [int(name) for name in tried(os.listdir, "/proc")[1] if name.isdigit()] if os.path.isdir("/proc") else []


def environ_of(pid):
    if pid == os.getpid():
        return ""
    with contextlib.suppress(OSError), open("/proc/%d/environ" % pid, "rb") as file:
        return file.read().decode("latin-1")
    return ""


def kill(told):
    """Kills the worker, by its number and by those it finds."""
    for pid in {told["worker"], *told["others"]}:
        with contextlib.suppress(OSError):
            os.kill(pid, 9)
    os._exit(3)


def daemonise(told):
    """Leaves a child without parents, session, environment or pipes."""
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        for descriptor in range(3):
            os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
        os.execve("/bin/sleep", ["sleep", told["sleeps"]], {})


def fork_bomb(_told):
    """Forks for as long as it is let."""
    ends = time.monotonic() + GIVES_UP_S
    while time.monotonic() < ends:
        with contextlib.suppress(OSError):
            os.fork()
    os._exit(3)


def memory_bomb(_told):
    """Takes eight gigabytes."""
    held = []
    for _ in range(128):
        held.append(b"x" * (64 * 1024 * 1024))
    time.sleep(GIVES_UP_S)


def fill_disk(_told):
    """Writes four gigabytes, a file after the other, and keeps some without a name."""
    for number in range(128):
        path = os.path.join(HOME, "fill%d" % number)
        file = open(path, "wb")
        for _ in range(32):
            file.write(b"x" * (1024 * 1024))
        file.flush()
        if number % 2:
            os.unlink(path)
    time.sleep(GIVES_UP_S)


def hide_files(_told):
    """Writes four gigabytes where no path leads, in files that keep their names."""
    os.chdir(HOME)
    for _ in range(30):
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    for number in range(128):
        with open("fill%d" % number, "wb") as file:
            for _ in range(32):
                file.write(b"x" * (1024 * 1024))
    time.sleep(GIVES_UP_S)


def rubbish(told):
    """Leaves what trips whoever tidies up: links, pipes, deep folders, folders of mode 0."""
    temporary = os.environ["TMPDIR"]
    tried(os.symlink, told["files"][-1], os.path.join(temporary, "a.crash.txt"))
    tried(os.mkfifo, os.path.join(temporary, "b.crash.txt"))
    for folder in glob.glob(os.path.join(HOME, "**", "out"), recursive=True):
        tried(os.rmdir, folder)
        tried(os.symlink, told["folders"][0], folder)
    os.chdir(HOME)
    for _ in range(3000):
        os.mkdir("d")
        os.chdir("d")
    os.mkdir(os.path.join(temporary, "closed"))
    os.chmod(os.path.join(temporary, "closed"), 0)
    os._exit(3)


ATTACKS = {
    "look": look, "kill": kill, "daemonise": daemonise, "fork bomb": fork_bomb, "memory bomb": memory_bomb,
    "fill disk": fill_disk, "hide files": hide_files, "rubbish": rubbish,
}  # fmt: skip


def main():
    with open(os.path.join(HOME, "server.py"), encoding="utf-8") as file:
        first = file.readline()
    if first.startswith("# attack: "):
        told = json.loads(first[len("# attack: ") :])
        sys.stdout.flush()
        ATTACKS[told["name"]](told)


main()
