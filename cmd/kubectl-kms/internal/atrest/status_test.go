package atrest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
)

const (
	key1 = "k8s:enc:aescbc:v1:key1:"
	key2 = "k8s:enc:aescbc:v1:key2:"
	v2a  = "k8s:enc:kms:v2:kms:sha256:aaaaaaaaaaaaaaaaaaaaaaaa"
	v2b  = "k8s:enc:kms:v2:kms:sha256:bbbbbbbbbbbbbbbbbbbbbbbb"
	hash = len("k8s:enc:kms:v2:kms:")
)

var usual = StatusOptions{Resources: []schema.GroupVersionResource{secrets}, Count: true}

func look1(t *testing.T, address string, o StatusOptions) (Report, string) {
	t.Helper()
	c, _ := cluster(t, address)
	r, err := c.Status(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	r.Text(screen.New(&out, func(string) string { return "" }))
	return r, out.String()
}

// What is in etcd now is told from what was, by whatever way the API server got its key.
func TestStatus(t *testing.T) {
	for name, c := range map[string]struct {
		stored map[string]int
		writes string
		set    func(*apiServer)
		probe  bool
		state  string
		says   string
	}{
		"no configuration": {map[string]int{plaintext: 3}, plaintext, (*apiServer).unconfigured, false, Broken,
			"✗ secrets are written as plaintext\n  → switch encryption at rest on"},
		"identity": {map[string]int{plaintext: 3}, plaintext, nil, true, Broken, "✗ secrets are written as plaintext\n"},
		"encrypted": {map[string]int{key1: 3}, key1, func(s *apiServer) {
			s.transform("secrets", write, key1)
			for range 100 { // long ago
				s.transform("secrets", read, plaintext)
			}
		}, false, Good, "✓ secrets: all 3 are stored with the key that writes\n"},
		"some plaintext": {map[string]int{key1: 3, plaintext: 2}, key1, nil, true, Broken, "✗ secrets: 2 of 5 are plaintext in etcd\n"},
		"old key": {map[string]int{key1: 3}, key2, func(s *apiServer) { s.transform("secrets", write, key2) }, false, Broken,
			"✗ secrets: 3 of 3 are stored with another key"},
		"two keys, unknown which": {map[string]int{key1: 3, key2: 2}, key2, nil, false, Broken,
			"✗ secrets: they are stored with different keys\n"},
		"one key, nothing written": {map[string]int{key1: 3}, key2, nil, false, Unknown, "? secrets: the key with which "},
		"read anew since": {map[string]int{key1: 3}, key2, func(s *apiServer) {
			s.transform("secrets", write, key1)
			s.reloads = 1
		}, false, Unknown, "? secrets: the key with which "},
		"read anew, and probed": {map[string]int{key1: 3}, key2, func(s *apiServer) {
			s.transform("secrets", write, key1)
			s.reloads = 1
		}, true, Broken, "✗ secrets: 3 of "},
		"two providers": {map[string]int{key1: 3, "k8s:enc:secretbox:v1:key1:": 2}, "k8s:enc:secretbox:v1:key1:", nil, true, Broken,
			"✗ secrets: 3 of 5 are"},
		"KMS": {map[string]int{v2a: 3}, v2a, func(s *apiServer) {
			s.transform("secrets", write, v2a)
			s.status[v2a[hash:]] = 2
		}, false, Good, "✓ secrets: all 3 are stored with the key that writes\n"},
		"KMS with a new key": {map[string]int{v2a: 3, v2b: 1}, v2b, func(s *apiServer) {
			s.transform("secrets", write, v2a)
			s.status[v2a[hash:]], s.status[v2b[hash:]] = 1, 2
		}, false, Broken, "✗ secrets: 3 of 4 are stored with another key"},
		"KMS v1": {map[string]int{"k8s:enc:kms:v1:old:": 3}, "k8s:enc:kms:v1:old:", func(s *apiServer) {
			s.transform("secrets", write, s.writes)
		}, false, Unknown, "? secrets: KMS v1 does not say which of its keys is in use; after a rotation, " +
			"kubectl kms at-rest migrate --annotate"},
		"unhealthy": {map[string]int{v2a: 3}, v2a, func(s *apiServer) {
			s.ready = "[+]ping ok\n[-]kms-providers failed: reason withheld\nreadyz check failed\n"
			s.status[v2a[hash:]] = 1
		}, false, Broken, "kms-providers is not healthy: writes fail soon"},
		"reload failed": {map[string]int{key1: 1}, key1, func(s *apiServer) {
			s.metrics[reloadLast+`{status="failure"}`] = 1_700_000_000
		}, false, Broken, "reloading its encryption configuration failed at 2023-11-14T22:13:20Z"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEtcd(0, "")
			e.leases = 1
			n := 0
			for as, count := range c.stored {
				for range count {
					n++
					e.secrets[fmt.Sprintf("shop/s-%d", n)] = &stored{uid: fmt.Sprint(n), version: n, as: as}
				}
			}
			s := e.server(t, c.writes)
			if c.set != nil {
				c.set(s)
			}
			o := usual
			if c.probe {
				o.Probe = "default"
			}
			r, text := look1(t, s.address, o)
			if c.probe {
				// its Secret is gone, and not counted
				if e.secrets["default/probe"] != nil {
					t.Error("the probe's Secret is left behind")
				}
			}
			if r.State() != c.state || !strings.Contains(text, c.says) {
				t.Errorf("%s, want %s and %q:\n%s", r.State(), c.state, c.says, text)
			}
		})
	}
}

