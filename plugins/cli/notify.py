"""What a supervisor is told: sd_notify's protocol, where NOTIFY_SOCKET names who listens."""

import os
import socket

from ...kernel.log import log


def notify(state: str) -> None:
    """Say e.g. "READY=1". A supervisor that cannot be reached is logged, and no reason to end."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.connect("\0" + address[1:] if address.startswith("@") else address)
            line.sendall(state.encode())
    except OSError as error:
        log.warning("daemon.not_notified", address=address, error=str(error))
