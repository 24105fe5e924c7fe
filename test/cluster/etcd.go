//go:build linux

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/node"
)

// EtcdDump writes a snapshot of etcd's database to w, with every revision that is not compacted and the content of freed
// pages. Keys and values are contiguous in it, so a search finds bytes that should not be there. (Kubernetes stores built-in
// types as protobuf, with plain strings, and custom resources as JSON.)
func (c *Cluster) EtcdDump(ctx context.Context, w io.Writer) error {
	return c.etcd(ctx, "maintenance/snapshot", struct{}{}, func(answer io.Reader) error { return copySnapshot(w, answer) })
}

// EtcdValues returns the raw values of the keys with a prefix, such as /registry/secrets/.
func (c *Cluster) EtcdValues(ctx context.Context, prefix string) (map[string][]byte, error) {
	end := []byte(prefix)
	end[len(end)-1]++
	var found struct{ KVs []struct{ Key, Value []byte } }
	err := c.etcd(ctx, "kv/range", map[string][]byte{"key": []byte(prefix), "range_end": end}, decoding(&found))
	values := map[string][]byte{}
	for _, kv := range found.KVs {
		values[string(kv.Key)] = kv.Value
	}
	return values, err
}

// EtcdCompact removes all but the latest values from etcd, and frees the pages of the others.
func (c *Cluster) EtcdCompact(ctx context.Context) error {
	var status struct {
		Header struct {
			Revision json.Number `json:"revision"`
		}
	}
	if err := c.etcd(ctx, "maintenance/status", struct{}{}, decoding(&status)); err != nil {
		return err
	}
	err := c.etcd(ctx, "kv/compaction", map[string]any{"revision": status.Header.Revision, "physical": true}, decoding(&struct{}{}))
	if err != nil {
		return err
	}
	return c.etcd(ctx, "maintenance/defragment", struct{}{}, decoding(&struct{}{}))
}

func decoding(into any) func(io.Reader) error {
	return func(answer io.Reader) error { return json.NewDecoder(answer).Decode(into) }
}

// etcd calls a method of etcd's JSON gateway, which needs no client library.
func (c *Cluster) etcd(ctx context.Context, method string, request any, read func(io.Reader) error) error {
	process, err := node.Find(c.dir)
	if err != nil {
		return err
	}
	if process == nil {
		return fmt.Errorf("ask etcd: %w in %s", ErrNotRunning, c.dir)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return process.Dial(ctx, network, address)
	}}}
	defer client.CloseIdleConnections()
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, node.EtcdURL+"/v3/"+method, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := client.Do(post)
	if err != nil {
		return fmt.Errorf("ask etcd: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10)) // only for the error
		return fmt.Errorf("etcd's %s: %s: %s", method, response.Status, said)
	}
	return read(response.Body)
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
