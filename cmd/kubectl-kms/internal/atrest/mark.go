package atrest

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// A mark is a file from which an interrupted migration resumes: objects written after its resource version are encrypted with its key.
type mark struct{ file string }

type state struct {
	Key     string    `json:"key"`             // as the API servers showed it
	Version string    `json:"resourceVersion"` // of the list of objects, made when all API servers had that key
	Began   time.Time `json:"began"`
}

// openMark returns the mark of a resource in a cluster, kept in the user's cache folder. Without such a folder, nothing is kept.
func openMark(cluster, resource string) mark {
	folder, err := os.UserCacheDir()
	if err != nil {
		return mark{}
	}
	sum := sha256.Sum256([]byte(cluster + "/" + resource))
	return mark{filepath.Join(folder, "kubectl-kms", fmt.Sprintf("at-rest-%x.json", sum[:8]))}
}

func (m mark) read() (state, bool) {
	text, err := os.ReadFile(m.file)
	var s state
	return s, err == nil && json.Unmarshal(text, &s) == nil && s.Version != ""
}

func (m mark) write(s state) error {
	if m.file == "" {
		return fmt.Errorf("there is no cache folder: set HOME or XDG_CACHE_HOME")
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(m.file), 0o700); err != nil {
		return err
	}
	return os.WriteFile(m.file, text, 0o600)
}

func (m mark) remove() { os.Remove(m.file) }
