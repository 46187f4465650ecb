"""Where the pieces of a run are made: in this process, or on a Ray cluster that is running."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pointmap.errors import InputError
from recon.work.pieces import PieceMap

LOCAL = "local"
# Together well below ten seconds, within which whoever waits wants to know.
_REACH_SECONDS, _ANSWER_SECONDS = 3.0, 3.0
# Of HTTP/2: kinds of frames; flags of one that ends the header and the request; the type of gRPC's
# contents, and how Huffman's code packs it; and more than any answer takes.
_HEADERS, _SETTINGS, _ENDS = 1, 4, 5
_GRPC, _GRPC_PACKED = b"application/grpc", bytes.fromhex("1d75d0620d263d4c4d6564")
_MOST_ANSWER = 2**16
_LOOPBACK = ("127.", "localhost", "::1", "[::1]")


@contextmanager
def pieces_on(cluster: str) -> Iterator[PieceMap]:
    """Yield where pieces are made.

    ``cluster``: "local", this process, which needs no Ray; "auto", the cluster of which this
    machine is a part; or the address of its head, host:port. Raises ``InputError``, within ten
    seconds, for a cluster that does not answer.
    """
    if cluster == LOCAL:
        yield PieceMap()
        return
    if find_spec("ray") is None:
        raise InputError(f"--cluster {cluster} needs Ray: pip install 'pointmap[cluster]'")
    address = _own_cluster() if cluster == "auto" else cluster
    if address.startswith(_LOOPBACK):
        # Else Ray looks for, and listens at, this machine's address in its network.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    _check_answers(address)
    import ray

    from recon.cluster.ray_pieces import RayPieces

    options: dict[str, Any] = {"logging_level": "ERROR"}
    if address.startswith(_LOOPBACK):
        options["_node_ip_address"] = "127.0.0.1"
    try:
        # Warnings of tasks come back with them.
        ray.init(address=address, log_to_driver=False, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"cannot join the cluster at {address} ({error}): run this command on one of its "
            "machines, with the Python and the Ray that it was started with"
        ) from error
    try:
        pieces = RayPieces()
        try:
            yield pieces
        finally:
            pieces.close()
    finally:
        ray.shutdown()


def _own_cluster() -> str:
    """Return the address of the cluster that this machine belongs to, as Ray notes it."""
    noted = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray/ray_current_cluster"
    address = os.environ.get("RAY_ADDRESS", "")
    if not address:
        try:
            address = noted.read_text(encoding="utf-8").strip()
        except OSError:
            address = ""
    if not address:
        raise InputError(
            "--cluster auto finds no cluster on this machine: start one (ray start --head), or "
            "give the address of its head, host:port"
        )
    return address


def _check_answers(address: str) -> None:
    """Raise ``InputError`` unless a cluster answers there: Ray itself waits for minutes."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InputError(f"--cluster takes local, auto or host:port, not {address!r}")
    try:
        with socket.create_connection((host, int(port)), timeout=_REACH_SECONDS) as connection:
            is_cluster = _speaks_grpc(connection)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"no cluster answers at {address} ({reason}): see if it runs, with ray status there"
        ) from error
    if not is_cluster:
        raise InputError(
            f"no cluster answers at {address}, but something listens there: give the address of "
            "the head of a Ray cluster"
        )


def _speaks_grpc(connection: socket.socket) -> bool:
    """Return whether the other side answers as the head of a cluster does, by gRPC.

    It is asked for its health in HTTP/2 (RFC 9113; the fields as of RFC 7541, appendix A), and may
    answer what it likes in that protocol: proxies that accept any connection don't speak it.
    """
    fields = b"\x83\x86" + _field(b"\x04", b"/grpc.health.v1.Health/Check")  # POST, http, path
    fields += _field(b"\x01", b"pointmap") + _field(b"\x0f\x10", _GRPC)  # authority, content-type
    connection.sendall(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + _frame(_SETTINGS, 0, 0)
        + _frame(_HEADERS, _ENDS, 1, fields + _field(b"\0\x02te", b"trailers"))
    )
    answer, until = b"", time.monotonic() + _ANSWER_SECONDS
    while _GRPC not in answer and _GRPC_PACKED not in answer:
        left = until - time.monotonic()
        if left <= 0 or len(answer) > _MOST_ANSWER:
            return False
        connection.settimeout(left)
        try:
            more = connection.recv(4096)
        except (TimeoutError, ConnectionError):
            return False
        if not more:
            return False
        answer += more
    return True


def _frame(kind: int, flags: int, stream: int, data: bytes = b"") -> bytes:
    """Return a frame of HTTP/2."""
    return len(data).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + data


def _field(name: bytes, value: bytes) -> bytes:
    """Return a field of a header as it is, of fewer than 127 bytes."""
    return name + bytes([len(value)]) + value
