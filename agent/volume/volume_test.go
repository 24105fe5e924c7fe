package volume

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func open(t *testing.T, directory string) *Dir {
	t.Helper()
	d, err := Open(directory)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func write(t *testing.T, d *Dir, files ...File) []string {
	t.Helper()
	changed, err := d.Write(files)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func file(path, data string) File { return File{Path: path, Data: []byte(data), Mode: 0o400} }

// visible is what a reader of the directory finds: content and mode by path. Names that lead nowhere are not there.
func visible(t interface{ Fatal(...any) }, directory string) map[string]string {
	found := map[string]string{}
	var walk func(string)
	walk = func(at string) {
		entries, err := os.ReadDir(filepath.Join(directory, at))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "..") {
				continue
			}
			name := filepath.Join(at, e.Name())
			info, err := os.Stat(filepath.Join(directory, name))
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				t.Fatal(err)
			case info.IsDir():
				walk(name)
			default:
				data, err := os.ReadFile(filepath.Join(directory, name))
				if err != nil {
					t.Fatal(err)
				}
				found[name] = info.Mode().String() + " " + string(data)
			}
		}
	}
	walk(".")
	return found
}

func inode(t *testing.T, path string) any {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return [2]any{info.Sys().(*syscall.Stat_t).Ino, info.ModTime()}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	if d.Written() {
		t.Error("an empty directory has a set")
	}
	if changed := write(t, d, file("api-key", "k1"), file("conf/db.env", "A=1"),
		File{Path: "conf/deep/x", Data: nil, Mode: 0o444}); !reflect.DeepEqual(changed, []string{"api-key", "conf/db.env", "conf/deep/x"}) {
		t.Errorf("changed: %q", changed)
	}
	want := map[string]string{"api-key": "-r-------- k1", "conf/db.env": "-r-------- A=1", "conf/deep/x": "-r--r--r-- "}
	if got := visible(t, dir); !reflect.DeepEqual(got, want) || !d.Written() {
		t.Errorf("got %q", got)
	}
	for name, target := range map[string]string{"api-key": "..data/api-key", "conf": "..data/conf"} {
		if got, err := os.Readlink(filepath.Join(dir, name)); err != nil || got != target {
			t.Errorf("%s -> %s, %v", name, got, err)
		}
	}

	// A set of which one file changes, one goes, one comes, one changes its mode, and one becomes a directory.
	if changed := write(t, d, file("api-key/now", "k1"), File{Path: "conf/db.env", Data: []byte("A=1"), Mode: 0o440},
		file("new", "n")); !reflect.DeepEqual(changed, []string{"api-key", "api-key/now", "conf/db.env", "conf/deep/x", "new"}) {
		t.Errorf("changed: %q", changed)
	}
	want = map[string]string{"api-key/now": "-r-------- k1", "conf/db.env": "-r--r----- A=1", "new": "-r-------- n"}
	if got := visible(t, dir); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
	if changed := write(t, d); len(changed) != 3 || len(visible(t, dir)) != 0 {
		t.Errorf("the empty set: %q, left %q", changed, visible(t, dir))
	}
}

func TestWhatDoesNotChangeIsNotTouched(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	write(t, d, file("a", "1"), file("b", "1"))
	set, _ := os.Readlink(filepath.Join(dir, "..data"))
	a, top := inode(t, filepath.Join(dir, "a")), inode(t, dir)

	if changed := write(t, d, file("b", "1"), file("a", "1")); len(changed) != 0 {
		t.Errorf("nothing changed but %q", changed)
	}
	if again, _ := os.Readlink(filepath.Join(dir, "..data")); again != set || inode(t, dir) != top {
		t.Error("an unchanged set was written again")
	}

	if changed := write(t, d, file("a", "1"), file("b", "2")); !slices.Equal(changed, []string{"b"}) {
		t.Errorf("changed: %q", changed)
	}
	if inode(t, filepath.Join(dir, "a")) != a {
		t.Error("an unchanged file was touched")
	}
}

// A reader that holds the old set's directory reads on in the old set, until Sweep.
func TestSweepRemovesTheReplacedSet(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	write(t, d, file("a", "1"))
	old, err := filepath.EvalSymlinks(filepath.Join(dir, "..data"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, d, file("a", "2"))
	if data, err := os.ReadFile(filepath.Join(old, "a")); err != nil || string(data) != "1" {
		t.Errorf("got %q, %v", data, err)
	}
	if err := d.Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old value is still there: %v", err)
	}
	if got := visible(t, dir)["a"]; got != "-r-------- 2" {
		t.Errorf("got %q", got)
	}
}

