//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

// clientset talks to the API server without waiting for its own limit of requests.
func clientset(t testing.TB) *kubernetes.Clientset {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	config.WarningHandler = rest.NoWarnings{}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// A load creates annotated pods all the time, each once: nothing is tried again. The pods are never scheduled, so that they cost
// an admission and no more.
type load struct {
	stop   context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	phase  string
	counts map[string]*creations // by phase
	order  []string
}

// creations are what became of the pods of one phase.
type creations struct {
	pods        int
	errors      []string
	notInjected []string
	slowest     time.Duration
}

// startLoad creates some 40 pods a second in a namespace of its own until the test ends it.
func startLoad(t *testing.T) *load {
	t.Helper()
	ns := namespace(t)
	w := workload{name: "load", podSecurity: "runAsUser: 1000", spec: "schedulingGates: [{name: e2e.example.com/never}]",
		annotations: []string{"inject: true", "secret.f: e2e/load"}}
	reached(t, w.pod(ns))
	var pod corev1.Pod
	if err := yaml.Unmarshal([]byte(w.pod(ns)), &pod); err != nil {
		t.Fatal(err)
	}
	pod.Name, pod.GenerateName = "", "load-"
	ctx, stop := context.WithCancel(t.Context())
	l := &load{stop: stop, counts: map[string]*creations{}}
	l.during("quiet")
	client := clientset(t)
	const workers = 8
	for range workers {
		l.wg.Go(func() {
			tick := time.NewTicker(workers * time.Second / 40)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				l.create(client, pod)
			}
		})
	}
	t.Cleanup(func() { l.stop(); l.wg.Wait() })
	return l
}

func (l *load) create(client kubernetes.Interface, pod corev1.Pod) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	l.mu.Lock()
	phase := l.phase // in which it began
	l.mu.Unlock()
	began := time.Now()
	created, err := client.CoreV1().Pods(pod.Namespace).Create(ctx, &pod, metav1.CreateOptions{})
	took := time.Since(began)

	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts[phase]
	c.pods++
	c.slowest = max(c.slowest, took)
	switch {
	case err != nil:
		c.errors = append(c.errors, fmt.Sprintf("%s: %v", began.Format("15:04:05.000"), err))
	case !slices.ContainsFunc(created.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == "kms-agent-init" }):
		c.notInjected = append(c.notInjected, created.Name)
	}
}

// during names what happens from now on.
func (l *load) during(phase string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phase = phase
	if l.counts[phase] == nil {
		l.counts[phase] = &creations{}
		l.order = append(l.order, phase)
	}
}

// pods is how many pods have been created or refused.
func (l *load) pods() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, c := range l.counts {
		n += c.pods
	}
	return n
}

// end stops the load and wants at least some pods, each of them created at its one attempt, and injected.
func (l *load) end(t *testing.T, least int) {
	t.Helper()
	for l.pods() < least && !t.Failed() {
		eventually(t, patience, func() error {
			if l.pods() < least {
				return errNotYet
			}
			return nil
		})
	}
	l.stop()
	l.wg.Wait()
	total := l.pods()
	var table strings.Builder
	for _, phase := range l.order {
		c := l.counts[phase]
		fmt.Fprintf(&table, "  %-40s %5d pods  %3d failed  slowest %s\n", phase, c.pods, len(c.errors), ms(c.slowest))
		for i, e := range c.errors {
			if i == 5 {
				t.Errorf("%s: and %d more", phase, len(c.errors)-i)
				break
			}
			t.Errorf("%s: %s", phase, e)
		}
		if len(c.notInjected) > 0 {
			t.Errorf("%s: %d pods were created without being injected", phase, len(c.notInjected))
		}
	}
	t.Logf("%d pods, one attempt each:\n%s", total, &table)
}
