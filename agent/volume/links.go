package volume

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// linkNames makes the names at the top lead through ..data.
func (d *Dir) linkNames(names []string) error {
	for _, name := range names {
		target := path.Join(dataLink, name)
		switch got, err := d.root.Readlink(name); {
		case err == nil && got == target:
			continue
		case errors.Is(err, fs.ErrNotExist):
			if err := d.do(func() error { return d.root.Symlink(target, name) }); err != nil {
				return err
			}
		default:
			if err := d.replaceLink(name, target, nameLink); err != nil {
				return err
			}
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
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if target, err := d.root.Readlink(name); err != nil || target != path.Join(dataLink, name) || slices.Contains(names, name) {
			continue
		}
		if err := d.do(func() error { return d.root.Remove(name) }); err != nil {
			return err
		}
	}
	return nil
}

// sweep removes all sets but one, and temporary links.
func (d *Dir) sweep(keep string) error {
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		set := e.IsDir() && strings.HasPrefix(name, "..") && name != keep
		if !set && name != nextLink && name != nameLink {
			continue
		}
		if err := d.do(func() error { return d.root.RemoveAll(name) }); err != nil {
			return err
		}
	}
	return nil
}
