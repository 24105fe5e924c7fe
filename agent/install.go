package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// running is the program of this process, wherever its file is.
const running = "/proc/self/exe"

// install copies this program to path, for the containers whose commands it runs. A complete copy stays as it is: one may be
// running it.
func install(path string) error {
	if path == "" {
		return nil
	}
	program, err := os.Open(running)
	if err != nil {
		return fmt.Errorf("read the agent's program: %w", err)
	}
	defer program.Close()
	info, err := program.Stat()
	if err != nil {
		return fmt.Errorf("read the agent's program: %w", err)
	}
	if there, err := os.Stat(path); err == nil && there.Size() == info.Size() {
		return nil // a copy gets its name last
	}
	if err := copyProgram(path, program); err != nil {
		return fmt.Errorf("copy the agent's program to %s: %w", path, err)
	}
	return nil
}

func copyProgram(path string, program io.Reader) error {
	next := path + ".next"
	file, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, program)
	if err == nil {
		err = file.Chmod(0o555) // for every user, whatever the umask
	}
	if err := errors.Join(err, file.Close()); err != nil {
		os.Remove(next)
		return err
	}
	return os.Rename(next, path)
}
