//go:build e2e && linux

package cluster_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster"
)

// sentinel is in each Secret of TestAtRest.
const sentinel = "sentinel-of-a-secret-value"

// secretsAtRest is how many Secrets there are in the end.
var secretsAtRest = flag.Int("at-rest-secrets", 2_000, "Secrets of TestAtRest, between 1,500 and 10,000; make proof-at-rest: 5,000")

// kubectl kms at-rest reports what is in etcd, and has it rewritten, however the API server got another key.
func TestAtRest(t *testing.T) {
	options := cluster.Options{Dir: filepath.Join(t.TempDir(), "state"), Output: t.Output(), StorageVersionMigration: true,
		Encryption: &cluster.Encryption{Provider: "identity", Reload: true}}
	a := &atRest{T: t, plugin: buildPlugin(t), home: t.TempDir()}
	t.Cleanup(func() { down(t, options) })
	began := time.Now()
	a.Cluster = up(t, options)
	a.http = administrator(t, a.Cluster)
	step := func(format string, args ...any) {
		t.Logf("%6.1fs %s", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	step("up")

	const few = 1_500
	many := *secretsAtRest
	all := number(many)
	a.create("few", few)
	stored := a.stored()
	if n := stored[sentinel]; n != few {
		t.Fatalf("%d of %d values are plaintext in etcd: %v", n, few, stored)
	}
	a.run(1, "secrets are written as plaintext", "status")
	a.run(2, "switch encryption at rest on first", "migrate")
	step("plaintext")

	a.encrypt(true, "key1")
	a.run(1, "1,500 of 1,500 are plaintext in etcd", "status", "--probe", "--qps", "2000")
	a.run(0, "1,500 objects would be rewritten with k8s:enc:aescbc:v1:key1:", "migrate", "--dry-run")
	interrupted := a.interrupt(200, "migrate", "--via", "updates")
	if !strings.Contains(interrupted, "interrupted after ") || !strings.Contains(interrupted, "goes on from there") {
		t.Errorf("an interrupt makes it say\n%s", interrupted)
	}
	half := a.stored()
	resumed := a.run(0, "resumed after ", "migrate", "--via", "updates")
	step("%s", regexp.MustCompile(`resumed after .*, which`).FindString(resumed))
	if half[sentinel] == 0 || half[sentinel] == few {
		t.Errorf("interrupted when %d of %d were left", half[sentinel], few)
	}
	a.all("k8s:enc:aescbc:v1:key1:", few)
	a.run(0, "all 1,500 are stored with the key that writes", "status", "--qps", "2000")
	a.run(0, "0 written again, 1,500 had the key already", "migrate", "--via", "updates")
	a.nothing(step)

	a.create("many", many-few)
	a.all("k8s:enc:aescbc:v1:key1:", many)
	a.encrypt(false, "key2", "key1") // which the API server reads within a minute
	kubectl(t, a.Cluster, "create", "clusterrolebinding", "viewer", "--clusterrole=view", "--user=viewer")
	for _, want := range []string{"you are not allowed to get /metrics", "you are not allowed to list leases"} {
		a.run(2, want, "status", "--as", "viewer")
	}
	a.run(2, "you are not allowed to", "migrate", "--as", "viewer")
	a.run(2, "you are not allowed to list secrets in all namespaces", "migrate", "--as", "viewer", "--api-servers", "1")
	step("viewer")
	eventually(t, func() error {
		if n := a.reloads(); n == 0 {
			return errors.New("the configuration is not read anew")
		}
		return nil
	})
	step("key rotated")
	a.run(2, "the key with which", "status", "--count=false")
	report := a.run(1, all+" of "+all+" are stored with another key than the one that writes", "status", "--probe", "--qps", "2000")
	if !regexp.MustCompile(`secrets +` + all + ` +[0-9,]+ +old +k8s:enc:aescbc:v1:key1:\n`).MatchString(report) {
		t.Errorf("status does not say what is old:\n%s", report)
	}
	quiet := a.latency(2 * time.Second)
	var busy []time.Duration
	var wait sync.WaitGroup
	stop := make(chan struct{})
	wait.Go(func() { busy = a.latencyUntil(stop) })
	before := time.Now() // one is written first, to see that all API servers agree
	a.run(0, number(many-1)+" written again, 1 had the key already", "migrate", "--via", "updates")
	took := time.Since(before)
	close(stop)
	wait.Wait()
	step("%s Secrets in %s; another client's GET of a Secret takes %s before, %s meanwhile", all, took.Round(100*time.Millisecond),
		percentiles(quiet), percentiles(busy))
	if took > time.Minute {
		t.Errorf("%s Secrets took %s", all, took)
	}
	a.all("k8s:enc:aescbc:v1:key2:", many)
	a.run(0, "all "+all+" are stored with the key that writes", "status", "--probe", "--qps", "2000")
	step("nothing is old")

	a.encrypt(true, "key3", "key2")
	a.run(0, "written again by a StorageVersionMigration", "migrate")
	a.all("k8s:enc:aescbc:v1:key3:", many)
	a.run(0, "all "+all+" are stored with the key that writes", "status", "--probe", "--qps", "2000")
	if left := kubectl(t, a.Cluster, "get", "storageversionmigrations", "-o", "name"); left != "" {
		t.Errorf("left behind: %s", left)
	}
	step("StorageVersionMigration")
}

// number writes n, of four digits, as the plugin does.
func number(n int) string { return fmt.Sprintf("%d,%03d", n/1000, n%1000) }

// atRest is a cluster, and the plugin.
type atRest struct {
	*testing.T
	*cluster.Cluster
	http         *http.Client
	plugin, home string
}

func buildPlugin(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "kubectl-kms")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", program, "./cmd/kubectl-kms")
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build kubectl-kms: %v\n%s", err, out)
	}
	return program
}

