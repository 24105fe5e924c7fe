//go:build linux

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/node"
)

// EtcdDump writes etcd's database to w: a snapshot of the whole key space, with every revision that is not compacted and
// whatever its freed pages still hold. Keys and values are in it as they are, uninterrupted, so that a search for bytes
// that should not be there finds them. (Kubernetes stores built-in types as protobuf, where strings are plain, and custom
// resources as JSON.)
func (c *Cluster) EtcdDump(ctx context.Context, w io.Writer) error {
	process, err := node.Find(c.dir)
	if err != nil {
		return err
	}
	if process == nil {
		return fmt.Errorf("dump etcd: %w in %s", ErrNotRunning, c.dir)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return process.Dial(ctx, network, address)
	}}}
	defer client.CloseIdleConnections()
	// etcd's own JSON gateway, which spares a client library.
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, node.EtcdURL+"/v3/maintenance/snapshot", strings.NewReader("{}"))
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("dump etcd: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("dump etcd: %s", response.Status)
	}
	return copySnapshot(w, response.Body)
}

// copySnapshot reads a stream of SnapshotResponse messages, a JSON document each, the last of which has no bytes left
// behind it.
func copySnapshot(w io.Writer, stream io.Reader) error {
	chunks := json.NewDecoder(stream)
	for {
		var chunk struct {
			Result struct {
				Blob      []byte
				Remaining json.Number `json:"remaining_bytes"`
			}
			Error struct{ Message string }
		}
		err := chunks.Decode(&chunk)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read etcd's snapshot: %w", err)
		case chunk.Error.Message != "":
			return fmt.Errorf("read etcd's snapshot: %s", chunk.Error.Message)
		}
		if _, err := w.Write(chunk.Result.Blob); err != nil {
			return err
		}
	}
}
