"""A unit of systemd that keeps a command running for months: the file's text, by the rules of systemd's man pages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecnn_runtime.errors import EdgecnnError

WATCHDOG_S = 30
_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}

# What a classifier needs is its files, a camera and the network; the rest is taken away. Left out on purpose:
# PrivateDevices (no camera), ProcSubset=pid (the engines read /proc/cpuinfo), MemoryDenyWriteExecute (GStreamer makes
# code at run time). AF_NETLINK is how libcamera finds cameras; the device nodes are those of V4L2 and libcamera.
# Without MemorySwapMax what exceeds the memory would be swapped out, to a Pi's card.
_TEMPLATE = """\
# Written by edgecnn service. Log: journalctl -u {unit}
[Unit]
Description={description}
After=network.target
StartLimitIntervalSec=0

[Service]
Type=notify
SyslogIdentifier={unit}
ExecStart=:{command}
User={user}
SupplementaryGroups=video
Environment=PYTHONFAULTHANDLER=1 PYTHONDONTWRITEBYTECODE=1
Restart=always
RestartSec=5
SuccessExitStatus=143
WatchdogSec={watchdog_s}
TimeoutStartSec=90
TimeoutStopSec=10
MemoryMax={memory_bytes}
MemorySwapMax=0

NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=read-only
{writable}PrivateTmp=yes
DevicePolicy=closed
DeviceAllow=char-video4linux rw
DeviceAllow=char-media rw
DeviceAllow=char-dma_heap rw
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
LockPersonality=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0027

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Unit:
    """A service.

    Attributes:
        name: of the unit, ending in .service.
        description: one line.
        command: absolute path of the program, and its arguments, as they are.
        user: who it runs as.
        writable: folders that it may write to, absolute; they must be there when it starts.
        memory_mb: it is ended, and started again, when it takes more.
    """

    name: str
    description: str
    command: Sequence[str]
    user: str
    writable: Sequence[Path]
    memory_mb: int

    def text(self) -> str:
        """The unit file. Raises EdgecnnError for a path that systemd has no way to write."""
        writable = " ".join(map(_path, self.writable))
        return _TEMPLATE.format(
            unit=self.name.removesuffix(".service"),
            description=_percents(one_line(self.description)),
            command=" ".join(map(_argument, self.command)),
            user=_percents(self.user),
            watchdog_s=WATCHDOG_S,
            memory_bytes=self.memory_mb * 1_000_000,
            writable=f"ReadWritePaths={writable}\n" if writable else "",
        )


def one_line(text: str) -> str:
    """As systemd keeps a description: without blanks that do nothing."""
    return " ".join(text.split())


def _percents(text: str) -> str:
    """A percent sign begins a specifier of systemd's; two are one."""
    return _utf8(text).replace("%", "%%")


def _argument(word: str) -> str:
    """For ExecStart, whose colon in front keeps $ as it is: in quotes with the escapes of C (man systemd.service)."""
    word = _percents(word)
    if _PLAIN.fullmatch(word):
        return word
    return '"' + "".join(_ESCAPES.get(c, c if c.isprintable() else _hex(c)) for c in word) + '"'


def _hex(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode())


def _path(path: Path) -> str:
    """For a list of paths: quotes alone hold it together. A backslash is one to some versions of systemd, and to others
    it goes away."""
    word = _percents(str(path))
    quote = "'" if '"' in word else '"'
    if quote in word or not word.isprintable() or "\\" in word:
        raise EdgecnnError(f"{path}: systemd cannot name this folder; give it another name")
    return f"{quote}{word}{quote}"


def _utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise EdgecnnError(f"{text!r}: systemd's files are UTF-8; give it another name") from error
    return text
