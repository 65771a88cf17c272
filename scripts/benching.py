"""What the benchmarks share: servers pinned to cores and their CPU clocks, a connection, keys to fill them with, a throwaway
Postgres, the programs that are measured, and the options and the file of figures that all of them have. Standard library only.
"""

import argparse
import gc
import json
import os
import pathlib
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIGURES = ROOT / "target" / "bench"
OURS = "cenote"
REFERENCES = ["redis8", "valkey9"]
VALUE = b"x" * 32


def die(text):
    sys.exit(f"bench: {text}")


def note(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


# --- Servers ----------------------------------------------------------------------------------------------------------


def cpu_clock(pid):
    """The kernel's clock of the CPU time that a process has used, all threads: nanoseconds, not clock ticks."""
    return (~pid << 3) | 2


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def own_arguments(name):
    """What makes a server work with one thread."""
    return ["--workers", "1"] if name == OURS else ["--io-threads", "1"]


class Server:
    """A server process pinned to `cores`; `with` stops it."""

    # How redis-benchmark is to connect.
    load_args = []

    def __init__(self, name, program, cores, args=()):
        self.name = name
        self.directory = tempfile.mkdtemp(prefix=f"cenote-bench-{name}-")
        self.log = open(os.path.join(self.directory, "log"), "wb")
        self.port = free_port()
        command = ["taskset", "-c", ",".join(map(str, cores)), program, "--port", str(self.port)]
        command += ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *args]
        self.process = subprocess.Popen(
            command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT
        )
        self.pid = self.process.pid
        self.clock = cpu_clock(self.pid)
        self.wait_until_ready()

    def wait_until_ready(self):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                connection = Connection(self.port)
                if connection.ask(b"PING") == b"+PONG":
                    return
            except OSError:
                time.sleep(0.01)
        with open(self.log.name, encoding="utf-8", errors="replace") as log:
            text = log.read()
        self.stop()
        die(f"{self.name} does not answer:\n{text[-2000:]}")

    def cpu(self):
        """CPU time used so far, in nanoseconds."""
        return time.clock_gettime_ns(self.clock)

    def resident(self):
        """Bytes of memory that are resident."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        return 0

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def encode(*args):
    parts = [b"*%d\r\n" % len(args)]
    parts += [b"$%d\r\n%s\r\n" % (len(arg), arg) for arg in args]
    return b"".join(parts)


class Connection:
    """A blocking connection for the few commands that the measuring itself needs."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, *args):
        """Sends a command whose reply is a line or a bulk string; the line, or the string."""
        self.socket.sendall(encode(*args))
        return self.reply()

    def reply(self):
        data = b""
        while True:
            data += self.socket.recv(1 << 16)
            if data[-2:] != b"\r\n":
                continue
            if data[:1] != b"$":
                return data[:-2]
            head, _, rest = data.partition(b"\r\n")
            if int(head[1:]) < 0 or len(rest) == int(head[1:]) + 2:
                return rest[:-2]

    def batch(self, request, count):
        """Sends `count` commands that are answered `+OK`, and takes the replies."""
        self.socket.sendall(request)
        wanted = 5 * count
        got = b""
        while len(got) < wanted:
            part = self.socket.recv(1 << 16)
            if not part:
                die("the server closed the connection")
            got = part if not got else got + part
            if got[:1] == b"-":
                die(f"a write was refused: {got[:200]!r}")

    def info(self, section, field):
        text = self.ask(b"INFO", section)
        for line in text.split(b"\r\n"):
            if line.startswith(field + b":"):
                return int(line.split(b":")[1])
        die(f"INFO {section.decode()} has no {field.decode()}")


def set_commands(start, count, value, suffix=b""):
    """`count` SETs of the keys `key:000000000000` … as redis-benchmark names them, in one piece of bytes."""
    parts = 3 if not suffix else 3 + suffix.count(b"$")
    head = b"*%d\r\n$3\r\nSET\r\n$16\r\nkey:" % parts
    if callable(value):
        one = [b"%s%012d\r\n$%d\r\n%s\r\n" % (head, n, len(value(n)), value(n)) for n in range(start, start + count)]
        return b"".join(part + suffix for part in one)
    tail = b"\r\n$%d\r\n%s\r\n%s" % (len(value), value, suffix)
    return b"".join([b"%s%012d%s" % (head, n, tail) for n in range(start, start + count)])


def fill(server, keys, value=VALUE, suffix=b""):
    connection = Connection(server.port)
    for start in range(0, keys, 1000):
        count = min(1000, keys - start)
        connection.batch(set_commands(start, count, value, suffix), count)


class pinned:
    """This process on one core, before all others if root lets it, and without pauses of its own."""

    def __init__(self, core):
        self.core = core

    def __enter__(self):
        self.before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self.core})
        try:
            os.setpriority(os.PRIO_PROCESS, 0, -20)
        except PermissionError:
            pass
        gc.disable()

    def __exit__(self, *_):
        gc.enable()
        os.sched_setaffinity(0, self.before)
        try:
            os.setpriority(os.PRIO_PROCESS, 0, 0)
        except PermissionError:
            pass


