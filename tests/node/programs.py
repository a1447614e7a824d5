"""What the containers of the tests run: programs that behave well, badly or very badly."""

FOREVER = "import time; time.sleep(1000)"

STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(1000)"
"""Ignores SIGTERM; says when it does."""

POLITE = (
    "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); time.sleep(1000)"
)
"""Ends with a code of its own on SIGTERM."""

PROMPT = "import sys, time; sys.stdout.write('50 %'); sys.stdout.flush(); time.sleep(1000)"
"""A line that does not end."""

COUNTING = "import sys, time\nfor n in range(3): print(n, flush=True); time.sleep(0.2)"

HOG = "import time\nheld = []\nwhile True:\n held.append(bytearray(4 << 20)); time.sleep(0.005)"
"""Takes memory until it is stopped."""

PARENT_OF_HOG = "import os, time\nif os.fork() == 0:\n exec(os.environ['HOG'])\ntime.sleep(1000)"

UNTIL_CHANGED = """
import os, time
while open(os.environ["MIZZEN_ROOTFS"] + "/s/a").read() != "2":
    time.sleep(0.01)
"""

WITHOUT_MARK = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(1000)"], {})
time.sleep(1000)
"""
"""A child that left its session and cleared its environment."""

DAEMONS = """
import os, signal, sys, time
def fork():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            with open(sys.argv[1], "a") as file:
                file.write(f"{os.getpid()}\\n")
            time.sleep(1000)
        os._exit(0)
for _ in range(3):
    fork()
while True:
    with open(sys.argv[1], "a+") as file:
        file.seek(0)
        if len(file.readlines()) == 3:
            break
    time.sleep(0.01)
print("up", flush=True)
"""
"""Three daemons that left the session and ignore SIGTERM; their process numbers are in the file named."""

FORK_BOMB = """
import os, time
for _ in range(6):
    os.fork()
time.sleep(0.01)
while True:
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.05)
        os._exit(0)
    os.waitpid(-1, 0)
    time.sleep(0.005)
"""
"""A tree of processes that keeps growing."""

EXCLUSIVE = r"""
import fcntl, os, sys, time
here = os.environ["MIZZEN_ROOTFS"] + "/out/" + os.environ["HOSTNAME"]
lock = open(here + ".lock", "w")
with open(here + ".runs", "a") as runs:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        runs.write("DOUBLE\n")
    runs.write("run\n")
    runs.flush()
    time.sleep(float(sys.argv[1]))
    runs.write("end\n")
sys.exit(int(sys.argv[2]))
"""
"""Runs for argv[1] seconds and ends with argv[2]; says in a file when it runs, and when it runs twice at a time."""
