package exec

import (
	"fmt"
	"io"
	"os"

	"github.com/kms-agent-injector/kms-agent-injector/agent/atomicfile"
)

// running is the program of this process, wherever its file is.
const running = "/proc/self/exe"

// Install copies this program to path, for the containers whose commands it runs; "" is nowhere. A complete copy stays as it is: a
// container may be running it.
func Install(path string) error {
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
	err = atomicfile.Write(path, 0o555, func(w io.Writer) error {
		_, err := io.Copy(w, program)
		return err
	})
	if err != nil {
		return fmt.Errorf("copy the agent's program to %s: %w", path, err)
	}
	return nil
}
