"""How the process of a part begins and ends: signals, and saying that it is ready.

Readiness is systemd's protocol: a datagram `READY=1` to the Unix socket named by `NOTIFY_SOCKET`. The supervisor of one
machine listens there, and so would systemd.
"""

import asyncio
import logging
import os
import signal
import socket


def notify_ready() -> None:
    """Says that this process does its work now. Nothing happens where nobody asked, and nobody is waited for."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        try:
            sender.sendto(b"READY=1", target)
        except OSError:
            return  # whoever asked is gone, or does not listen; that is no reason to stop working


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set. Must be called with a running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def log_to_standard_error(level: int = logging.INFO) -> None:
    """Log lines with time and place; of the HTTP library only what is wrong, for it tells every request."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
