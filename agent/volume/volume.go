// Package volume keeps a directory whose files change together.
//
// The files of one set lie in a directory of their own. ..data is a symbolic link to it, and each name at the top is a
// symbolic link through ..data, as the kubelet does it for projected volumes:
//
//	conf     -> ..data/conf
//	..data   -> ..2026-11-22T03.33.10Z-K7Q2MZ4A
//	..2026-11-22T03.33.10Z-K7Q2MZ4A/conf/db.env
//
// Renaming a new link over ..data is the one moment at which all files change. Names that come are linked before it and
// names that go are unlinked after it, so that a reader that opens a file sees either the old set or the new one, also
// if the process is killed between any two steps. Nothing is synced: the directory is in memory.
package volume

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	dataLink = "..data"
	nextLink = "..data_next" // becomes dataLink
	nameLink = "..name_next" // becomes a name at the top, where something else stands
)

// A File is one file of a set.
type File struct {
	Path string // slash separated, below the directory
	Data []byte
	Mode fs.FileMode // permission bits; the umask does not matter
}

// Dir is a directory with one writer.
type Dir struct {
	root *os.Root
	step func() error // called before each change to the file system. Tests crash or fail there.
}

// Open opens an existing directory. Nothing outside it is ever touched, whatever links are in it.
func Open(directory string) (*Dir, error) {
	root, err := os.OpenRoot(directory)
	if err != nil {
		return nil, err
	}
	return &Dir{root: root, step: func() error { return nil }}, nil
}

// Close releases the directory.
func (d *Dir) Close() error { return d.root.Close() }

// Path returns the directory as Open was given it.
func (d *Dir) Path() string { return d.root.Name() }

// Written reports whether the directory has a complete set of files.
func (d *Dir) Written() bool { return d.generation() != "" }

// Write makes files the directory's set, and returns the paths that came, went or changed, sorted. A file whose content and
// mode stay is the same file as before, with its inode and times; if all stay, nothing happens. After an error without
// paths the old set is in place.
//
// The old set stays on disk, for readers that are just walking through it, until Sweep or the next Write.
func (d *Dir) Write(files []File) ([]string, error) {
	names, err := check(files)
	if err != nil {
		return nil, err
	}
	old := d.generation()
	stays, changed, err := d.compare(old, files)
	if err != nil {
		return nil, fmt.Errorf("read the files in place: %w", err)
	}
	if err := d.sweep(old); err != nil { // what a crash left, before it fills the volume
		return nil, err
	}
	if err := d.linkNames(names); err != nil {
		return nil, err
	}
	if old != "" && len(changed) == 0 {
		return nil, d.unlinkOthers(names)
	}
	next, err := d.writeSet(old, files, stays)
	if err == nil {
		err = d.replaceLink(dataLink, next, nextLink)
	}
	if err != nil {
		if next != "" {
			d.root.RemoveAll(next) // or the next Write does it
		}
		return nil, err
	}
	if err := d.unlinkOthers(names); err != nil {
		return changed, fmt.Errorf("the new files are in place, but links to old ones are left: %w", err)
	}
	return changed, nil
}

// Sizes returns what files take in the directory's volume, and what there is in all; 0 if that is not known. A volume in memory gives
// out whole pages.
func (d *Dir) Sizes(files []File) (size, volume int64) {
	page := int64(os.Getpagesize())
	for _, f := range files {
		size += (int64(len(f.Data)) + page - 1) / page * page
	}
	root, err := d.root.Open(".")
	if err != nil {
		return size, 0
	}
	defer root.Close()
	var stat syscall.Statfs_t
	if err := syscall.Fstatfs(int(root.Fd()), &stat); err != nil {
		return size, 0
	}
	return size, int64(stat.Blocks) * stat.Bsize
}

// Sweep removes the set that the last Write replaced.
func (d *Dir) Sweep() error { return d.sweep(d.generation()) }

