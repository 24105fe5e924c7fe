package atrest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
	"github.com/kms-agent-injector/kms-agent-injector/test/terminal"
)

func options() MigrateOptions {
	return MigrateOptions{Resources: []schema.GroupVersionResource{secrets}, Wait: 10 * time.Second, Via: Auto, Probe: "default"}
}

// marks are the files of interrupted migrations.
func marks(t *testing.T) []string {
	t.Helper()
	folder, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(folder, "kubectl-kms", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Everything is written again that is not stored with the key, and nothing else; pages that come too late, objects that are deleted
// meanwhile and those that other clients write are none that are left.
func TestMigrate(t *testing.T) {
	e := newEtcd(1_501, plaintext)
	e.leases, e.expire = 1, 1
	for i := range 219 {
		e.secrets[fmt.Sprintf("shop/s-%04d", i)].as = key2
	}
	s := e.server(t, key2)
	e.patched = func(name string) int {
		switch name {
		case "shop/s-0500":
			delete(e.secrets, name)
		case "shop/s-0501": // made anew
			e.version++
			e.secrets[name] = &stored{uid: "other", version: e.version, as: key2}
		}
		return 0
	}
	c, out := cluster(t, s.address)
	if err := c.Migrate(t.Context(), options()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if found := e.count(); !reflect.DeepEqual(found, map[string]int{key2: 1_500}) {
		t.Errorf("%v", found)
	}
	for _, want := range []string{"1 of 1 API servers seen\n", "secrets: all API servers write with ",
		"secrets: 1,280 written again, 219 had the key already, 1 written by other clients meanwhile in "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	if left := marks(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	out.Reset()
	e.patched = nil
	if err := c.Migrate(t.Context(), options()); err != nil || !strings.Contains(out.String(), "0 written again, 1,500 had the key already") {
		t.Errorf("%v\n%s", err, out)
	}
}

// An interrupted migration resumes with the remaining objects, unless the key has changed.
func TestResume(t *testing.T) {
	for _, rotated := range []bool{false, true} {
		e := newEtcd(1_501, plaintext)
		e.leases = 1
		s := e.server(t, key1)
		c, out := cluster(t, s.address)
		ctx, interrupt := context.WithCancel(t.Context())
		patches := 0
		e.patched = func(string) int {
			if patches++; patches == 219 {
				interrupt()
			}
			return 0
		}
		err := c.Migrate(ctx, options())
		if err == nil || !strings.Contains(err.Error(), " of 1,501; the same command goes on from there") || len(marks(t)) != 1 {
			t.Fatalf("%v, %q", err, marks(t))
		}
		done := e.count()[key1]
		if rotated {
			s.writes, s.started = key2, s.started+1
		}
		patches = 1_000_000
		out.Reset()
		if err := c.Migrate(t.Context(), options()); err != nil {
			t.Fatal(err)
		}
		again := patches - 1_000_000
		if found := e.count(); found[s.writes] != 1_501 {
			t.Errorf("%v", found)
		}
		after := 0
		line := regexp.MustCompile(`secrets: resumed after (\d+) of 1,501, which were rewritten since `)
		if m := line.FindStringSubmatch(out.String()); m != nil {
			after, _ = strconv.Atoi(m[1])
		}
		// One was written to see that all API servers agree; and requests under way at the interrupt may still have come through.
		if resumed := after >= done-1 && after <= done+parallel; resumed == rotated || !rotated && again > 1_501-after+2 {
			t.Errorf("the key rotated: %v; interrupted after %d, resumed after %d, then %d patches:\n%s", rotated, done, after, again, out)
		}
		if rotated && !strings.Contains(out.String(), "the key is not that of the interrupted migration") {
			t.Errorf("it does not say that the key changed:\n%s", out)
		}
		if left := marks(t); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
}

// Nothing is written, but for one object to see it, before all API servers write with one key.
func TestAgreement(t *testing.T) {
	e := newEtcd(10, key1)
	one, two := e.server(t, key2), e.server(t, key1)
	e.slices = []string{one.address, two.address}
	c, out := cluster(t, one.address)
	waiting := options()
	waiting.Wait = 50 * time.Millisecond
	err := c.Migrate(t.Context(), waiting)
	if err == nil || !strings.Contains(err.Error(), "the API servers write with different keys: ") ||
		!strings.HasSuffix(err.Error(), ", still after 50ms") || e.count()[key1] < 9 {
		t.Errorf("%v %v", err, e.count())
	}
	time.AfterFunc(100*time.Millisecond, func() {
		e.Lock()
		defer e.Unlock()
		two.reload(key2)
	})
	if err := c.Migrate(t.Context(), options()); err != nil || e.count()[key2] != 10 || !strings.Contains(out.String(), "waiting: ") {
		t.Errorf("%v %v\n%s", err, e.count(), out)
	}

	// KMS providers and configurations are compared without a write.
	one.status, two.status = map[string]float64{"sha256:a": 1, "sha256:b": 2}, map[string]float64{"sha256:a": 2}
	if err := c.Migrate(t.Context(), waiting); err == nil || !strings.Contains(err.Error(), "KMS providers have different keys") {
		t.Error(err)
	}
	one.status, two.status, one.config = nil, nil, "sha256:c"
	if err := c.Migrate(t.Context(), waiting); err == nil || !strings.Contains(err.Error(), "different encryption configurations") {
		t.Error(err)
	}
}

// An object that is deleted or recreated while the API servers are compared shows nothing: another one is taken.
func TestComparedObjectGone(t *testing.T) {
	for _, recreated := range []bool{false, true} {
		e := newEtcd(10, key1)
		one, two := e.server(t, key2), e.server(t, key1)
		e.slices = []string{one.address, two.address}
		one.config, two.config = "sha256:c", "sha256:c" // so the metrics do not tell that two, which has written none, has another key
		one.transform("secrets", write, key2)
		patches := 0
		e.patched = func(name string) int {
			if patches++; patches == 2 && recreated {
				e.version++
				e.secrets[name] = &stored{uid: "other", version: e.version, as: key1}
			} else if patches == 2 {
				delete(e.secrets, name)
			}
			return 0
		}
		c, out := cluster(t, one.address)
		o := options()
		o.Wait = 200 * time.Millisecond
		if err := c.Migrate(t.Context(), o); err == nil || patches < 4 || e.count()[key1] < 8 ||
			!strings.Contains(out.String(), two.address+" writes secrets with another key than "+one.address) {
			t.Errorf("recreated %v: %v after %d patches, %v\n%s", recreated, err, patches, e.count(), out)
		}
	}
}

// What the metrics show of writes is compared, too: an update without changes does not show a difference that an API server does not see.
func TestDifferentWrites(t *testing.T) {
	e := newEtcd(1, "k8s:enc:kms:v1:one:")
	one, two := e.server(t, "k8s:enc:kms:v1:one:"), e.server(t, "k8s:enc:kms:v1:two:")
	e.slices = []string{one.address, two.address}
	for _, s := range []*apiServer{one, two} {
		s.transform("secrets", write, s.writes)
	}
	c, out := cluster(t, one.address)
	o := options()
	o.Wait = 50 * time.Millisecond
	if err := c.Migrate(t.Context(), o); err == nil || !strings.Contains(err.Error(), "the API servers write with different keys") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A KMS provider that a reload removed stays in an API server's metrics until its next start. One that reports its key is compared.
func TestRemovedProvider(t *testing.T) {
	e := newEtcd(5, key2)
	one, two := e.server(t, key2), e.server(t, key2)
	e.slices = []string{one.address, two.address}
	now := time.Unix(1_800_000_000, 0)
	one.now, two.now, one.reloads = now, now, 1
	c, out := cluster(t, one.address)
	o := options()
	o.Wait = 50 * time.Millisecond
	for ago, removed := range map[time.Duration]bool{72 * time.Hour: true, time.Minute: false} {
		one.status = map[string]float64{"sha256:a": float64(now.Add(-ago).Unix())}
		err := c.Migrate(t.Context(), o)
		r, text := look1(t, one.address, StatusOptions{Resources: usual.Resources, Count: true, Probe: "default"})
		if removed != (err == nil) || removed != (r.State() == Good) || removed == strings.Contains(text, "KMS providers have different keys") {
			t.Errorf("%s ago: %v\n%s%s", ago, err, out, text)
		}
	}
}

// Behind a load balancer each connection is another API server: as many are looked for as there are.
func TestBehindLoadBalancer(t *testing.T) {
	e := newEtcd(10, key1)
	one, two := e.server(t, key2), e.server(t, key1)
	address := balancer(t, one, two)
	e.forbids = []string{"GET /apis"}
	c, _ := cluster(t, address)
	o := options()
	o.Wait, o.Via = 50*time.Millisecond, Updates
	if err := c.Migrate(t.Context(), o); err == nil || !strings.Contains(err.Error(), "set --api-servers to their number") {
		t.Error(err)
	}
	o.Servers = 3
	if err := c.Migrate(t.Context(), o); err == nil || !strings.Contains(err.Error(), "2 of 3 API servers were seen") {
		t.Error(err)
	}
	o.Servers = 2
	if err := c.Migrate(t.Context(), o); err == nil || !strings.Contains(err.Error(), "with different keys") {
		t.Error(err)
	}
	two.reload(key2)
	if err := c.Migrate(t.Context(), o); err != nil || e.count()[key2] != 10 {
		t.Error(err, e.count())
	}
	e.forbids = append(e.forbids, "GET /metrics")
	if err := c.Migrate(t.Context(), o); err == nil || !strings.Contains(err.Error(), "you are not allowed to get /metrics") {
		t.Error(err)
	}
}

// Without metrics nothing shows that anything is encrypted: only a user who allows plaintext has objects rewritten, and that is no success.
func TestUnproven(t *testing.T) {
	e := newEtcd(10, key1)
	e.leases, e.forbids = 1, []string{"GET /metrics"}
	s := e.server(t, key2)
	c, out := cluster(t, s.address)
	o := options()
	for _, o.DryRun = range []bool{true, false} {
		if err := c.Migrate(t.Context(), o); err == nil || Failed(err) || e.count()[key1] != 10 || !strings.Contains(err.Error(),
			s.address+": you are not allowed to get /metrics; without its metrics, nothing shows whether it encrypts") {
			t.Errorf("%v %v", err, e.count())
		}
	}
	o.AllowPlaintext = true
	if err := c.Migrate(t.Context(), o); !Failed(err) || !strings.Contains(err.Error(), "keep the old key until kubectl kms at-rest status") ||
		e.count()[key2] != 10 || !strings.Contains(out.String(), "nothing shows with which key the API servers write") {
		t.Errorf("%v %v\n%s", err, e.count(), out)
	}
	// Nor is it one where the metrics do not show the key, because a probe is forbidden.
	e.forbids = []string{"POST "}
	s.reload(key1)
	for _, stored := range e.secrets {
		stored.as = key1
	}
	if err := c.Migrate(t.Context(), o); !Failed(err) {
		t.Error(err)
	}
	// With metrics, plaintext is what was asked for.
	e.forbids = nil
	s.reload(plaintext)
	if err := c.Migrate(t.Context(), o); err != nil || e.count()[plaintext] != 10 {
		t.Errorf("%v %v", err, e.count())
	}
}

// What cannot or should not be done is refused, and nothing is written.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(*apiServer)
		with func(*MigrateOptions)
		says string
	}{
		"plaintext": {(*apiServer).unconfigured, nil, "switch encryption at rest on first"},
		"plaintext without metrics": {func(s *apiServer) { s.unconfigured(); s.forbids = []string{"GET /metrics"} }, nil,
			"you are not allowed to get /metrics"},
		"identity first": {func(s *apiServer) { s.writes = plaintext }, nil, "switch encryption at rest on first"},
		"identity first since a reload": {func(s *apiServer) { s.transform("secrets", write, key1); s.reload(plaintext) }, nil,
			"switch encryption at rest on first"},
		"identity first, all plaintext": {func(s *apiServer) {
			s.writes, s.config = plaintext, "sha256:c"
			for _, stored := range s.secrets {
				stored.as = plaintext
			}
		}, nil, "switch encryption at rest on first"},
		"identity first without metrics": {func(s *apiServer) { s.writes, s.forbids = plaintext, []string{"GET /metrics"} }, nil,
			"you are not allowed to get /metrics"},
		"probe forbidden": {func(s *apiServer) { s.forbids = []string{"POST "} }, nil, " has written no secrets since it started or reloaded " +
			"its configuration, so nothing shows whether it encrypts them, and it was not probed: you are not allowed to create secrets in " +
			"namespace default; "},
		"no write of another resource": {nil, func(o *MigrateOptions) { o.Resources[0].Resource = "configmaps" }, "only Secrets are probed"},
		"one unseen": {func(s *apiServer) { s.leases = 2; s.slices = []string{"127.0.0.1:1"} }, nil,
			"1 of 2 API servers were seen, and the others"},
		"list forbidden": {func(s *apiServer) { s.forbids = []string{"GET /api/v1/secrets"} }, nil, "you are not allowed to list secrets"},
		"patch forbidden": {func(s *apiServer) { s.forbids = []string{"PATCH "} }, nil, "you are not allowed to patch secrets in all " +
			"namespaces"},
		"no StorageVersionMigration": {nil, func(o *MigrateOptions) { o.Via = SVM }, "the cluster serves no StorageVersionMigration"},
		"the dry run":                {nil, func(o *MigrateOptions) { o.DryRun = true }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEtcd(3, key1)
			e.leases = 1
			s := e.server(t, key1)
			if c.set != nil {
				c.set(s)
			}
			o := options()
			if c.with != nil {
				c.with(&o)
			}
			cluster, out := cluster(t, s.address)
			err := cluster.Migrate(t.Context(), o)
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q\n%s", err, c.says, out)
			}
			written := e.secrets["default/probe"] != nil
			for _, stored := range e.secrets {
				written = written || stored.version > 3
			}
			if written || c.says == "" && slices.ContainsFunc(s.requests, func(r string) bool { return !strings.HasPrefix(r, "GET ") }) {
				t.Errorf("something was written: %q", s.requests)
			}
		})
	}
}

// What fails for a moment is tried again; what fails for good is named, and the next run tries it again.
func TestFailures(t *testing.T) {
	e := newEtcd(20, plaintext)
	e.leases = 1
	s := e.server(t, key1)
	failures := map[string]int{"shop/s-0005": 1, "shop/s-0007": 100}
	e.patched = func(name string) int {
		if failures[name]--; failures[name] >= 0 {
			return http.StatusInternalServerError
		}
		return 0
	}
	c, out := cluster(t, s.address)
	if err := c.Migrate(t.Context(), options()); !Failed(err) || e.count()[key1] != 19 ||
		!strings.Contains(out.String(), "secrets: shop/s-0007: ") || strings.Contains(out.String(), "s-0005") {
		t.Errorf("%v %v\n%s", err, e.count(), out)
	}
	failures["shop/s-0007"] = 0
	if err := c.Migrate(t.Context(), options()); err != nil || e.count()[key1] != 20 {
		t.Errorf("%v %v\n%s", err, e.count(), out)
	}
}

// KMS v1 does not see that its key was rotated: an annotation has all written.
func TestAnnotate(t *testing.T) {
	e := newEtcd(3, "k8s:enc:kms:v1:old:")
	e.leases, e.served = 1, true
	s := e.server(t, "k8s:enc:kms:v1:new:")
	s.transform("secrets", write, s.writes)
	c, out := cluster(t, s.address)
	o := options()
	o.Via = Updates
	if err := c.Migrate(t.Context(), o); err != nil || !strings.Contains(out.String(), "KMS v1 does not show its key") {
		t.Errorf("%v\n%s", err, out)
	}
	o = options()
	o.Annotate = true
	if err := c.Migrate(t.Context(), o); err != nil || e.count()[s.writes] != 3 ||
		!regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}$`).MatchString(e.secrets["shop/s-0000"].note) {
		t.Errorf("%v %v %q\n%s", err, e.count(), e.secrets["shop/s-0000"].note, out)
	}
}

// A StorageVersionMigration is made, followed and removed; one that no controller handles is replaced by updates; an interrupted run
// leaves it, and the next one follows it.
func TestStorageVersionMigration(t *testing.T) {
	ended := func(e *etcd, o j, condition string) {
		o["status"] = j{"resourceVersion": "1", "conditions": []j{{"type": condition, "status": "True", "message": "by the test"}}}
		if condition == "Succeeded" {
			for _, s := range e.secrets {
				e.version++
				s.version, s.as = e.version, key2
			}
		}
	}
	e := newEtcd(3, key1)
	e.leases, e.served = 1, true
	s := e.server(t, key2)
	c, out := cluster(t, s.address)

	ctx, interrupt := context.WithCancel(t.Context())
	e.migrate = func(_ *etcd, o j) {
		if want := (j{"resource": j{"resource": "secrets"}}); !reflect.DeepEqual(o["spec"], want) {
			t.Errorf("%v", o["spec"])
		}
		interrupt()
	}
	if err := c.Migrate(ctx, options()); !errors.Is(err, errInterrupted) || len(e.svms) != 1 {
		t.Errorf("%v %v", err, e.svms)
	}
	e.migrate = func(e *etcd, o j) { ended(e, o, "Succeeded") }
	err := c.Migrate(t.Context(), options())
	if err != nil || e.count()[key2] != 3 || len(e.svms) != 0 || !strings.Contains(out.String(), "StorageVersionMigration one-1 continues") ||
		!strings.Contains(out.String(), "written again by a StorageVersionMigration in ") {
		t.Errorf("%v %v\n%s", err, e.count(), out)
	}
	e.migrate = func(e *etcd, o j) { ended(e, o, "Failed") }
	if err := c.Migrate(t.Context(), options()); err == nil || !strings.Contains(err.Error(), "by the test") {
		t.Error(err)
	}
	s.writes, e.migrate, e.svms = key1, nil, map[string]j{}
	if err := c.Migrate(t.Context(), options()); err != nil || e.count()[key1] != 3 || len(e.svms) != 0 ||
		!strings.Contains(out.String(), "no controller handles StorageVersionMigration one-3; continuing with updates") {
		t.Errorf("%v %v\n%s", err, e.count(), out)
	}
}

// A StorageVersionMigration that began with another key has rewritten objects with that one: a new one replaces it, with --again always.
func TestStorageVersionMigrationOfAnotherKey(t *testing.T) {
	const key3 = "k8s:enc:aescbc:v1:key3:"
	for _, c := range []struct{ rotated, updates, again bool }{{rotated: true}, {rotated: true, again: true}, {rotated: true, updates: true},
		{again: true}} {
		e := newEtcd(6, key1)
		e.leases, e.served = 1, true
		s := e.server(t, key2)
		cluster, out := cluster(t, s.address)
		from := map[string]int{} // by name, where the controller continues
		half := func(o j) {
			name := o["metadata"].(j)["name"].(string)
			for i := from[name]; i < from[name]+3; i++ {
				e.version++
				e.secrets[fmt.Sprintf("shop/s-%04d", i)].version, e.secrets[fmt.Sprintf("shop/s-%04d", i)].as = e.version, s.writes
			}
			if from[name] += 3; from[name] == 6 {
				o["status"] = j{"resourceVersion": "1", "conditions": []j{{"type": "Succeeded", "status": "True"}}}
			}
		}
		interrupted := func(o MigrateOptions) {
			ctx, interrupt := context.WithCancel(t.Context())
			e.migrate = func(_ *etcd, o j) { half(o); interrupt() }
			patches := 0
			e.patched = func(string) int {
				if patches++; patches == 2 && o.Via == Updates { // the first compares the API servers
					interrupt()
				}
				return 0
			}
			if err := cluster.Migrate(ctx, o); !errors.Is(err, errInterrupted) {
				t.Errorf("%+v: %v", c, err)
			}
			e.patched = nil
		}
		interrupted(options())
		if c.rotated {
			s.restart(key3)
		}
		if o := options(); c.updates { // so that the file of the interrupted migration has the present key
			o.Via = Updates
			interrupted(o)
		}
		e.migrate = func(_ *etcd, o j) { half(o) }
		o := options()
		o.Again = c.again
		if err := cluster.Migrate(t.Context(), o); err != nil || e.count()[s.writes] != 6 || len(e.svms) != 0 ||
			!strings.Contains(out.String(), "a new StorageVersionMigration replaces one-1") {
			t.Errorf("%+v: %v, %v\n%s", c, err, e.count(), out)
		}
	}
}

// A bar is for terminals; elsewhere lines are whole.
func TestProgress(t *testing.T) {
	on, person := terminal.Open(t, 60)
	c := Cluster{Aside: screen.New(on, func(string) string { return "" })}
	bar := c.progress("secrets", 219, 1_501)
	bar.last = time.Time{}
	bar.show(282)
	bar.end()
	c.Aside.Printf("done\n")
	got, part := "", make([]byte, 4096)
	for !strings.Contains(got, "done") {
		n, err := person.Read(part)
		if err != nil {
			t.Fatal(err)
		}
		got += string(part[:n])
	}
	if !regexp.MustCompile(`^\r\x1b\[K\[##########\.{20}\] 501 of 1,501 secrets, \d.*\r\x1b\[Kdone\r\n$`).MatchString(got) {
		t.Errorf("%q", got)
	}
	c, out := cluster(t, "nowhere")
	bar = c.progress("secrets", 0, 10)
	bar.show(1)
	bar.last = time.Time{}
	bar.show(2)
	bar.end()
	if text := out.String(); !regexp.MustCompile(`^2 of 10 secrets, \d+ a second\n$`).MatchString(text) {
		t.Errorf("%q", text)
	}
}