// An interrupt leaves no probe behind, whenever it comes, and ends the command.
func TestProbeInterrupted(t *testing.T) {
	for _, migrates := range []bool{false, true} {
		e := newEtcd(3, key1)
		e.leases = 1
		s := e.server(t, key1)
		ctx, interrupt := context.WithCancel(t.Context())
		e.probed = func() {
			interrupt()
			time.Sleep(10 * time.Millisecond) // while the client waits for the answer
		}
		c, _ := cluster(t, s.address)
		o := usual
		o.Probe = "default"
		var err error
		if migrates {
			err = c.Migrate(ctx, options())
		} else {
			_, err = c.Status(ctx, o)
		}
		if !errors.Is(err, errInterrupted) || e.secrets["default/probe"] != nil {
			t.Errorf("migrate %v: %v; left behind: %v", migrates, err, e.secrets["default/probe"])
		}
	}
}

// Each API server is looked at, also those that only a new connection to a load balancer reaches, and those that cannot be are named.
func TestSeveralServers(t *testing.T) {
	e := newEtcd(3, key1)
	one, two := e.server(t, key1), e.server(t, key1)
	for _, s := range []*apiServer{one, two} {
		s.transform("secrets", write, key1)
	}
	e.slices = []string{one.address, two.address}
	r, text := look1(t, one.address, usual)
	if r.State() != Good || len(r.APIServers) != 2 || r.Expected != 2 {
		t.Errorf("by endpoints: %+v\n%s", r, text)
	}

	e.slices, e.leases = []string{"127.0.0.1:1"}, 2
	r, text = look1(t, balancer(t, one, two), usual)
	if r.State() != Good || len(r.APIServers) != 2 {
		t.Errorf("behind a load balancer: %+v\n%s", r, text)
	}

	r, text = look1(t, one.address, usual)
	if r.State() != Unknown || !strings.Contains(text, "? 127.0.0.1:1: ") || !strings.Contains(text, "? 1 of 2 API servers were seen\n") {
		t.Errorf("one out of reach: %s\n%s", r.State(), text)
	}

	e.slices = []string{one.address, two.address}
	two.writes = key2
	two.transform("secrets", write, key2)
	two.metrics = map[string]float64{}
	two.transform("secrets", write, key2)
	if r, text = look1(t, one.address, usual); r.State() != Broken || !strings.Contains(text, "the API servers write with different keys: ") {
		t.Errorf("with two keys: %s\n%s", r.State(), text)
	}

	one.config, two.config = "sha256:one", "sha256:two"
	if _, text = look1(t, one.address, usual); !strings.Contains(text, "✗ the API servers have different encryption configurations: ") {
		t.Errorf("with two configurations:\n%s", text)
	}
	one.config, two.config = "", ""
	one.status["sha256:a"], two.status["sha256:a"], two.status["sha256:b"] = 1, 1, 2
	if _, text = look1(t, one.address, usual); !strings.Contains(text, "✗ the API servers' KMS providers have different keys: ") ||
		!strings.Contains(text, two.address+" has k8s:enc:kms:v2:kms:sha256:b") {
		t.Errorf("with two KMS keys:\n%s", text)
	}
}

// An API server that has written nothing has the key of another with the same configuration.
func TestSameConfiguration(t *testing.T) {
	e := newEtcd(3, key1)
	one, two := e.server(t, key1), e.server(t, key1)
	e.slices = []string{one.address, two.address}
	two.transform("secrets", write, key1)
	if r, _ := look1(t, one.address, usual); r.State() != Unknown {
		t.Errorf("without a hash: %s", r.State())
	}
	one.config, two.config = "sha256:one", "sha256:one"
	if r, text := look1(t, one.address, usual); r.State() != Good {
		t.Errorf("with the same: %s\n%s", r.State(), text)
	}
}

