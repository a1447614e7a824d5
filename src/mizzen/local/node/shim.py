"""One container's keeper: a tiny process that outlives the node and tells it, in files, how the container ended.

    python -I -S shim.py FOLDER KEY=VALUE... -- COMMAND ARGUMENT...

The shim starts the command in a session of its own, turns its output into CRI log lines, waits for it, makes sure that
no descendant is left, writes `exit` and ends. Its own environment is the container's: no secret passes through a file.

What holds, and by what:

* *Alive or not* is a lock, not a process number: the node opens `lock`, takes flock on it and passes the descriptor. It
  is held exactly as long as the shim lives, through any crash of the node, and it cannot be mistaken for another's.
* *The container dies with its shim*: the parent-death signal (Linux).
* *No grandchild survives the container*: the shim is a child subreaper (Linux), so whoever is orphaned becomes its
  child; it kills its children until the kernel says that there are none. Elsewhere it kills the process group.
* *A stop is kept though the node dies*: the node writes the grace into `stop` and sends SIGTERM; the shim passes the
  signal to the command, and counts the grace itself.
* *A full disk loses log lines, never the exit code*: the room for `exit` is taken at the start, and is overwritten.

Files written here: `running` when the command runs, `exit` when it has ended (each whole or not at all, lines of
`key=value`), `log.1`, `log.2`, … (a new number at each rotation, the oldest deleted, so that a follower needs no
rename). FOLDER `-` joins the control groups and becomes the command: exec probes and hooks are run so.

Keys: `lock`, `ready` (descriptors; `ready` is closed when `running` or `exit` is there to be read), `cwd`, `grace`
(seconds), `log_bytes`, `log_files`, `cgroup` (a cgroup.procs file to join; repeated), `oom` (a file whose line
`oom_kill N` counts), `oom_score`, `no_new_privileges`.

The same life is led by a process that was forked from a zygote (`zygote`): it calls `run` with a `become` that does not
execute a program but runs a module that is there already.

Only the standard library, and little of it: this starts in 8 ms, of which Python itself takes 5.
"""
# pathlib and contextlib would double the start:
# ruff: noqa: PTH104, PTH108, PTH110, PTH123, SIM105