// check returns the names at the top of the set, sorted.
func check(files []File) ([]string, error) {
	names := map[string]bool{}
	seen := map[string]bool{}
	for _, f := range files {
		if !fs.ValidPath(f.Path) || f.Path == "." || reserved(f.Path) {
			return nil, fmt.Errorf("%q is not a path below the directory", f.Path)
		}
		if seen[f.Path] {
			return nil, fmt.Errorf("%q is there twice", f.Path)
		}
		seen[f.Path] = true
		top, _, _ := strings.Cut(f.Path, "/")
		names[top] = true
	}
	for _, f := range files {
		for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
			if seen[dir] {
				return nil, fmt.Errorf("%q is a file and the directory of %q", dir, f.Path)
			}
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// reserved reports whether a path begins with two dots, as the names do that are used for switching. A single name of that
// kind that is none of them may be a file: it is for programs.
func reserved(p string) bool {
	rest, dots := strings.CutPrefix(p, "..")
	set := rest == "" || '0' <= rest[0] && rest[0] <= '9'
	return dots && (set || strings.Contains(rest, "/") || p == dataLink || p == nextLink || p == nameLink)
}

// generation returns the directory of the current set, or empty.
func (d *Dir) generation() string {
	target, err := d.root.Readlink(dataLink)
	if err != nil || !strings.HasPrefix(target, "..") || strings.Contains(target, "/") || target == ".." {
		return ""
	}
	if info, err := d.root.Lstat(target); err != nil || !info.IsDir() {
		return ""
	}
	return target
}

// compare says which files of the new set are in the old one as they should be, and which paths differ.
func (d *Dir) compare(old string, files []File) (stays map[string]bool, changed []string, err error) {
	before := map[string]fs.FileInfo{}
	if old != "" {
		err := fs.WalkDir(d.root.FS(), old, func(p string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			info, err := e.Info()
			before[strings.TrimPrefix(p, old+"/")] = info
			return err
		})
		if err != nil {
			return nil, nil, err
		}
	}
	stays = map[string]bool{}
	for _, f := range files {
		if info := before[f.Path]; info != nil && d.same(path.Join(old, f.Path), info, f) {
			stays[f.Path] = true
		} else {
			changed = append(changed, f.Path)
		}
		delete(before, f.Path)
	}
	changed = append(changed, slices.Collect(maps.Keys(before))...)
	slices.Sort(changed)
	return stays, changed, nil
}

func (d *Dir) same(name string, info fs.FileInfo, f File) bool {
	if info.Mode() != f.Mode.Perm() || info.Size() != int64(len(f.Data)) {
		return false
	}
	data, err := d.root.ReadFile(name)
	return err == nil && string(data) == string(f.Data)
}

// writeSet writes a set beside the current one and returns its directory, also after an error.
func (d *Dir) writeSet(old string, files []File, stays map[string]bool) (string, error) {
	next := ".." + time.Now().UTC().Format("2006-01-02T15.04.05Z-") + rand.Text()[:8]
	made := map[string]bool{".": true}
	if err := d.mkdir(next); err != nil {
		return "", err
	}
	for _, f := range files {
		if err := d.mkdirs(next, path.Dir(f.Path), made); err != nil {
			return next, err
		}
		name := path.Join(next, f.Path)
		if stays[f.Path] && d.do(func() error { return d.root.Link(path.Join(old, f.Path), name) }) == nil {
			continue
		}
		if err := d.writeFile(name, f); err != nil {
			return next, err
		}
	}
	return next, nil
}

func (d *Dir) mkdirs(base, dir string, made map[string]bool) error {
	if made[dir] {
		return nil
	}
	if err := d.mkdirs(base, path.Dir(dir), made); err != nil {
		return err
	}
	made[dir] = true
	return d.mkdir(path.Join(base, dir))
}

// mkdir lets every user in: the files' modes restrict reading. What fsGroup has set on the volume, that files belong to
// its group, is inherited and stays.
func (d *Dir) mkdir(name string) error {
	if err := d.do(func() error { return d.root.Mkdir(name, 0o755) }); err != nil {
		return err
	}
	info, err := d.root.Lstat(name)
	if err != nil {
		return err
	}
	return d.do(func() error { return d.root.Chmod(name, 0o755|info.Mode()&fs.ModeSetgid) })
}

func (d *Dir) writeFile(name string, f File) error {
	var file *os.File
	err := d.do(func() (err error) {
		file, err = d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	err = d.do(func() error { _, err := file.Write(f.Data); return err })
	if err == nil {
		err = d.do(func() error { return file.Chmod(f.Mode.Perm()) })
	}
	return errors.Join(err, file.Close())
}

func (d *Dir) do(change func() error) error {
	if err := d.step(); err != nil {
		return err
	}
	return change()
}