// What the rights do not allow is said, and is never well.
func TestRights(t *testing.T) {
	for forbidden, says := range map[string]string{
		"GET /metrics":                        "you are not allowed to get /metrics",
		"GET /readyz":                         "the health of its KMS providers is not known: you are not allowed to get /readyz",
		"GET /api/v1/secrets":                 "you are not allowed to list secrets in all namespaces",
		"GET /api/v1/namespaces/shop/secrets": "you are not allowed to get secrets in all namespaces",
		"GET /apis/coordination.k8s.io":       "you are not allowed to list leases in namespace kube-system",
		"GET /apis/discovery.k8s.io":          "the number of API servers is not known; set --api-servers",
	} {
		e := newEtcd(3, key1)
		e.forbids = []string{forbidden}
		if strings.Contains(forbidden, "discovery") {
			e.forbids = append(e.forbids, "GET /apis/coordination.k8s.io")
		}
		s := e.server(t, key1)
		s.transform("secrets", write, key1)
		if !strings.Contains(forbidden, "coordination") && !strings.Contains(forbidden, "discovery") {
			e.leases = 1
		}
		r, text := look1(t, s.address, usual)
		if r.State() != Unknown || !strings.Contains(text, says) {
			t.Errorf("%s: %s, want it to say %q:\n%s", forbidden, r.State(), says, text)
		}
		for _, called := range s.requests {
			if !strings.HasPrefix(called, "GET ") {
				t.Errorf("status calls %s", called)
			}
		}
	}
}

// A Secret that is deleted during the count is no error; one that cannot be read is named.
func TestWhileCounting(t *testing.T) {
	e := newEtcd(5, key1)
	e.leases = 1
	s := e.server(t, key1)
	s.transform("secrets", write, key1)
	e.got = func(name string) int {
		if name == "shop/s-0002" {
			return http.StatusNotFound
		}
		return 0
	}
	if r, text := look1(t, s.address, usual); r.State() != Good {
		t.Errorf("%s\n%s", r.State(), text)
	}
	e.got = func(name string) int {
		if name == "shop/s-0002" {
			return http.StatusInternalServerError
		}
		return 0
	}
	if r, text := look1(t, s.address, usual); r.State() != Broken || !strings.Contains(text, "✗ secrets cannot be read: shop/s-0002: ") {
		t.Errorf("%s\n%s", r.State(), text)
	}
}

// Without counting there are the counters since the start; resources that were not asked for are shown with theirs.
func TestWithoutCounting(t *testing.T) {
	e := newEtcd(3, key1)
	e.leases = 1
	s := e.server(t, key1)
	s.transform("secrets", write, key1)
	s.transform("secrets", read, plaintext)
	s.transform("configmaps", read, key2)
	r, text := look1(t, s.address, StatusOptions{Resources: []schema.GroupVersionResource{secrets}})
	if r.State() != Unknown || !strings.Contains(text, "secrets: plaintext has been read 1 times since the API server's start") ||
		!regexp.MustCompile(`configmaps +– +1 +– +`+key2).MatchString(text) {
		t.Errorf("%s\n%s", r.State(), text)
	}
	if slices.ContainsFunc(s.requests, func(called string) bool { return strings.Contains(called, "/secrets") }) {
		t.Error("it reads Secrets")
	}
}

// Of KMS v2 it is said which key was last used when: whether the old one may go.
func TestKeys(t *testing.T) {
	e := newEtcd(1, v2a)
	e.leases = 1
	s := e.server(t, v2b)
	s.transform("secrets", write, v2b)
	s.status[v2a[hash:]], s.status[v2b[hash:]] = 1_700_000_000, 1_700_000_060
	r, _ := look1(t, s.address, usual)
	at := func(second int64) time.Time { return time.Unix(1_700_000_000+second, 0).UTC() }
	want := []Key{
		{Provider: "kms", Hash: v2a[hash:], Said: at(0), Reads: 2, LastRead: at(2)},
		{Provider: "kms", Hash: v2b[hash:], Said: at(60), Current: true, Writes: 1, LastWrite: at(1)},
	}
	if got := r.APIServers[0].Keys; !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestSample(t *testing.T) {
	for line, want := range map[string]string{
		`apiserver_storage_transformation_operations_total{resource="a\"}b",status="OK"} 1.5e+06`: `map[resource:a"}b status:OK] 1.5e+06`,
		`process_start_time_seconds 1.7 1700000000`:                                               `map[] 1.7`,

		`# HELP process_start_time_seconds x`:   "",
		`apiserver_request_total{code="200"} 1`: "",
		`process_start_time_seconds`:            "",
		`apiserver_encryption_config_controller_last_config_info{apiserver_id_hash="x",hash="sha256:\\"} one`: "",
	} {
		_, labels, value, ok := sample(line)
		if got := fmt.Sprint(labels, " ", value); ok && got != want || ok != (want != "") {
			t.Errorf("%s: %v %s", line, ok, got)
		}
	}
}