# The plain `signal` wraps `_signal` in enums, which would be a third of this program's start.
import _signal as signal  # type: ignore[import-not-found]
import ctypes
import errno
import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` would double the start
    from collections.abc import Callable

    Become = Callable[[list[str]], None]
    """Turns this process into the command. Does not return, or raises `OSError`."""

LINE_BYTES_MAX = 16384
"""A longer line is cut into parts, as containerd cuts it."""
READ_BYTES = 65536
FLUSH_AFTER_S = 1.0
"""What waits for its newline (a progress bar, a prompt) is written as a part of a line after this long."""
KILL_LIMIT_S = 10.0
"""How long processes may take to die of SIGKILL (stuck in the kernel) before the end is recorded without them."""
EXIT_BYTES = 1024

START_ERROR = 128
"""The exit code of a command that could not be started, as containerd gives it."""

PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 15, 36, 38
LINUX = sys.platform == "linux"


def prctl(option: int, value: object) -> None:
    """Set one attribute of this process; does nothing where there is no prctl."""
    if LINUX:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class Log:
    """CRI log lines in numbered files of bounded size. A write that fails is counted, and said when there is room."""

    def __init__(self, folder: str, bytes_max: int, files_max: int) -> None:
        self.folder, self.bytes_max, self.files_max = folder, bytes_max, files_max
        self.number = 1
        self.size = 0
        self.lost = 0
        self.torn = False
        self.descriptor = self._open(1)

    def _open(self, number: int) -> int:
        return os.open(f"{self.folder}/log.{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, lines: bytes) -> None:
        if lost := self.lost:
            note = b"%s stderr F mizzen: %d bytes of log were lost: the disk was full\n" % (timestamp(), lost)
            self.lost = 0
            if not self._append(note):
                self.lost = lost + len(lines)
                return
        self._append(lines)
        if self.size >= self.bytes_max:
            self._rotate()

    def _append(self, lines: bytes) -> bool:
        rest = memoryview(b"\n" + lines if self.torn else lines)
        try:
            while rest:
                written = os.write(self.descriptor, rest)
                self.size += written
                self.torn = rest[written - 1] != 0x0A
                rest = rest[written:]
        except OSError:
            self.lost += len(rest)
            return False
        return True

    def _rotate(self) -> None:
        try:
            descriptor = self._open(self.number + 1)
        except OSError:
            return  # tried again at the next write
        os.close(self.descriptor)
        self.descriptor, self.number, self.size, self.torn = descriptor, self.number + 1, 0, False
        try:
            os.unlink(f"{self.folder}/log.{self.number - self.files_max}")
        except OSError:
            return  # there are not that many yet


class Stream:
    """One of the command's outputs: bytes in, log lines out."""

    def __init__(self, name: bytes, descriptor: int) -> None:
        self.name, self.descriptor = name, descriptor
        self.tail = b""
        os.set_blocking(descriptor, False)

    def lines(self, chunk: bytes) -> bytes:
        """The log lines that `chunk` completes; the rest waits in `tail`."""
        data = self.tail + chunk
        cut = data.rfind(b"\n")
        stamp = timestamp()
        lines = b""
        if cut >= 0:
            prefix = b"%s %s F " % (stamp, self.name)
            lines = prefix + data[:cut].replace(b"\n", b"\n" + prefix) + b"\n"
        self.tail = data[cut + 1 :]
        while len(self.tail) >= LINE_BYTES_MAX:
            lines += b"%s %s P %s\n" % (stamp, self.name, self.tail[:LINE_BYTES_MAX])
            self.tail = self.tail[LINE_BYTES_MAX:]
        return lines

    def part(self) -> bytes:
        """What waits, as a part of a line: a reader puts it together with what follows, to the very bytes written."""
        tail, self.tail = self.tail, b""
        return b"%s %s P %s\n" % (timestamp(), self.name, tail) if tail else b""


def timestamp() -> bytes:
    """RFC 3339 in UTC with nine digits, the form CRI logs have."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return b"%s.%09dZ" % (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode(), nanoseconds)


class Container:
    """The command while it runs: its log, its end, the stop that was asked for."""

    def __init__(self, folder: str, options: dict[str, str], log: Log) -> None:
        self.folder, self.log = folder, log
        self.grace_s = float(options.get("grace", "30"))
        self.oom_file = options.get("oom", "")
        self.pid = 0
        self.status: int | None = None
        self.streams: dict[int, Stream] = {}
        self.kill_at: float | None = None
        self.started = clocks()
        self.ended = self.started

    def read(self, descriptor: int) -> bool:
        """Take what the command wrote; false at the end of the stream, or when there is nothing just now."""
        stream = self.streams[descriptor]
        try:
            chunk = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""
        if chunk:
            if lines := stream.lines(chunk):
                self.log.write(lines)
            return True
        self._write_parts(stream)
        os.close(descriptor)
        del self.streams[descriptor]
        return False

    def _write_parts(self, *streams: Stream) -> None:
        for stream in streams:
            if part := stream.part():
                self.log.write(part)

    def flush(self) -> None:
        self._write_parts(*self.streams.values())

    def stop(self) -> None:
        """Ask the command to end; the grace counts from here, and a later, shorter one replaces it."""
        try:
            with open(f"{self.folder}/stop") as file:
                grace_s = float(file.read())
        except (OSError, ValueError):
            grace_s = self.grace_s
        if self.status is None:
            if self.kill_at is None and grace_s > 0:
                send(self.pid, signal.SIGTERM)
            deadline = time.monotonic() + grace_s
            self.kill_at = deadline if self.kill_at is None else min(self.kill_at, deadline)

    def reap(self) -> bool:
        """Collect the dead; false when no descendant is left (orphans come to us, so no child means none)."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                self.status, self.ended = status, clocks()

    def kill(self) -> None:
        """SIGKILL to the command's group, and to every child there is: each that dies hands us its own."""
        if self.pid:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except OSError:
                pass
        for pid in children():
            send(pid, signal.SIGKILL)

    def out_of_memory(self) -> bool:
        """Whether the kernel killed a process of the control group for memory, or the node's watchdog did."""
        if os.path.exists(f"{self.folder}/oom"):
            return True
        try:
            with open(self.oom_file) as file:
                return any(line.startswith("oom_kill ") and int(line[9:]) > 0 for line in file)
        except (OSError, ValueError):
            return False


def send(pid: int, number: int) -> None:
    """A signal to a child; that it is gone already is as good."""
    try:
        os.kill(pid, number)
    except OSError:
        return


def children() -> list[int]:
    """The children of this process."""
    try:
        with open("/proc/thread-self/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def clocks() -> tuple[float, float]:
    """(seconds of the wall clock, seconds of the monotonic clock, which processes of one boot share)."""
    return time.time(), time.monotonic()


def write_record(folder: str, name: str, **values: object) -> None:
    """A file of `key=value` lines that is there whole or not at all. Reuses the room that `reserve` took."""
    text = "".join(f"{key}={str(value).replace(chr(10), ' ')}\n" for key, value in values.items())
    data = text.encode(errors="replace")[: EXIT_BYTES - 1].ljust(EXIT_BYTES - 1) + b"\n"
    descriptor = os.open(f"{folder}/{name}.new", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(descriptor, data)
    os.close(descriptor)
    os.rename(f"{folder}/{name}.new", f"{folder}/{name}")


def reserve(folder: str, name: str) -> None:
    """Take the room of a later record now."""
    descriptor = os.open(f"{folder}/{name}.new", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(descriptor, b" " * EXIT_BYTES)
    os.close(descriptor)


def enter(options: dict[str, str], groups: list[str]) -> None:
    """In the process that becomes the command: limits, working folder, and signals as a program expects them."""
    for group in groups:
        with open(group, "w") as file:
            file.write("0")
    if "oom_score" in options and LINUX:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(options["oom_score"])
    if "no_new_privileges" in options:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
    os.umask(0o022)
    os.chdir(options.get("cwd", "/"))
    for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


def explain(error: OSError, command: str) -> str:
    """Why the command could not be started, in one line."""
    if error.filename == command or error.filename is None or str(error.filename).endswith("/" + command):
        if error.errno == errno.ENOENT and "/" not in command:
            return f'exec: "{command}": executable file not found in $PATH'
        return f'exec: "{command}": {os.strerror(error.errno or 0).lower()}'
    return f"{error.filename}: {os.strerror(error.errno or 0).lower()}"


def execute(command: list[str]) -> None:
    """Become the command; the environment is the container's already."""
    os.execvp(command[0], command)  # noqa: S606


def spawn(
    options: dict[str, str], groups: list[str], command: list[str], become: "Become"
) -> tuple[int, int, int, str]:
    """Start the command. Returns (pid, stdout, stderr, why it could not be started)."""
    out, err, failure = os.pipe(), os.pipe(), os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(START_ERROR)
            for number in range(1, signal.NSIG):
                if signal.getsignal(number) == signal.SIG_IGN:
                    signal.signal(number, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            enter(options, groups)
            os.dup2(out[1], 1)
            os.dup2(err[1], 2)
            become(command)
        except OSError as error:
            os.write(failure[1], explain(error, command[0]).encode())
        finally:
            os._exit(START_ERROR)
    for _, writing in (out, err, failure):
        os.close(writing)
    why = b""
    while chunk := os.read(failure[0], 4096):
        why += chunk
    os.close(failure[0])
    return pid, out[0], err[0], why.decode(errors="replace")


def keep(container: Container, wakeup: int) -> None:
    """Until the command has ended: pump its output, pass on a stop, enforce its deadline."""
    poll = select.poll()
    poll.register(wakeup, select.POLLIN)
    for descriptor in container.streams:
        poll.register(descriptor, select.POLLIN)
    while container.status is None:
        timeout_s = FLUSH_AFTER_S if any(stream.tail for stream in container.streams.values()) else None
        if container.kill_at is not None:
            left_s = max(container.kill_at - time.monotonic(), 0.0)
            timeout_s = left_s if timeout_s is None else min(timeout_s, left_s)
        events = poll.poll(None if timeout_s is None else timeout_s * 1000)
        if not events:
            container.flush()
        for descriptor, _ in events:
            if descriptor == wakeup:
                if signal.SIGTERM in os.read(wakeup, 4096):
                    container.stop()
                container.reap()
            elif not container.read(descriptor) and descriptor not in container.streams:
                poll.unregister(descriptor)
        if container.kill_at is not None and time.monotonic() >= container.kill_at:
            container.kill()


def sweep(container: Container, wakeup: int) -> str:
    """After the command: kill what it left, take its last output. Returns what could not be done."""
    deadline = time.monotonic() + KILL_LIMIT_S
    pause_ms = 1
    container.kill()
    while container.reap():
        if time.monotonic() > deadline:
            return f"processes {children()} did not die of SIGKILL"
        select.select([wakeup], [], [], pause_ms / 1000)
        pause_ms = min(pause_ms * 2, 100)
        try:
            os.read(wakeup, 4096)
        except BlockingIOError:
            pass
        for descriptor in list(container.streams):
            while descriptor in container.streams and container.read(descriptor):
                pass
        container.kill()
    for descriptor in list(container.streams):
        while descriptor in container.streams and container.read(descriptor):
            pass
    container.flush()
    return ""


def detach(kept: list[int]) -> None:
    """Leave the node's session and folder, and close what its process happened to have open: only `kept` are ours."""
    os.chdir("/")
    if os.getsid(0) != os.getpid():
        os.setsid()
    first = 3
    for descriptor in sorted(kept):
        os.set_inheritable(descriptor, False)
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def run(folder: str, options: dict[str, str], groups: list[str], command: list[str], become: "Become" = execute) -> int:
    """The life of one container. Returns its exit code."""
    detach([int(options["lock"]), int(options["ready"])])
    wakeup, waking = os.pipe()
    os.set_blocking(wakeup, False)
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    prctl(PR_SET_NAME, b"mizzen-shim")
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    reserve(folder, "exit")

    log = Log(folder, int(options.get("log_bytes", "10485760")), int(options.get("log_files", "5")))
    container = Container(folder, options, log)
    container.pid, out, err, why = spawn(options, groups, command, become)
    for name, descriptor in ((b"stdout", out), (b"stderr", err)):
        container.streams[descriptor] = Stream(name, descriptor)
    if not why:
        wall, steady = container.started
        write_record(folder, "running", shim=os.getpid(), pid=container.pid, started=wall, started_steady=steady)
        os.close(int(options["ready"]))
    keep(container, wakeup)
    left = sweep(container, wakeup)

    status = container.status or 0
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    code = 128 + number if number else os.WEXITSTATUS(status)
    (wall, steady), (end_wall, end_steady) = container.started, container.ended
    write_record(
        folder, "exit", code=code, signal=number, oom=int(code != 0 and container.out_of_memory()), error=why or left,
        start_error=int(bool(why)), started=wall, started_steady=steady, finished=end_wall, finished_steady=end_steady,
    )  # fmt: skip
    return code


def main(arguments: list[str]) -> int:
    cut = arguments.index("--")
    options = dict(argument.split("=", 1) for argument in arguments[1:cut])
    groups = [argument[7:] for argument in arguments[1:cut] if argument.startswith("cgroup=")]
    command = arguments[cut + 1 :]
    if arguments[0] != "-":
        return run(arguments[0], options, groups, command)
    try:
        enter(options, groups)
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        sys.stderr.write(explain(error, command[0]) + "\n")
        return START_ERROR


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
