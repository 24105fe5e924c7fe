//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	foreignSecrets = flag.Int("foreign-secrets", 1000, "Secrets of 10 kB that kms-sync did not make, beside which its memory is measured")
	memoryTime     = flag.Duration("memory-time", 3*time.Second, "how long kms-sync's memory is measured, once it leads")
)

const megabyte = 1 << 20

// Secrets that are not kms-sync's take none of its memory.
func (c controller) testMemory(t *testing.T) {
	ns := namespace(t)
	kubectl(t, "-n", c.system, "scale", "deployment", "kms-sync", "--replicas=1")
	alone := c.memory(t)

	client := clientset(t)
	data := map[string][]byte{"x": bytes.Repeat([]byte("x"), 10_000)}
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(16)
	for i := range *foreignSecrets {
		group.Go(func() error {
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("foreign-%d", i)}, Data: data}
			_, err := client.CoreV1().Secrets(ns).Create(ctx, secret, metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	beside := c.memory(t)
	fmt.Printf("\nMemory of kms-sync in the first %s of its work, the most:\n  %-32s resident %5.1f MB, working set %5.1f MB\n"+
		"  %-32s resident %5.1f MB, working set %5.1f MB\n\n", *memoryTime, "beside no Secrets of others:", alone.resident, alone.workingSet,
		fmt.Sprintf("beside %d of 10 kB each:", *foreignSecrets), beside.resident, beside.workingSet)
	if more := beside.resident - alone.resident; beside.resident == 0 || more > float64(*foreignSecrets*len(data["x"]))/megabyte/2 {
		t.Errorf("%.1f MB more than without them, want less than half of what they have", more)
	}
	// The kubelet measures the working set every ten seconds or so.
	if *memoryTime >= time.Minute && (beside.workingSet == 0 || beside.workingSet > 50) {
		t.Error("want a working set of 50 MB at most")
	}
}

// A footprint is in megabytes.
type footprint struct{ resident, workingSet float64 }

var (
	residentMemory = regexp.MustCompile(`(?m)^process_resident_memory_bytes (\S+)$`)
	leads          = regexp.MustCompile(`(?m)^leader_election_master_status\{.*\} 1$`)
)

// memory starts the controller anew and returns the most that it has of each from then on.
func (c controller) memory(t *testing.T) (most footprint) {
	t.Helper()
	kubectl(t, "-n", c.system, "rollout", "restart", "deployment/kms-sync")
	kubectl(t, "-n", c.system, "rollout", "status", "deployment/kms-sync", "--timeout=5m")
	c.settled(t)
	pod := kubectl(t, "-n", c.system, "get", "pods", "-l", "app.kubernetes.io/name=kms-sync", "-o", "jsonpath={.items[0].metadata.name}")
	node := kubectl(t, "-n", c.system, "get", "pod", pod, "-o", "jsonpath={.spec.nodeName}")
	var metrics string
	scrape := func() error {
		out, err := tryKubectl(t.Context(), "", "get", "--raw", "/api/v1/namespaces/"+c.system+"/pods/"+pod+":8080/proxy/metrics")
		metrics = out
		return err
	}
	eventually(t, patience, func() error { // one that does not lead has nothing in memory
		if err := scrape(); err != nil {
			return err
		}
		if !leads.MatchString(metrics) {
			return errNotYet
		}
		return nil
	})
	for began := time.Now(); time.Since(began) < *memoryTime; time.Sleep(time.Second) {
		if err := scrape(); err != nil {
			t.Fatal(err)
		}
		if found := residentMemory.FindStringSubmatch(metrics); found != nil {
			resident, err := strconv.ParseFloat(found[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			most.resident = max(most.resident, resident/megabyte)
		}
		var summary struct {
			Pods []struct {
				PodRef struct{ Name, Namespace string }
				Memory struct{ WorkingSetBytes float64 }
			}
		}
		if err := json.Unmarshal([]byte(kubectl(t, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/stats/summary")), &summary); err != nil {
			t.Fatal(err)
		}
		for _, p := range summary.Pods {
			if p.PodRef.Name == pod && p.PodRef.Namespace == c.system {
				most.workingSet = max(most.workingSet, p.Memory.WorkingSetBytes/megabyte)
			}
		}
	}
	return most
}
