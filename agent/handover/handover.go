// Package handover keeps what one process of the agent leaves for the next, init for sidecar and each for the one that replaces
// it: JSON files in a directory in memory that only the agent's containers mount. There are credentials and values in them.
package handover

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kms-agent-injector/kms-agent-injector/agent/atomicfile"
)

// format changes when an agent could misread what another version wrote. Both come from one image in one pod, so no other is
// ever converted.
const format = 3

type file struct {
	Format int `json:"format"`
	Holds  any `json:"holds"`
}

// Write replaces a file at one moment. No other user may read it.
func Write(directory, name string, what any) error {
	data, err := json.Marshal(file{format, what})
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(directory, name), 0o600, bytes.NewReader(data))
}

// Read fills what, a pointer, with what Write was given; its error is fs.ErrNotExist if there is nothing. After an error what is
// in the pointer is not to be used. No error quotes the file.
func Read(directory, name string, what any) error {
	data, err := os.ReadFile(filepath.Join(directory, name))
	if err != nil {
		return err
	}
	var head struct{ Format int }
	if json.Unmarshal(data, &head) != nil {
		return fmt.Errorf("%s is damaged", name)
	}
	if head.Format != format {
		return fmt.Errorf("%s has format %d, this agent reads %d", name, head.Format, format)
	}
	if json.Unmarshal(data, &file{Holds: what}) != nil {
		return fmt.Errorf("%s is damaged", name)
	}
	return nil
}

// Remove removes a file, if it is there.
func Remove(directory, name string) { os.Remove(filepath.Join(directory, name)) }