# --- Postgres ---------------------------------------------------------------------------------------------------------


class Postgres:
    """A throwaway cluster without durability, reached over its Unix socket. Postgres refuses root, so root runs it as nobody."""

    def __init__(self, bin, *settings, database="postgres"):
        self.bin, self.database = pathlib.Path(bin), database
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="cenote-bench-"))
        self.folder.chmod(0o755)
        self.user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
        if self.user:
            shutil.chown(self.folder, "nobody")
        self.run("initdb", "-U", "bench", "-A", "trust", "--no-sync", "-D", self.folder / "data")
        parts = [f"-k {self.folder}", *(f"-c {part}" for part in ["listen_addresses=", "fsync=off", "wal_level=logical", *settings])]
        self.run("pg_ctl", "-D", self.folder / "data", "-w", "-l", self.folder / "log", "-o", " ".join(parts), "start")
        if database != "postgres":
            self.sql(f"CREATE DATABASE {database}", "postgres")

    def run(self, program, *args):
        command = [*self.user, str(self.bin / program), *map(str, args)]
        subprocess.run(command, cwd=self.folder, check=True, stdout=subprocess.DEVNULL)

    def url(self):
        return f"host={self.folder} user=bench dbname={self.database}"

    def psql(self, database=None):
        command = [str(self.bin / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder), "-U", "bench"]
        return [*command, "-d", database or self.database]

    def sql(self, sql, database=None):
        run = subprocess.run([*self.psql(database), "-c", sql], check=True, capture_output=True, text=True)
        return run.stdout.strip()

    def pgbench_command(self, *args):
        return [str(self.bin / "pgbench"), "-h", str(self.folder), "-U", "bench", *map(str, args), self.database]

    def pgbench(self, *args):
        return subprocess.run(self.pgbench_command(*args), check=True, capture_output=True, text=True).stdout

    def tps(self, *args):
        return tps_of(self.pgbench(*args))

    def stop(self):
        self.run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)


def tps_of(output):
    """Transactions a second, as pgbench tells."""
    return float(next(line.split()[2] for line in output.splitlines() if line.startswith("tps")))


# --- Programs, options, figures ---------------------------------------------------------------------------------------


def find_tools():
    subprocess.run([str(ROOT / "scripts" / "oracles")], check=True, stdout=subprocess.DEVNULL)
    env = (ROOT / "target" / "oracles" / "env").read_text(encoding="utf-8")
    tools = dict(line.split("=", 1) for line in env.splitlines() if "=" in line)
    return {key: os.environ.get(key, path) for key, path in tools.items()}


def programs_of(options, tools):
    """Cenote and the references, by name."""
    return {OURS: cenote_program(options), "redis8": tools["REDIS8"], "valkey9": tools["VALKEY9"]}


def cenote_program(options):
    if options.cenote:
        return os.path.abspath(options.cenote)
    subprocess.run(["cargo", "build", "--release", "--bin", "cenote"], cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return str(target / "release" / "cenote")


def bench_program(name):
    """Builds one of the crate's benchmarks; its path."""
    build = ["cargo", "bench", "--bench", name, "--no-run", "--message-format=json"]
    lines = subprocess.run(build, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    parts = [json.loads(line) for line in lines if line.startswith("{")]
    return next(part["executable"] for part in parts if part.get("executable") and part["target"]["name"] == name)


def version(program):
    run = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return run.stdout.strip()


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), "unknown")
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "system": platform.machine()}


def parser(doc, json_name):
    """The options that all benchmarks have."""
    own = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    own.add_argument("--quick", action="store_true", help="shorter, with fewer keys and rounds: for trends, not for tables")
    own.add_argument("--cenote", metavar="PATH", default=os.environ.get("CENOTE_UNDER_TEST"), help="the program to measure")
    own.add_argument("--json", default=str(FIGURES / json_name), metavar="FILE", help="where the figures go")
    return own


def add_cores(own):
    """The options of those that pin the server to one core and the load to another."""
    own.add_argument("--server-core", type=int, default=0, metavar="N")
    own.add_argument("--load-core", type=int, default=1, metavar="N")


def add_rows(own, rows):
    own.add_argument("--rows", default=",".join(rows), help="which of " + ",".join(rows))


def parse(own, rows=None):
    """The options; `rows` as a list, each of them one of these."""
    options = own.parse_args()
    if rows is not None:
        options.rows = options.rows.split(",")
        if unknown := sorted(set(options.rows) - set(rows)):
            own.error(f"unknown rows {', '.join(unknown)}; there are {', '.join(rows)}")
    return options


def save(options, results, **about):
    """Writes the figures, with the machine that they are of."""
    path = pathlib.Path(options.json)
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = {"machine": machine(), "quick": options.quick, **about, "results": results}
    path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return path


def sign(options, path, seconds):
    """What stands below a table."""
    about, quick = machine(), ", quick: for trends only" if options.quick else ""
    print(f"\n{about['cpu']}, Linux {about['kernel']}; {seconds} s{quick}. Figures: {path}")
