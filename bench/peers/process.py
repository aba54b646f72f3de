"""Contenders as processes."""
import json
import math
import os
import select
import statistics
import subprocess
import sys
import time

IDLE_SHARE, IDLE_WINDOW, IDLE_LIMIT = 0.05, 0.02, 5.0  # share of one core, seconds of looking, seconds of patience
# A repetition during which other work took more than FOREIGN of the cores, and more than two of the system's ticks, is taken again,
# at most RETRIES times; before that the driver waits up to QUIET_LIMIT seconds for QUIET_WINDOW seconds without such work.
FOREIGN, RETRIES, QUIET_WINDOW, QUIET_LIMIT = 0.05, 3, 0.1, 20.0
TICK = 1 / os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A contender that cannot take part, and why."""


def choose_cores(count):
    """So many of the cores this process may use, of different physical cores where there are enough."""
    usable, seen, first, second = sorted(os.sched_getaffinity(0)), set(), [], []
    for cpu in usable:
        try:
            with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") as f:
                siblings = f.read().strip()
        except OSError:
            siblings = str(cpu)
        (second if siblings in seen else first).append(cpu)
        seen.add(siblings)
    chosen = (first + second)[:count]
    if len(chosen) < count:
        sys.exit(f"{count} threads on {len(usable)} cores: give --threads {len(usable)}")
    return chosen


def environment(threads, cores):
    """Sets what all contenders inherit."""
    os.sched_setaffinity(0, cores)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOMAXPROCS"):
        os.environ[name] = str(threads)
    os.environ.update(
        CUDA_VISIBLE_DEVICES="", JAX_PLATFORMS="cpu", KMP_BLOCKTIME="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1",
        XLA_FLAGS=f"--xla_cpu_multi_thread_eigen=true intra_op_parallelism_threads={threads}")
    for name in ("GOMLX_BACKEND", "POLAR_CPU"):
        os.environ.pop(name, None)


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")


def busy_seconds():
    """Seconds that all work together has taken of the cores this process may use, from the system's ticks."""
    cores, total = {f"cpu{n}" for n in os.sched_getaffinity(0)}, 0
    with open("/proc/stat") as f:
        for line in f:
            name, *ticks = line.split()
            if name in cores:
                user, nice, system, _, _, irq, soft, steal = map(int, ticks[:8])
                total += user + nice + system + irq + soft + steal
    return total * TICK


def disturbed(busy, own, wall):
    """Whether other work took a part of the cores that counts."""
    foreign = busy - own
    return foreign > 2.5 * TICK and foreign > FOREIGN * wall * len(os.sched_getaffinity(0))


def await_quiet():
    """Waits for the cores to be free, so long as there is hope."""
    end = time.monotonic() + QUIET_LIMIT
    while time.monotonic() < end:
        before = busy_seconds()
        time.sleep(QUIET_WINDOW)
        if not disturbed(busy_seconds() - before, 0.0, QUIET_WINDOW):
            return


class Contender:
    def __init__(self, library, variant, command, env=None):
        self.library, self.variant, self.command, self.env = library, variant, command, env or {}
        self.title = f"{library} ({variant})" if variant else library
        self.taken = 0  # steps; losses[n] is that before step n
        self.process, self.absent, self.repeat, self.warm, self.alone, self.noisy = None, "", 1, False, 0.0, 0
        self.times, self.parts, self.losses, self.norm, self.peak, self.seconds, self.hello = [], {}, {}, 0.0, 0, 0.0, {}

    def start(self):
        self.stderr = open(os.path.join("/tmp", f"peer-{os.getpid()}.err"), "w+")
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr, env=dict(os.environ, **self.env))
        self.buffer = b""
        self.hello = self.answer(300)

    def answer(self, wait):
        end = time.monotonic() + wait
        while b"\n" not in self.buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise Failed(f"no answer within {wait:.0f} s")
            more = os.read(self.process.stdout.fileno(), 1 << 16)
            if not more:
                self.process.wait()
                self.stderr.seek(0)
                lines = self.stderr.read().strip().splitlines() or ["no message"]
                raise Failed(lines[-1][:300])
            self.buffer += more
        line, self.buffer = self.buffer.split(b"\n", 1)
        answer = json.loads(line)
        if answer.get("error"):
            raise Failed(answer["error"].splitlines()[0][:300])
        return answer

    def order(self, text, wait=600.0):
        try:
            self.process.stdin.write(text.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # answer says why
        return self.answer(wait)

    def steps(self, count, wait):
        answer = self.order(f"steps {count}", wait)
        self.seconds = answer["seconds"]
        if "loss" in answer:
            if not math.isfinite(answer["loss"]):
                raise Failed("the loss is not finite")
            self.losses[self.taken + count] = answer["loss"]
        self.taken += count
        self.norm = self.norm or answer.get("norm", 0.0)
        return answer

    def turn(self, wait):
        """One timed repetition: short steps several times, after one that wakes threads and fills caches."""
        for attempt in range(RETRIES + 1):
            await_quiet()
            if self.warm:
                self.steps(1, wait)
            busy, own, start = busy_seconds(), self.cpu_seconds(), time.monotonic()
            answer = self.steps(self.repeat, wait)
            wall = time.monotonic() - start
            noisy = disturbed(busy_seconds() - busy, self.cpu_seconds() - own, wall)
            if not noisy:
                break
        self.noisy += noisy
        self.times.append(answer["seconds"])
        for part in answer.get("parts") or []:
            self.parts.setdefault(part["name"], []).append(part["seconds"])
        self.asleep()

    def cpu_seconds(self):
        total = 0
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            try:
                with open(f"/proc/{self.process.pid}/task/{task}/schedstat") as f:
                    total += int(f.read().split()[0])
            except OSError:
                pass  # a thread that ended
        return total * 1e-9

    def asleep(self):
        """Waits until the process does nothing any more."""
        start = time.monotonic()
        while time.monotonic() - start < IDLE_LIMIT:
            before = self.cpu_seconds()
            time.sleep(IDLE_WINDOW)
            if self.cpu_seconds() - before < IDLE_SHARE * IDLE_WINDOW:
                return
        sys.exit(f"{self.title} does not come to rest: its threads spin while others are timed")

    def median(self):
        return statistics.median(self.times) if self.times else self.alone

    def quartiles(self):
        if len(self.times) < 2:
            return self.median(), self.median()
        q = statistics.quantiles(self.times, n=4, method="inclusive")
        return q[0], q[2]

    def part(self, name):
        return statistics.median(self.parts[name]) if self.parts.get(name) else 0.0

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process:
            self.stderr.close()
            self.process.stdout.close()
            if os.path.exists(self.stderr.name):
                os.remove(self.stderr.name)
        self.process = None
