"""Where the page is served."""

from __future__ import annotations

import errno
import ipaddress
import socket

from edgecnn_runtime.errors import EdgecnnError

HOST, PORT = "127.0.0.1", 8080


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises EdgecnnError, which says why it cannot be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # "::" is every address, of both kinds, on Windows and BSD too.
        both = address[0] == "::" and socket.has_dualstack_ipv6()
        return socket.create_server((str(address[0]), port), family=family, backlog=64, dualstack_ipv6=both)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise EdgecnnError(f"port {port} of {host} is taken already; choose another with --port") from error
        if error.errno == errno.EACCES:
            raise EdgecnnError(f"port {port} is not for this user; choose one above 1023 with --port") from error
        reason = (error.strerror or str(error)).split(" (")[0]
        raise EdgecnnError(f"--host {host}: no address of this machine ({reason})") from error


def needs_token(host: str) -> bool:
    """Whether others than this machine can reach the address."""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"
