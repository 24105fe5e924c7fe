package volume

import (
	"io/fs"
	"path"
	"slices"
	"strings"
)

// linkNames makes the names at the top lead through ..data.
func (d *Dir) linkNames(names []string) error {
	for _, name := range names {
		target := path.Join(dataLink, name)
		if got, err := d.root.Readlink(name); err == nil && got == target {
			continue
		}
		if err := d.replaceLink(name, target, nameLink); err != nil {
			return err
		}
	}
	return nil
}

// replaceLink makes name a symbolic link to target at one moment, whatever file or link it was.
func (d *Dir) replaceLink(name, target, temporary string) error {
	if err := d.do(func() error { return d.root.Symlink(target, temporary) }); err != nil {
		return err
	}
	return d.do(func() error { return d.root.Rename(temporary, name) })
}

// unlinkOthers removes the names at the top that lead through ..data and are not of the set. Anything else there is not ours
// and stays.
func (d *Dir) unlinkOthers(names []string) error {
	return d.remove(func(e fs.DirEntry) bool {
		target, err := d.root.Readlink(e.Name())
		return err == nil && target == path.Join(dataLink, e.Name()) && !slices.Contains(names, e.Name())
	})
}

// sweep removes all sets but one, and temporary links.
func (d *Dir) sweep(keep string) error {
	return d.remove(func(e fs.DirEntry) bool {
		set := e.IsDir() && strings.HasPrefix(e.Name(), "..") && e.Name() != keep
		return set || e.Name() == nextLink || e.Name() == nameLink
	})
}

// remove removes what is to go of what is at the top.
func (d *Dir) remove(goes func(fs.DirEntry) bool) error {
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !goes(e) {
			continue
		}
		if err := d.do(func() error { return d.root.RemoveAll(e.Name()) }); err != nil {
			return err
		}
	}
	return nil
}
