"""The filter of system calls that a sandboxed renderer runs under, as instructions for the kernel. Pure.

A list of what is refused: what a renderer never needs and other programs were broken into with. Under Landlock it also
refuses what Landlock does not see: sockets that are no TCP, modes and owners of files by path, shared memory, and, on
kernels whose Landlock knows no scopes, signals to others.

Each instruction is ``(code, if true, if false, value)`` of classic BPF; a value may be :data:`OWN_PID`, which the
process that loads it replaces.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from dataclasses import dataclass

Instruction = tuple[int, int, int, "int | str"]
OWN_PID = "own pid"

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_EQUAL, _GREATER_EQUAL, _ANY_BIT = 0x15, 0x35, 0x45
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
#: Offsets in the kernel's ``seccomp_data``; of an argument the low half, which is where all these calls have theirs.
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
#: Every flag of ``clone`` that makes a namespace.
_NEW_NAMESPACES = 0x7E020080
_DATAGRAM, _TYPE_MASK = 2, 0xF
#: F_SETOWN, F_SETSIG, F_SETOWN_EX: the kernel sends signals in the caller's name.
_SIGNALS_BY_FILE = (8, 10, 15)
_INJECT_INPUT = 0x5412

#: As the kernel tells the filter which machine's numbers a call has.
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
#: Set in the numbers of x86-64's second set of calls.
X32_BIT = 0x40000000

#: Name → number on x86-64, number on ARM 64; ``None``: this machine has no such call.
_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chmod": (90, None),
    "chown": (92, None),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "clone": (56, 220),
    "clone3": (435, 435),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "fcntl": (72, 25),
    "finit_module": (313, 273),
    "fremovexattr": (199, 16),
    "fsconfig": (431, 431),
    "fsetxattr": (190, 7),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "futimesat": (261, None),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioctl": (16, 29),
    "ioperm": (173, None),
    "iopl": (172, None),
    "ioprio_set": (251, 30),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "kill": (62, 129),
    "lchown": (94, None),
    "lookup_dcookie": (212, 18),
    "lremovexattr": (198, 15),
    "lsetxattr": (189, 6),
    "migrate_pages": (256, 238),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "prlimit64": (302, 261),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "removexattr": (197, 14),
    "removexattrat": (466, 466),
    "request_key": (249, 218),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "semget": (64, 190),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "setpriority": (141, 140),
    "settimeofday": (164, 170),
    "setxattr": (188, 5),
    "setxattrat": (463, 463),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmget": (29, 194),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "tgkill": (234, 131),
    "tkill": (200, 130),
    "truncate": (76, 45),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "utime": (132, None),
    "utimensat": (280, 88),
    "utimes": (235, None),
    "vhangup": (153, 58),
}

_COLUMN = {"x86_64": 0, "aarch64": 1}


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """One system call that is refused, always or for some arguments."""

    call: str
    #: What the caller sees; 0: as if it had been done.
    error: int = errno.EPERM
    #: Which argument is looked at; ``None``: refused whatever the arguments are.
    argument: int | None = None
    #: Refused where the argument has one of these bits.
    bits: int = 0
    #: Refused where the argument, under ``mask``, is one of these.
    values: tuple[int, ...] = ()
    mask: int = 0
    #: Refused unless the argument is one of these.
    unless: tuple[int | str, ...] = ()


_NEVER = (
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp", "pidfd_getfd",
    "perf_event_open", "bpf", "userfaultfd", "keyctl", "add_key", "request_key", "mount", "umount2", "pivot_root",
    "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "setns", "unshare",
    "chroot", "swapon", "swapoff", "reboot", "kexec_load", "kexec_file_load", "init_module", "finit_module",
    "delete_module", "open_by_handle_at", "name_to_handle_at", "iopl", "ioperm", "acct", "quotactl", "quotactl_fd",
    "syslog", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname",
    "lookup_dcookie", "vhangup", "fanotify_init", "move_pages", "migrate_pages",
)  # fmt: skip
#: A C library takes an older call where it is told that there is no such one.
_UNKNOWN = ("io_uring_setup", "io_uring_enter", "io_uring_register", "clone3")
#: Scripts that copy files set modes and times; to them it looks done.
_FEIGNED = (
    "chmod", "fchmod", "fchmodat", "fchmodat2", "utime", "utimes", "utimensat", "futimesat",
)  # fmt: skip
_OUTSIDE_LANDLOCK = (
    "chown", "fchown", "lchown", "fchownat", "setxattr", "lsetxattr", "fsetxattr", "setxattrat", "removexattr",
    "lremovexattr", "fremovexattr", "removexattrat", "shmget", "shmat", "shmctl", "semget", "msgget", "mq_open",
    "sched_setscheduler", "sched_setparam", "sched_setattr", "ioprio_set",
)  # fmt: skip
_SIGNALS_TO_ANYBODY = ("tkill", "pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo")

_EVERYWHERE = (
    *(Refusal(call=call) for call in _NEVER),
    *(Refusal(call=call, error=errno.ENOSYS) for call in _UNKNOWN),
    Refusal(call="clone", argument=0, bits=_NEW_NAMESPACES),
    Refusal(call="socket", error=errno.EACCES),
    # A pair of datagram sockets can be told another address.
    Refusal(call="socketpair", error=errno.EACCES, argument=1, values=(_DATAGRAM,), mask=_TYPE_MASK),
    Refusal(call="ioctl", argument=1, values=(_INJECT_INPUT,), mask=0xFFFFFFFF),
)
_UNDER_LANDLOCK = (
    *(Refusal(call=call) for call in _OUTSIDE_LANDLOCK),
    *(Refusal(call=call, error=0) for call in _FEIGNED),
    Refusal(call="prlimit64", argument=0, unless=(0, OWN_PID)),
    Refusal(call="setpriority", argument=1, unless=(0, OWN_PID)),
    Refusal(call="sched_setaffinity", argument=0, unless=(0, OWN_PID)),
)
_WITHOUT_TRUNCATE = (Refusal(call="truncate"),)
_WITHOUT_SCOPES = (
    *(Refusal(call=call) for call in _SIGNALS_TO_ANYBODY),
    Refusal(call="kill", argument=0, unless=(0, OWN_PID)),
    Refusal(call="tgkill", argument=0, unless=(OWN_PID,)),
    Refusal(call="fcntl", argument=1, values=_SIGNALS_BY_FILE, mask=0xFFFFFFFF),
)
#: Versions of Landlock that first knew these.
_KNOWS_TRUNCATE, _KNOWS_SCOPES = 3, 6


def refusals(landlock: int | None) -> tuple[Refusal, ...]:
    """What is refused beside namespaces (``None``), or under this version of Landlock."""
    if landlock is None:
        return _EVERYWHERE
    return (
        *_EVERYWHERE,
        *_UNDER_LANDLOCK,
        *(_WITHOUT_TRUNCATE if landlock < _KNOWS_TRUNCATE else ()),
        *(_WITHOUT_SCOPES if landlock < _KNOWS_SCOPES else ()),
    )


def program(refused: Iterable[Refusal], machine: str) -> list[Instruction]:
    """The filter. Raises KeyError for a machine whose numbers are not known here."""
    words: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":  # a second set of numbers for the same calls
        words += [(_GREATER_EQUAL, 0, 1, X32_BIT), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    for refusal in refused:
        call = number(refusal.call, machine)
        if call is not None:
            body = _body(refusal)
            words += [(_EQUAL, 0, len(body), call), *body]
    return [*words, (_RETURN, 0, 0, _ALLOW)]


def packed(words: Iterable[Instruction]) -> bytes:
    """The filter as ``bwrap`` reads it; it has no :data:`OWN_PID`."""
    return b"".join(struct.pack("=HBBI", code, yes, no, value) for code, yes, no, value in words)


def _body(refusal: Refusal) -> list[Instruction]:
    """What follows once the call is the one; what is not refused goes on with the next call's."""
    refuse: Instruction = (_RETURN, 0, 0, _ERRNO | refusal.error)
    if refusal.argument is None:
        return [refuse]
    again: Instruction = (_LOAD, 0, 0, _NUMBER)
    load: Instruction = (_LOAD, 0, 0, _ARGUMENTS + 8 * refusal.argument)
    if refusal.bits:
        return [load, (_ANY_BIT, 0, 1, refusal.bits), refuse, again]
    if refusal.values:
        return [load, (_AND, 0, 0, refusal.mask), *_where_one_of(refusal.values, refuse), again]
    # To the last instruction where it is one of them.
    count = len(refusal.unless)
    tests = [(_EQUAL, count - place, 0, value) for place, value in enumerate(refusal.unless)]
    return [load, *tests, refuse, again]


def _where_one_of(values: tuple[int, ...], refuse: Instruction) -> list[Instruction]:
    words: list[Instruction] = []
    for value in values:
        words += [(_EQUAL, 0, 1, value), refuse]
    return words


def number(call: str, machine: str) -> int | None:
    """The number of a call; ``None`` where this machine has none. Raises KeyError for an unknown call or machine."""
    return _NUMBERS[call][_COLUMN[machine]]
