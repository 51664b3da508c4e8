package fs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// needProgram skips where a program is missing, and fails where all must be.
func needProgram(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing(t, "programs", "no "+name)
		}
	}
}

// bothSides runs the same programs on a mount and on ext4.
type bothSides struct {
	*session
	source string // a directory of ext4 with what there is to copy
}

func newBothSides(t *testing.T) *bothSides {
	needFUSE(t)
	needExt4(t)
	b := &bothSides{newSession(t, nil), t.TempDir()}
	b.slack = time.Minute
	b.fillSource()
	return b
}

// fillSource makes files of every kind that programs treat in a way of its own.
func (b *bothSides) fillSource() {
	t := b.t
	weights := realWeights(t)
	at := func(name string) string { return filepath.Join(b.source, name) }
	must(t, os.MkdirAll(at("dir/empty"), 0o750))
	for name, data := range map[string][]byte{
		"model.safetensors": mixedModel(weights, 3<<20), "dir/weights.bin": weights[:2_000_003],
		"config.json": []byte(`{"layers": 6}`), "dir/nothing": nil, "log": bytes.Repeat([]byte("step 1 loss 2.31\n"), 20_000),
	} {
		must(t, os.WriteFile(at(name), data, 0o640))
	}
	must(t, os.WriteFile(at("sparse"), weights[:300_000], 0o600))
	must(t, os.Truncate(at("sparse"), 3_000_000))
	f, err := os.OpenFile(at("sparse"), os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(weights[:100_000], 2_000_000)
	must(t, err)
	must(t, f.Close())
	must(t, os.Link(at("dir/weights.bin"), at("dir/link")))
	must(t, os.Symlink("dir/weights.bin", at("symlink")))
	must(t, unix.Setxattr(at("config.json"), "user.note", []byte("a value"), 0))
	must(t, os.Chmod(at("config.json"), 0o444))
	old := time.Date(2021, 3, 4, 5, 6, 7, 123_456_789, time.UTC)
	for _, name := range []string{"model.safetensors", "dir/weights.bin", "config.json", "log", "sparse", "dir/empty", "dir"} {
		must(t, os.Chtimes(at(name), old, old))
	}
}

// sh runs a script on both sides, in their roots, and compares what it printed,
// how it ended, and what it left. It must succeed on ext4.
func (b *bothSides) sh(script string) {
	b.t.Helper()
	b.run(script)
	if d := b.compareTrees(); d != "" {
		b.t.Fatalf("after %s\n%s", script, d)
	}
}

// run is sh for programs that leave other bytes every time.
func (b *bothSides) run(script string) {
	b.t.Helper()
	var outs [2]string
	for i, s := range b.sides() {
		cmd := exec.Command("sh", "-euc", script)
		cmd.Dir = s.root
		cmd.Env = append(os.Environ(), "SOURCE="+b.source, "PYTHON="+os.Getenv("MITHRILFS_PYTHON"), "LC_ALL=C", "HOME="+b.source,
			"GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_AUTHOR_DATE=2021-01-01T00:00:00Z",
			"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org", "GIT_COMMITTER_DATE=2021-01-01T00:00:00Z")
		out, err := cmd.CombinedOutput()
		var failed *exec.ExitError
		if err != nil && !errors.As(err, &failed) {
			b.t.Fatal(err)
		}
		outs[i] = fmt.Sprintf("%sexit code %d", strings.ReplaceAll(string(out), s.root, "ROOT"), cmd.ProcessState.ExitCode())
		if i == 0 && err != nil {
			b.t.Fatalf("%s\nfails on ext4: %s", script, outs[0])
		}
	}
	if outs[0] != outs[1] {
		b.t.Fatalf("%s\non ext4: %s\non the mount: %s\nthe daemon's log ends:\n%s", script, outs[0], outs[1], tail(b.daemon.log.String()))
	}
}

// again compares everything after a remount.
func (b *bothSides) again() {
	b.t.Helper()
	if d := b.remount(); d != "" {
		b.t.Fatal(d)
	}
	if d := b.compareTrees(); d != "" {
		b.t.Fatalf("after a remount: %s", d)
	}
}

func TestRsync(t *testing.T) {
	needProgram(t, "rsync")
	b := newBothSides(t)
	b.sh(`rsync -aHX "$SOURCE"/ copy`)
	b.sh(`rsync -aHX --delete "$SOURCE"/ copy; rsync -aHXnic "$SOURCE"/ copy`) // nothing left to do
	// A source that changed, into files that are rewritten where they are.
	command(t, "sh", "-euc", `cd "$0"; printf changed | dd of=model.safetensors bs=1 seek=1000000 conv=notrunc status=none
		head -c 700000 dir/weights.bin >>log; touch -d 2022-01-01 log model.safetensors`, b.source)
	b.sh(`rsync -aHX --inplace --no-whole-file "$SOURCE"/ copy; rsync -aHXnic "$SOURCE"/ copy`)
	// What a broken transfer left is continued.
	b.sh(`truncate -s 1234567 copy/model.safetensors copy/dir/link; touch copy/model.safetensors
		rsync -aHX --append-verify "$SOURCE"/ copy; rsync -aHXc --inplace --partial "$SOURCE"/ copy; rsync -aHXnic "$SOURCE"/ copy`)
	b.sh(`truncate -s 0 copy/model.safetensors; rsync -aS --whole-file "$SOURCE"/ copy; rsync -anic "$SOURCE"/ copy`)
	b.sh(`rsync -aHX copy/ second; rm -r copy; rsync -aHX --remove-source-files second/ third`)
	b.again()
}

func TestTar(t *testing.T) {
	needProgram(t, "tar")
	b := newBothSides(t)
	// Where an archive says that holes are depends on the filesystem.
	b.sh(`mkdir in out; cp -a "$SOURCE"/. in; tar -C in --xattrs -cSf a.tar .; tar -C out --xattrs --xattrs-include='*' -xpSf a.tar
		tar -C out -df a.tar; diff -r in out; rm a.tar`)
	b.sh(`tar -C "$SOURCE" -cf b.tar model.safetensors dir; tar -rf b.tar -C "$SOURCE" log; tar -tf b.tar; mkdir x; tar -C x -xf b.tar; tar -C x -df b.tar`)
	b.again()
	b.sh(`tar -C x --overwrite -xf b.tar; tar -C x --unlink-first -xf b.tar model.safetensors log; tar -C x -df b.tar`)
	b.again()
}

func TestCopy(t *testing.T) {
	b := newBothSides(t)
	b.sh(`cp -a "$SOURCE" a; cp -a a b; cp --reflink=auto a/model.safetensors c; cp --sparse=always a/sparse d; cp --sparse=never a/sparse e
		cp -al a f; cp -as "$SOURCE" g; diff -r a b`)
	b.sh(`cp a/log c; cp -f a/dir/weights.bin c; cp --remove-destination a/sparse c; cp -u "$SOURCE"/log c; mv c a/c; install -m 600 a/log h`)
	b.sh(`cp --reflink=always a/log i 2>/dev/null || echo refused; cp --attributes-only a/log j; cp -b a/log h; ls -A`)
	b.again()
	b.sh(`cat a/model.safetensors a/dir/weights.bin >k; cat a/log >>k; head -c 1500000 k >l; tail -c +1500001 k >>l; cmp k l
		split -b 1000000 k part.; cat part.* | cmp - k; shuf -n 100 --random-source=k a/log >m; sort m -o m; sed -i s/loss/LOSS/ a/log; truncate -s +5M k`)
	b.again()
}

func TestDD(t *testing.T) {
	b := newBothSides(t)
	b.sh(`dd if="$SOURCE"/model.safetensors of=a bs=1M conv=fsync status=none; dd if="$SOURCE"/log of=b bs=7777 conv=fdatasync status=none
		dd if="$SOURCE"/dir/weights.bin of=a bs=4096 seek=100 count=50 conv=notrunc,fsync status=none
		dd if="$SOURCE"/dir/weights.bin of=a bs=1000 count=50 oflag=append conv=notrunc status=none
		dd if="$SOURCE"/dir/weights.bin of=a bs=1000 seek=5000 count=5 status=none
		dd if="$SOURCE"/sparse of=c bs=64K conv=sparse status=none; dd if=/dev/zero of=d bs=1M seek=3 count=0 status=none
		dd if="$SOURCE"/model.safetensors of=e bs=1M iflag=fullblock oflag=direct conv=notrunc status=none || dd if="$SOURCE"/model.safetensors of=e bs=1M status=none
		dd if=a bs=4096 iflag=direct status=none | cmp - a; dd if=a of=f bs=512 oflag=sync count=300 status=none`)
	b.again()
	b.sh(`dd if=a of=a bs=64K skip=3 seek=20 count=10 conv=notrunc status=none; dd if="$SOURCE"/log of=a bs=1M conv=nocreat status=none
		dd if=b bs=1K count=10 conv=excl of=new status=none; dd if=b of=b bs=1K skip=1 conv=notrunc status=none`)
	b.again()
}

func TestAttributePrograms(t *testing.T) {
	needProgram(t, "setfacl", "getfacl", "setfattr", "getfattr")
	b := newBothSides(t)
	b.sh(`cp "$SOURCE"/model.safetensors f; mkdir d; setfattr -n user.a -v 1 f; setfattr -n user.b -v 2 d; getfattr -d f d; setfattr -x user.a f
		setfacl -m u:1000:rw,g:65534:r f; getfacl -cp f; setfacl -d -m u:1000:rwx d; getfacl -cp d
		cp f d/g; getfacl -cp d/g; mkdir d/e; getfacl -cp d/e; ls -l f | cut -c1-11; setfacl -x u:1000 f; getfacl -cp f; setfacl -b f; ls -l f | cut -c1-11`)
	b.again()
	b.run(`getfacl -cpR d; getfattr -dR -m - d`)
}

func TestGit(t *testing.T) {
	needProgram(t, "git")
	b := newBothSides(t)
	b.run(`git init -q -b main r; cp -a "$SOURCE"/. r; cd r; git add -A; git commit -qm one; git status --porcelain; git rev-parse HEAD
		for i in 1 2 3 4 5 6 7 8; do echo $i >>config$i.json; head -c $((i * 100000)) dir/weights.bin >w$i; git add -A; git commit -qm $i; done
		git gc -q --prune=now; git fsck --full --strict; git repack -qadf; git log --raw --no-abbrev --format=%H`)
	if d := b.remount(); d != "" {
		t.Fatal(d)
	}
	b.run(`cd r; git fsck --full --strict; git status --porcelain; git branch other HEAD~4; git checkout -q other; git checkout -q main; git rm -q w1; git stash -q; git stash pop -q --index
		git commit -qm last; cd ..; git clone -q r local; git clone -q --no-local r remote; git -C remote fsck; git -C local rev-parse HEAD; git -C local worktree add -q ../wt
		rmdir r/dir/empty; diff -r --exclude=.git r local; git -C local mv log log2; git -C local commit -qm moved; git -C r pull -q ../local main; git -C r rev-parse HEAD`)
	b.sh(`rm -rf r/.git local/.git remote/.git wt/.git`)
	b.again()
}

// TestSQLite kills a program in the middle of commits: what it was told is
// committed is there.
func TestSQLite(t *testing.T) {
	py := python(t)
	rounds := 4
	if testing.Short() {
		rounds = 2
	}
	for _, mode := range []string{"WAL", "DELETE", "TRUNCATE", "PERSIST"} {
		t.Run(mode, func(t *testing.T) {
			b := newBothSides(t)
			file := b.mount.path("db")
			last := 0
			for range rounds {
				cmd := exec.Command(py, "../testdata/clients/sqlite_commits.py", "commit", file, mode)
				cmd.Stderr = os.Stderr
				out, err := cmd.StdoutPipe()
				must(t, err)
				must(t, cmd.Start())
				kill := sync.OnceFunc(func() { // some time after the first commit
					time.AfterFunc(rand.N(500*time.Millisecond), func() { _ = cmd.Process.Kill() })
				})
				for r := bufio.NewReader(out); ; {
					line, err := r.ReadString('\n')
					if errors.Is(err, io.EOF) {
						break
					}
					must(t, err)
					kill()
					_, err = fmt.Sscan(line, &last)
					must(t, err)
				}
				_ = cmd.Wait()
				if rand.N(2) == 0 {
					if d := b.remount(); d != "" {
						t.Fatal(d)
					}
				}
				report, err := exec.Command(py, "../testdata/clients/sqlite_commits.py", "check", file, fmt.Sprint(last)).CombinedOutput()
				if err != nil {
					t.Fatalf("after %d commits: %v %s", last, err, report)
				}
			}
			if last == 0 {
				t.Error("nothing was committed")
			}
			t.Logf("%d commits", last)
		})
	}
}

func TestMapFiles(t *testing.T) {
	python(t)
	b := newBothSides(t)
	script, err := filepath.Abs("../testdata/clients/map_files.py")
	must(t, err)
	b.sh(`"$PYTHON" ` + script + ` .`)
	b.again()
}

func TestFio(t *testing.T) {
	needProgram(t, "fio")
	size := "24m"
	if testing.Short() {
		size = "4m"
	}
	for name, args := range map[string]string{
		"sequential": "--ioengine=psync --rw=write --bs=128k",
		"random":     "--ioengine=psync --rw=randrw --bs=4k-64k --bsrange=4k-64k",
		"fsync":      "--ioengine=psync --rw=randwrite --bs=64k --fsync=16",
		"mapped":     "--ioengine=mmap --rw=randwrite --bs=16k",
		"direct":     "--ioengine=libaio --direct=1 --iodepth=8 --rw=randwrite --bs=32k",
		"mixed":      "--ioengine=libaio --direct=1 --iodepth=8 --rw=randrw --bsrange=4k-64k",
		"threads":    "--ioengine=psync --rw=randwrite --bs=32k --numjobs=4 --thread",
		"numbers":    "--ioengine=psync --rw=write --bs=256k --buffer_compress_percentage=50 --refill_buffers",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBothSides(t)
			b.run(`fio --name=t --size=` + size + ` --verify=crc32c --verify_fatal=1 --do_verify=1 --randseed=7 --output=/dev/null ` + args)
			if d := b.remount(); d != "" {
				t.Fatal(d)
			}
		})
	}
}

// stressors are those of stress-ng's class filesystem that run on ext4 too, and
// are done in a second.
var stressors = []string{"dentry", "dir", "dirdeep", "fallocate", "fcntl", "flock", "fstat", "getdent", "link", "lockf", "locka", "lockofd",
	"mmap", "open", "readahead", "rename", "seek", "symlink", "sync-file", "touch", "utime", "xattr", "copy-file", "dup", "hdd", "iomix", "eventfd"}

func TestStressNG(t *testing.T) {
	needProgram(t, "stress-ng")
	b := newBothSides(t)
	for _, s := range stressors {
		if testing.Short() && len(s)%3 != 0 {
			continue
		}
		t.Run(s, func(t *testing.T) {
			dir := b.mount.path(s)
			must(t, os.Mkdir(dir, 0o777))
			cmd := exec.Command("timeout", "60", "stress-ng", "--"+s, "2", "-t", "1", "--verify", "--temp-path", dir)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			left, err := os.ReadDir(dir)
			must(t, err)
			if len(left) > 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
}