// administrator returns a client without a rate limit.
func administrator(t *testing.T, c *cluster.Cluster) *http.Client {
	t.Helper()
	pki := filepath.Join(c.Dir(), "pki")
	pair, err := tls.LoadX509KeyPair(filepath.Join(pki, "admin.crt"), filepath.Join(pki, "admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	authority, err := os.ReadFile(filepath.Join(pki, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	return &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}}
}

func (a *atRest) ask(method, path, body string) (string, error) {
	request, err := http.NewRequestWithContext(a.Context(), method, a.Server+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := a.http.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode >= http.StatusMultipleChoices {
		err = fmt.Errorf("%s %s: %s: %s", method, path, answer.Status, text)
	}
	return string(text), err
}

// create makes a namespace with Secrets.
func (a *atRest) create(namespace string, n int) {
	a.Helper()
	kubectl(a.T, a.Cluster, "create", "namespace", namespace)
	var group errgroup.Group
	group.SetLimit(16)
	for i := range n {
		group.Go(func() error {
			_, err := a.ask(http.MethodPost, "/api/v1/namespaces/"+namespace+"/secrets",
				fmt.Sprintf(`{"metadata":{"name":"secret-%d"},"stringData":{"value":"%s-%d"}}`, i, sentinel, i))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		a.Fatal(err)
	}
}

var prefix = regexp.MustCompile(`^k8s:enc:[a-z0-9]+:v1:[a-z0-9]+:`)

// stored counts the Secrets in etcd by the prefix of their values, or as the sentinel if that can be read.
func (a *atRest) stored() map[string]int {
	a.Helper()
	values, err := a.EtcdValues(a.Context(), "/registry/secrets/")
	if err != nil {
		a.Fatal(err)
	}
	found := map[string]int{}
	for _, value := range values {
		if bytes.Contains(value, []byte(sentinel)) {
			found[sentinel]++
		} else {
			found[string(prefix.Find(value))]++
		}
	}
	return found
}

// all fails the test unless all are stored so.
func (a *atRest) all(as string, n int) {
	a.Helper()
	if found := a.stored(); len(found) != 1 || found[as] != n {
		a.Errorf("in etcd there are %v, want %d of %s", found, n, as)
	}
}

// nothing fails the test if a value is anywhere in etcd after compaction, where it was before.
func (a *atRest) nothing(step func(string, ...any)) {
	a.Helper()
	count := func() int {
		var dump bytes.Buffer
		if err := a.EtcdDump(a.Context(), &dump); err != nil {
			a.Fatal(err)
		}
		return bytes.Count(dump.Bytes(), []byte(sentinel))
	}
	before := count()
	if err := a.EtcdCompact(a.Context()); err != nil {
		a.Fatal(err)
	}
	after := count()
	step("etcd has values %d times, and %d times after compaction and defragmentation", before, after)
	if before == 0 || after != 0 {
		a.Errorf("etcd has values %d times before compaction, and %d after", before, after)
	}
}

// encrypt gives the API server keys, and has it start again for them or not.
func (a *atRest) encrypt(restart bool, keys ...string) {
	a.Helper()
	if err := a.Encrypt(cluster.Encryption{Provider: "aescbc", Keys: keys, Identity: true}); err != nil {
		a.Fatal(err)
	}
	if restart {
		if err := a.Restart(a.Context()); err != nil {
			a.Fatal(err)
		}
	}
}

func (a *atRest) reloads() int {
	metrics, err := a.ask(http.MethodGet, "/metrics", "")
	if err != nil {
		a.Fatal(err)
	}
	return strings.Count(metrics, "\napiserver_encryption_config_controller_automatic_reloads_total{")
}

func (a *atRest) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(a.Context(), a.plugin, append([]string{"at-rest", "--kubeconfig", a.Kubeconfig()}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+a.home, "XDG_CACHE_HOME=")
	return cmd
}

// run runs the plugin, which must end so and say so.
func (a *atRest) run(code int, says string, args ...string) string {
	a.Helper()
	cmd := a.command(args...)
	out, err := cmd.CombinedOutput()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		a.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), says) {
		a.Errorf("at-rest %s: exit code %d, want %d and %q:\n%s", strings.Join(args, " "), got, code, says, out)
	}
	if bytes.Contains(out, []byte(sentinel)) {
		a.Errorf("at-rest %s shows a value", strings.Join(args, " "))
	}
	return string(out)
}

// interrupt runs the plugin and interrupts it when so many Secrets are encrypted.
func (a *atRest) interrupt(n int, args ...string) string {
	a.Helper()
	cmd := a.command(args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		a.Fatal(err)
	}
	eventually(a.T, func() error {
		if a.stored()["k8s:enc:aescbc:v1:key1:"] < n {
			return errors.New("nothing is encrypted")
		}
		return nil
	})
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		a.Fatal(err)
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 2 {
		a.Errorf("interrupted, it ends with %d", code)
	}
	return out.String()
}

func (a *atRest) latency(during time.Duration) []time.Duration {
	stop := make(chan struct{})
	time.AfterFunc(during, func() { close(stop) })
	return a.latencyUntil(stop)
}

// latencyUntil has another client read a Secret again and again.
func (a *atRest) latencyUntil(stop <-chan struct{}) (took []time.Duration) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return took
		case <-tick.C:
			began := time.Now()
			if _, err := a.ask(http.MethodGet, "/api/v1/namespaces/few/secrets/secret-0", ""); err != nil {
				a.Error(err)
				return took
			}
			took = append(took, time.Since(began))
		}
	}
}

func percentiles(of []time.Duration) string {
	if len(of) == 0 {
		return "?"
	}
	slices.Sort(of)
	at := func(part int) time.Duration { return of[(len(of)-1)*part/100].Round(100 * time.Microsecond) }
	return fmt.Sprintf("%s (99 %%: %s)", at(50), at(99))
}
