"""A module that cannot be forked: importing it starts a thread."""

import threading

threading.Thread(target=threading.Event().wait, daemon=True).start()


def main() -> int:
    return 0
