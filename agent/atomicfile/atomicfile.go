// Package atomicfile writes files that are complete whenever they are there.
package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// Write replaces a file at one moment. Its mode does not depend on the umask. A file has one writer at a time.
func Write(path string, mode fs.FileMode, content io.Reader) error {
	next := path + ".next"
	os.Remove(next) // of a writer that was killed; it may be read-only
	file, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = io.Copy(file, content); err == nil {
		err = file.Chmod(mode)
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		os.Remove(next)
	}
	return err
}