func TestMissingOrSpoiltFilesAreWrittenAgain(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	set := []File{file("a", "1"), file("conf/b", "2")}
	write(t, d, set...)
	want := visible(t, dir)
	for name, spoil := range map[string]func() error{
		"link removed": func() error { return os.Remove(filepath.Join(dir, "a")) },
		"link redirected": func() error {
			os.Remove(filepath.Join(dir, "a"))
			return os.Symlink("/etc/passwd", filepath.Join(dir, "a"))
		},
		"file instead of the link": func() error {
			os.Remove(filepath.Join(dir, "a"))
			return os.WriteFile(filepath.Join(dir, "a"), nil, 0o600)
		},
		"all links redirected": func() error {
			for _, name := range []string{"a", "conf"} {
				os.Remove(filepath.Join(dir, name))
				if err := os.Symlink("/etc/passwd", filepath.Join(dir, name)); err != nil {
					return err
				}
			}
			return nil
		},
		"file removed": func() error { return os.Remove(filepath.Join(dir, "..data/conf/b")) },
		"content changed": func() error {
			os.Remove(filepath.Join(dir, "..data/a"))
			return os.WriteFile(filepath.Join(dir, "..data/a"), []byte("9"), 0o400)
		},
		"mode changed":      func() error { return os.Chmod(filepath.Join(dir, "..data/a"), 0o444) },
		"data link removed": func() error { return os.Remove(filepath.Join(dir, "..data")) },
		"data link outwards": func() error {
			os.Remove(filepath.Join(dir, "..data"))
			return os.Symlink("/tmp", filepath.Join(dir, "..data"))
		},
	} {
		if err := spoil(); err != nil {
			t.Fatal(name, err)
		}
		write(t, d, set...)
		if got := visible(t, dir); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

// Foreign links in the directory never cause a write, replacement or removal outside of it.
func TestLinksLeadNowhere(t *testing.T) {
	outside := t.TempDir()
	for _, name := range []string{"a", "conf/b"} {
		path := filepath.Join(outside, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o400); err != nil { // as the set has it, so that it would be taken over
			t.Fatal(err)
		}
	}
	before := visible(t, outside)
	for name, target := range map[string]string{ // of the link, and of what was there
		"..data": "..2026-trap", "..2026-trap": outside, "..data_next": outside, "..name_next": filepath.Join(outside, "a"),
		"a": filepath.Join(outside, "a"), "conf": filepath.Join(outside, "conf"),
		"..data/conf": filepath.Join(outside, "conf"), "..data/a": filepath.Join(outside, "a"),
	} {
		dir := t.TempDir()
		d := open(t, dir)
		set := []File{file("a", "x"), file("conf/b", "x")}
		write(t, d, set...)
		link := filepath.Join(dir, name)
		if err := os.RemoveAll(link); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		if name == "..data" { // by way of a second one, beside it
			if err := os.Symlink(outside, filepath.Join(dir, target)); err != nil {
				t.Fatal(err)
			}
		}
		write(t, d, file("a", "x"), file("conf/b", "x"), file("c", "x"))
		write(t, d, set...)
		if err := d.Sweep(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := visible(t, outside); !reflect.DeepEqual(got, before) {
			t.Fatalf("%s: outside there is %q, and there was %q", name, got, before)
		}
		for _, f := range set {
			place, err := filepath.EvalSymlinks(filepath.Join(dir, f.Path))
			if err != nil || !strings.HasPrefix(place, dir+"/..") {
				t.Errorf("%s: %s is %s, %v", name, f.Path, place, err)
			}
		}
	}
}

func TestUmaskDoesNotMatter(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o777))
	dir := t.TempDir()
	os.Chmod(dir, 0o700)
	write(t, open(t, dir), File{Path: "conf/a", Data: []byte("x"), Mode: 0o444})
	if got := visible(t, dir)["conf/a"]; got != "-r--r--r-- x" {
		t.Errorf("got %q", got)
	}
	for _, name := range []string{"..data/", "conf/"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

// The kubelet gives a volume to the pod's fsGroup and sets its setgid bit, so that files in it are the group's.
func TestFilesBelongToTheGroupOfTheVolume(t *testing.T) {
	dir := t.TempDir()
	group := os.Getegid()
	if os.Geteuid() == 0 {
		group = 4321
	}
	if err := os.Chown(dir, -1, group); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777|fs.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	write(t, open(t, dir), file("conf/deep/a", "x"))
	for _, name := range []string{"..data/", "conf/deep/", "conf/deep/a"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if gid := info.Sys().(*syscall.Stat_t).Gid; int(gid) != group || info.IsDir() && info.Mode()&fs.ModeSetgid == 0 {
			t.Errorf("%s: %v of group %d, want %d", name, info.Mode(), gid, group)
		}
	}
}

func TestFullVolumeKeepsTheOldFiles(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	write(t, d, file("a", "1"))
	for _, fails := range []int{1, 2, 3, 4, 5, 6, 7, 8} {
		n := 0
		d.step = func() error {
			if n++; n == fails {
				return syscall.ENOSPC
			}
			return nil
		}
		_, err := d.Write([]File{file("a", "2"), file("b", "2")})
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("step %d: %v", fails, err)
		}
		if got := visible(t, dir); !reflect.DeepEqual(got, map[string]string{"a": "-r-------- 1"}) {
			t.Errorf("step %d: %q", fails, got)
		}
	}
}

func TestPathsThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	for _, paths := range [][]string{{""}, {"."}, {"/etc/x"}, {"a/../b"}, {"../x"}, {"..data"}, {"..data_next"}, {"..name_next"}, {".."},
		{"..2026-01-02"}, {"..0"}, {"..9"}, {"..x/y"}, {"a//b"}, {"a", "a"}, {"a", "a/b"}, {"a/b/c", "a"}} {
		var files []File
		for _, p := range paths {
			files = append(files, file(p, "x"))
		}
		if _, err := d.Write(files); err == nil {
			t.Errorf("%q was written", paths)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	for _, p := range []string{"..env", "..x", ".a", "...", "a..b"} { // names that are not reserved
		write(t, d, file(p, "x"))
	}
}

func TestForeignFilesStay(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"mine", "lost+found"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := open(t, dir)
	write(t, d, file("a", "1"))
	write(t, d, file("b", "1"))
	if got := visible(t, dir); len(got) != 3 || got["mine"] == "" {
		t.Errorf("got %q", got)
	}
}
