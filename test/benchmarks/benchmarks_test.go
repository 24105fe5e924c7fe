// Package benchmarks measures kms-agent as the program that is in every pod, beside the least that a server in Go costs.
package benchmarks

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// The sizes that an agent may have, in bytes. Times have no limits: they are the machine's.
const (
	mostBinary = 12e6
	mostIdle   = 6e6 // private memory: 20 secrets, the local API on, refreshed, asked, and waiting for the next refresh
)

// BenchmarkBinary prints how big the program is, as it goes into the image.
func BenchmarkBinary(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	ours, bare := size(b, build(b).agent), size(b, build(b).bare)
	b.ReportMetric(ours/1e6, "MB")
	b.ReportMetric(bare/1e6, "bare-MB")
	if ours > mostBinary {
		b.Errorf("kms-agent has %.0f bytes, at most %.0f are allowed", ours, mostBinary)
	}
}

func size(b *testing.B, path string) float64 {
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	return float64(info.Size())
}

// BenchmarkStart prints what a pod's start costs in CPU, as a ratio to the bare server's too: from exec to the end of kms-agent init,
// which has fetched 20 secrets with a session of STS and written 20 files.
func BenchmarkStart(b *testing.B) {
	p := newPod(b)
	var ours, bare []time.Duration
	for b.Loop() {
		p.empty(b)
		ours = append(ours, p.init(b))
		if _, err := os.ReadFile(filepath.Join(p.doc.SecretsDir, p.doc.Files[0].Path)); err != nil {
			b.Fatal(err)
		}
		server := startBare(b)
		bare = append(bare, server.end(b))
	}
	// The least is what the process needs; the rest is what others on the machine cost it, by emptying its caches.
	least, leastBare := slices.Min(ours), slices.Min(bare)
	b.ReportMetric(float64(least)/float64(leastBare), "x-bare")
	b.ReportMetric(milliseconds(least), "cpu-ms")
	b.ReportMetric(milliseconds(leastBare), "bare-cpu-ms")
}

// BenchmarkIdle prints how much private memory a sidecar has while it waits, which is all but all of its life.
func BenchmarkIdle(b *testing.B) {
	p := newPod(b)
	p.init(b)
	for b.Loop() {
		sidecar := p.run(b)
		p.get(b)
		sidecar.waitFor(b, "refreshed")
		sidecar.waitFor(b, "refreshed")
		ours := sidecar.settled(b)
		server := startBare(b)
		bare := server.settled(b)
		sidecar.end(b)
		server.end(b)

		b.ReportMetric(ours/1e6, "private-MB")
		b.ReportMetric(bare/1e6, "bare-private-MB")
		if ours > mostIdle {
			b.Errorf("an idle agent has %.0f bytes of private memory, at most %.0f are allowed", ours, mostIdle)
		}
	}
}
