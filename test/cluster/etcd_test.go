//go:build linux

package cluster

import (
	"bytes"
	"strings"
	"testing"
)

func TestCopySnapshot(t *testing.T) {
	var out bytes.Buffer
	stream := `{"result":{"remaining_bytes":"6","blob":"c2VjcmV0"}}` + "\n" + `{"result":{"blob":"LXZhbHVl"}}` + "\n"
	if err := copySnapshot(&out, strings.NewReader(stream)); err != nil || out.String() != "secret-value" {
		t.Errorf("got %q, %v", out.String(), err)
	}
	for _, broken := range []string{`{"error":{"message":"no leader"}}`, `{"result":{"blob":"c2Vjc`} {
		if err := copySnapshot(&out, strings.NewReader(broken)); err == nil {
			t.Errorf("no error for %s", broken)
		}
	}
}
