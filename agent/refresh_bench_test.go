package agent

import (
	"fmt"
	"io"
	"runtime"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/metrics"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

// What the agent itself costs in every pod, every few minutes, mostly for nothing: 20 secrets that have not changed. The
// cloud's answers are in memory; without it, a refresh touches no file and allocates less than a megabyte.
func BenchmarkRefreshUnchanged(b *testing.B) {
	const secrets, most = 20, 1 << 20
	doc := agentconfig.Config{SecretsDir: b.TempDir(), StateDir: b.TempDir()}
	for i := range secrets {
		name := fmt.Sprint("app/secret-", i)
		doc.Files = append(doc.Files, agentconfig.File{Path: name, Mode: 0o400, Secret: name, Format: config.Env})
	}
	cloud := &clockwork{answer: func(_ int, ref kms.Ref) (kms.Secret, error) {
		return kms.Secret{Name: ref.Name, VersionID: "v1", Data: []byte(`{"user":"app","password":"correct horse"}`)}, nil
	}}
	a, err := New(doc, sourceOf(cloud), metrics.New(), NewLogger(io.Discard, doc))
	if err != nil {
		b.Fatal(err)
	}
	dir, err := openViews(doc)
	if err != nil {
		b.Fatal(err)
	}
	defer dir.close()
	if _, changed, err := a.refresh(b.Context(), dir, &snapshot{Values: values{}}); err != nil || len(changed) != secrets {
		b.Fatalf("the first files: %d, %v", len(changed), err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		if _, changed, err := a.refresh(b.Context(), dir, &snapshot{Values: values{}}); err != nil || len(changed) != 0 {
			b.Fatalf("changed %v, %v", changed, err)
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / uint64(n); each >= most {
		b.Errorf("a refresh allocates %d bytes, at most %d are allowed", each, most)
	}
}
