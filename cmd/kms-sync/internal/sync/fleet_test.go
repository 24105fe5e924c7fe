package sync

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	gosync "sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
	"github.com/kms-agent-injector/kms-agent-injector/agent/pause"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/cloud"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/store"
	"github.com/kms-agent-injector/kms-agent-injector/test/fakekube"
)

var (
	fleetPart   = flag.Int("fleet-part", 10, "simulate the n-th part of the fleet, with this part of quotas and budgets; 1: all of it")
	updateFleet = flag.Bool("update-fleet", false, "write the table of TestFleet into docs/operations.md")
)

const (
	fleetSecrets = 3 // of each object
	// sessionLife is so short that the outage begins before, and ends after, sessions are renewed or end.
	sessionLife = 15 * time.Minute
)

// Of an account: calls of KMS a second, and exchanges with STS a minute, the smaller number that STS's pages give.
const (
	kmsQuota = 450
	stsQuota = 500
)

// fleet is a cluster, an account and a kms-sync, in virtual time.
type fleet struct {
	kube              *fakekube.Server
	objects, accounts int
	part              int // of the quotas

	mu      gosync.Mutex
	down    bool
	version int                          // of all secrets in KMS
	counts  map[string]map[time.Time]int // of calls: kms by second, sts by minute, api by second
	refused int                          // calls over a quota
	early   int                          // calls for an object that was not due
	due     []time.Time                  // when the object is, as its status says
	fresh   []time.Time                  // when it was read last, as its status says
	damaged int                          // writes that left a Secret without one of its values
	many    int                          // calls for secrets of the first object
	quiet   bool                         // no watch sends anything more
}

func (f *fleet) count(what string, window time.Duration) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := time.Now().Truncate(window)
	if f.counts[what] == nil {
		f.counts[what] = map[time.Time]int{}
	}
	f.counts[what][at]++
	return f.counts[what][at]
}

// ask is a call of the cloud: 20 ms, or ten seconds without an answer.
func (f *fleet) ask(ctx context.Context, what string, window time.Duration, quota int) (silent, throttled bool) {
	throttled = f.count(what, window) > quota/f.part
	f.mu.Lock()
	silent = f.down
	if throttled {
		f.refused++
	}
	f.mu.Unlock()
	if silent {
		pause.Sleep(ctx, 10*time.Second)
	} else {
		pause.Sleep(ctx, 20*time.Millisecond)
	}
	return silent, throttled
}

func (f *fleet) GetSecretValue(ctx context.Context, _ kms.Credentials, ref kms.Ref) (kms.Secret, error) {
	var object, secret int
	if _, err := fmt.Sscanf(ref.Name, "app/%d/%d", &object, &secret); err != nil {
		return kms.Secret{}, err
	}
	f.mu.Lock()
	if time.Now().Before(f.due[object]) {
		f.early++
	}
	if object == 0 {
		f.many++
	}
	f.mu.Unlock()
	switch silent, throttled := f.ask(ctx, "kms", time.Second, kmsQuota); {
	case silent:
		return kms.Secret{}, &kms.Error{Ref: ref, Err: errors.New("no answer")}
	case throttled:
		return kms.Secret{}, &kms.Error{Ref: ref, Status: http.StatusTooManyRequests, Code: "Rejected.Throttling"}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	version := strconv.Itoa(f.version)
	return kms.Secret{Name: ref.Name, Type: "Generic", VersionID: version, Data: []byte(version)}, nil
}

func (*fleet) CloseIdleConnections() {}

// silence is a gateway that does not answer.
type silence struct{ *fleet }

const hanging = "kst-hangs-"

func (silence) GetSecretValue(ctx context.Context, _ kms.Credentials, ref kms.Ref) (kms.Secret, error) {
	pause.Sleep(ctx, 10*time.Second)
	return kms.Secret{}, &kms.Error{Ref: ref, Err: errors.New("no answer")}
}

// provider exchanges a token, which it requests as production does, for a session.
func (f *fleet) provider(of identity.RRSA) (identity.Provider, error) {
	return identity.Provider{ID: of.RoleARN, Get: func(ctx context.Context) (identity.Credentials, error) {
		if _, err := of.Token(ctx); err != nil {
			return identity.Credentials{}, err
		}
		begun := time.Now()
		switch silent, throttled := f.ask(ctx, "sts", time.Minute, stsQuota); {
		case silent:
			return identity.Credentials{}, &identity.Error{Action: identity.AssumeRoleWithOIDC, Err: errors.New("no answer")}
		case throttled:
			return identity.Credentials{}, &identity.Error{Action: identity.AssumeRoleWithOIDC, Code: "Throttling.User"}
		}
		return identity.Credentials{
			Credentials: openapi.Credentials{AccessKeyID: of.RoleARN, AccessKeySecret: "s", SecurityToken: "t"}, Expires: begun.Add(sessionLife),
		}, nil
	}}, nil
}

// RoundTrip is the API server's answer to kms-sync, after 5 ms. Discovery and Events, during which libraries hold locks, take no time:
// in a bubble, time stands still while a goroutine waits for a lock.
func (f *fleet) RoundTrip(r *http.Request) (*http.Response, error) {
	f.count("api", time.Second)
	switch document := discovery[r.URL.Path]; {
	case document != nil:
		return answer(document), nil
	case strings.HasPrefix(r.URL.Path, "/apis/events"):
		return answer(fakekube.Object{"kind": "Event", "apiVersion": "events.k8s.io/v1"}), nil
	}
	time.Sleep(5 * time.Millisecond)
	if strings.HasSuffix(r.URL.Path, "/token") {
		return answer(fakekube.Object{"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
			"status": fakekube.Object{"token": "t", "expirationTimestamp": time.Now().Add(time.Hour).UTC()}}), nil
	}
	response, err := f.kube.RoundTrip(r)
	switch {
	case err != nil:
	case r.Method != http.MethodGet:
		f.look(r)
	case r.URL.Query().Get("watch") != "":
		response.Body = &stream{ReadCloser: response.Body, fleet: f, closed: make(chan struct{})}
	}
	return response, err
}

// stream is the body of a watch. A goroutine of controller-runtime that has an event in hand when its informer stops never ends, so none
// comes shortly before that.
type stream struct {
	io.ReadCloser
	fleet  *fleet
	once   gosync.Once
	closed chan struct{}
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	s.fleet.mu.Lock()
	quiet := s.fleet.quiet
	s.fleet.mu.Unlock()
	if quiet {
		<-s.closed
		return 0, io.EOF
	}
	return n, err
}

func (s *stream) Close() error {
	s.once.Do(func() { close(s.closed) })
	return s.ReadCloser.Close()
}

func answer(object fakekube.Object) *http.Response {
	text, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(text)),
	}
}

// discovery has what kms-sync looks for.
var discovery = func() map[string]fakekube.Object {
	type o = fakekube.Object
	list := func(version string, kinds ...string) o {
		var resources []o
		for _, kind := range kinds {
			resources = append(resources, o{"name": strings.ToLower(kind) + "s", "kind": kind, "verbs": []string{"get"},
				"namespaced": kind != "Namespace" && kind != "ClusterSecretStore"})
		}
		return o{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}
	}
	version := o{"groupVersion": "alibabacloud.com/v1alpha1", "version": "v1alpha1"}
	return map[string]o{
		"/api": {"kind": "APIVersions", "versions": []string{"v1"}},
		"/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []o{
			{"name": "alibabacloud.com", "versions": []o{version}, "preferredVersion": version},
		}},
		"/api/v1":                         list("v1", "Secret", "ServiceAccount", "Namespace"),
		"/apis/alibabacloud.com/v1alpha1": list("alibabacloud.com/v1alpha1", "ExternalSecret", "SecretStore", "ClusterSecretStore"),
	}
}()

func (f *fleet) objectPath(i int) string {
	return fmt.Sprintf("/apis/alibabacloud.com/v1alpha1/namespaces/ns-%d/externalsecrets/es-%d", i%f.accounts/2, i)
}

func (f *fleet) secretPath(i int) string {
	return fmt.Sprintf("/api/v1/namespaces/ns-%d/secrets/es-%d", i%f.accounts/2, i)
}

// status returns what is looked at in an object's status.
func (f *fleet) status(i int) (of v1alpha1.ExternalSecretStatus) {
	text, err := json.Marshal(f.kube.Get(f.objectPath(i))["status"])
	if err == nil {
		err = json.Unmarshal(text, &of)
	}
	if err != nil {
		panic(err)
	}
	return of
}

// look looks at the object or the Secret that kms-sync wrote.
func (f *fleet) look(r *http.Request) {
	_, name, ours := strings.Cut(r.URL.Path, "/es-")
	switch {
	case strings.HasSuffix(r.URL.Path, "/status"):
		i, _ := strconv.Atoi(strings.TrimSuffix(name, "/status"))
		status := f.status(i)
		f.mu.Lock()
		defer f.mu.Unlock()
		if status.RefreshTime != nil && ready(&v1alpha1.ExternalSecret{Status: status}).Status == metav1.ConditionTrue {
			f.fresh[i] = status.RefreshTime.Time
		}
	case ours && strings.Contains(r.URL.Path, "/secrets/"):
		i, _ := strconv.Atoi(name)
		if f.values(i) == 0 {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.damaged++
		}
	}
}

// values returns the least version of the values in an object's Secret; 0: not all are there.
func (f *fleet) values(i int) int {
	data, _ := f.kube.Get(f.secretPath(i))["data"].(fakekube.Object)
	least := math.MaxInt
	for j := range fleetSecrets {
		text, _ := data[fmt.Sprint("value-", j)].(string)
		value, _ := base64.StdEncoding.DecodeString(text)
		version, _ := strconv.Atoi(string(value))
		least = min(least, version)
	}
	return least
}

// newFleet has namespaces with two ServiceAccounts each, and objects that are new.
func newFleet(part int) *fleet {
	type o = fakekube.Object
	f := &fleet{kube: fakekube.Unstarted(), version: 1, counts: map[string]map[time.Time]int{}, part: part,
		objects: 2000 / part, accounts: 500 / part}
	f.due, f.fresh = make([]time.Time, f.objects), make([]time.Time, f.objects)
	for i := range f.accounts {
		namespace := fmt.Sprintf("/api/v1/namespaces/ns-%d", i/2)
		f.kube.Put(namespace, o{"kind": "Namespace", "apiVersion": "v1"})
		f.kube.Put(fmt.Sprintf("%s/serviceaccounts/sa-%d", namespace, i), o{"kind": "ServiceAccount", "apiVersion": "v1", "metadata": o{
			"annotations": o{"ack.alibabacloud.com/role-arn": fmt.Sprintf("acs:ram::1234567890123456:role/sa-%d", i)}}})
	}
	for i := range f.objects {
		var data []any
		for j := range fleetSecrets {
			data = append(data, o{"key": fmt.Sprintf("app/%d/%d", i, j), "name": fmt.Sprint("value-", j)})
		}
		f.kube.Put(f.objectPath(i), o{"kind": "ExternalSecret", "apiVersion": "alibabacloud.com/v1alpha1", "spec": o{"data": data}, "metadata": o{
			"generation": 1, "creationTimestamp": time.Now().UTC().Format(time.RFC3339),
			"annotations": o{v1alpha1.AnnotationServiceAccount: fmt.Sprintf("sa-%d", i%f.accounts)}}})
	}
	return f
}

// start runs kms-sync as its program does, with the defaults of its flags, until stop.
func (f *fleet) start(t *testing.T) (stop func()) {
	config, err := store.Read([]byte("accountID: '1234567890123456'\nclusterID: c0ffee\nregion: cn-hangzhou\n"))
	if err != nil {
		t.Fatal(err)
	}
	quiet := func(yes bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.quiet = yes
	}
	quiet(false)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, Options{
			Config: config, Getenv: func(string) string { return "" }, PollingInterval: 2 * time.Minute, Workers: 10, ClusterStores: true,
			KMSCallsPerSecond: 60 / float64(f.part), STSCallsPerMinute: 100 / float64(f.part), Namespace: "kms-sync", HealthAddress: "0",
			Log:  logr.Discard(),
			REST: &rest.Config{Host: "http://kube", Transport: f, ContentConfig: rest.ContentConfig{ContentType: "application/json"}},
		}, outside{
			registry: prometheus.NewRegistry(), rrsa: f.provider, dial: func(of kms.Config) (cloud.Gateway, error) {
				if strings.HasPrefix(of.Endpoint, hanging) {
					return silence{f}, nil
				}
				return f, nil
			},
		})
	}()
	return func() {
		quiet(true)
		time.Sleep(time.Second)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// A phase is a row of the table.
type phase struct {
	name   string
	counts []int         // calls of KMS, most in a second, exchanges with STS, most in a minute, requests to the API server, most in a second
	right  time.Duration // after which all objects had been read once
}

// phase runs for a while, and looks when all objects have been read since a moment of it.
func (f *fleet) phase(t *testing.T, name string, d time.Duration, outage bool, change func()) phase {
	f.mu.Lock()
	f.counts, f.refused, f.early, f.damaged = map[string]map[time.Time]int{}, 0, 0, 0
	f.mu.Unlock()
	p := phase{name: name, right: -1}
	from := time.Now()
	change()
	look := func() {
		time.Sleep(time.Second)
		f.mu.Lock()
		defer f.mu.Unlock()
		if p.right < 0 && !slices.ContainsFunc(f.fresh, func(at time.Time) bool { return at.Before(from) }) {
			p.right = time.Since(from)
		}
	}
	for time.Since(from) < d {
		look()
	}
	f.mu.Lock()
	for _, what := range []string{"kms", "sts", "api"} {
		all, most := 0, 0
		for n := range maps.Values(f.counts[what]) {
			all, most = all+n, max(most, n)
		}
		p.counts = append(p.counts, all, most)
	}
	f.mu.Unlock()
	limit := 5 * time.Minute
	if f.part > 1 { // the exchanges alone take four minutes, and chance weighs more where few share a budget
		limit += 3 * time.Minute
	}
	for !outage && p.right < 0 && time.Since(from) < limit {
		look()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refused+f.early+f.damaged > 0 || !outage && (p.right < 0 || p.right > limit) {
		t.Errorf("%s: %d calls over a quota, %d for what was not due, %d Secrets damaged, all right after %s",
			name, f.refused, f.early, f.damaged, p.right)
	}
	for i := range f.objects {
		if version := f.values(i); version == 0 || !outage && version != f.version {
			t.Errorf("%s: the Secret of object %d has version %d, KMS %d", name, i, version, f.version)
			break
		}
	}
	return p
}

// TestFleet: 2,000 objects of three secrets each, of 500 ServiceAccounts, through a start, a restart and an outage of KMS and STS of ten
// minutes, with everything of kms-sync between the wires of the API server, STS and KMS. No quota is exceeded, a restart makes no call that
// was not due, and five minutes after the outage all is right again; in a part of the fleet it may take eight. The table is that of
// docs/operations.md.
func TestFleet(t *testing.T) {
	var table []phase
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(*fleetPart)
		var stop func()
		next := func(name string, d time.Duration, outage bool, change func()) {
			table = append(table, f.phase(t, fmt.Sprintf("%s, %d minutes", name, d/time.Minute), d, outage, change))
		}
		next("all of them new", 5*time.Minute, false, func() { stop = f.start(t) })
		next("all of them synchronized", 3*time.Minute, false, func() {})
		next("a restart, all sessions anew", 5*time.Minute, false, func() {
			stop()
			for i := range f.objects {
				f.due[i] = f.status(i).NextRefreshTime.Add(-2 * time.Second) // it, and the last refresh that it is reckoned from, are in whole seconds
			}
			stop = f.start(t)
		})
		clear(f.due)
		next("an outage of KMS and STS", 10*time.Minute, true, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.down, f.version = true, 2
		})
		next("after the outage, new values", 5*time.Minute, false, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.down = false
		})
		stop()
		time.Sleep(time.Minute) // calls under way end
	})
	t.Log("\n" + markdown(table, *fleetPart))
	documented(t, table)
}

// TestHangingGateway: the objects of gateways that do not answer, be it one or more than there are workers, make no other late for long.
// They say it themselves.
func TestHangingGateway(t *testing.T) {
	for _, hosts := range []int{1, 31} {
		t.Run(fmt.Sprint(hosts), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(20)
				for i := 1; i < f.objects; i += 2 {
					object := f.kube.Get(f.objectPath(i))
					var data []any
					for j := range 4 * parallel {
						data = append(data, fakekube.Object{"key": fmt.Sprint("silent/", i, "/", j), "name": fmt.Sprint("value-", j),
							"kmsEndpoint": fmt.Sprint(hanging, i%hosts, ".cryptoservice.kms.aliyuncs.com")})
					}
					object["spec"].(fakekube.Object)["data"] = data
					f.kube.Put(f.objectPath(i), object)
				}
				stop := f.start(t)
				time.Sleep(5 * time.Minute) // all sessions are new
				for range 45 {
					time.Sleep(20 * time.Second)
					f.mu.Lock()
					for i := 0; i < f.objects; i += 2 {
						if late := time.Since(f.fresh[i]) - 132*time.Second; late > 45*time.Second {
							t.Errorf("object %d is %s late", i, late)
						}
					}
					f.mu.Unlock()
				}
				for i := 1; i < f.objects; i += 2 {
					if c := ready(&v1alpha1.ExternalSecret{Status: f.status(i)}); c.Reason != reasonUnreachable {
						t.Errorf("object %d, of a gateway that does not answer, says %q", i, c.Reason)
					}
				}
				stop()
				time.Sleep(time.Minute) // calls under way end
			})
		})
	}
}

// TestManySecrets: an object is read whole although each of its secrets waits longer for the budget of calls than an answer counts as new:
// once for each secret, also when it is asked for what KMS has now.
func TestManySecrets(t *testing.T) {
	const secrets, limit = 12, 10 * time.Minute
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(250) // eight objects, and a call every four seconds
		object := f.kube.Get(f.objectPath(0))
		spec := object["spec"].(fakekube.Object)
		for j := fleetSecrets; j < secrets; j++ {
			spec["data"] = append(spec["data"].([]any), fakekube.Object{"key": fmt.Sprint("app/0/", j), "name": fmt.Sprint("value-", j)})
		}
		f.kube.Put(f.objectPath(0), object)
		read := func(what string) {
			t.Helper()
			from := time.Now()
			for f.mu.Lock(); f.fresh[0].Before(from) && time.Since(from) < limit; f.mu.Lock() {
				f.mu.Unlock()
				time.Sleep(time.Second)
			}
			defer f.mu.Unlock()
			if f.fresh[0].Before(from) || f.many > secrets {
				t.Errorf("%s: after %s and %d calls for %d secrets: read last at %s", what, time.Since(from), f.many, secrets, f.fresh[0])
			}
			f.many = 0
		}
		stop := f.start(t)
		read("a new object")
		object = f.kube.Get(f.objectPath(0))
		object["metadata"].(fakekube.Object)["annotations"].(fakekube.Object)[v1alpha1.AnnotationRefresh] = "now"
		f.kube.Put(f.objectPath(0), object)
		read("an object that is to be read at once")
		stop()
		time.Sleep(time.Minute) // calls under way end
	})
}

// documented compares the table with that of docs/operations.md, which is of the whole fleet, or writes it there. Chance changes both a
// little; how many calls an outage sees depends on its length.
func documented(t *testing.T, table []phase) {
	const page, begin, end = "../../../../docs/operations.md", "<!-- fleet of kms-sync -->\n", "<!-- end -->\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(text), begin)
	present, after, found := strings.Cut(rest, end)
	rows := strings.Split(strings.TrimSpace(present), "\n")
	switch {
	case !found:
		t.Fatalf("%s has no place for the table", page)
	case *updateFleet && *fleetPart == 1:
		if err := os.WriteFile(page, []byte(before+begin+markdown(table, 1)+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	case *updateFleet:
		t.Fatal("-update-fleet needs -fleet-part 1")
	case len(rows) != len(table)+2:
		t.Fatalf("%s has %d rows, want %d", page, len(rows)-2, len(table))
	}
	near := func(a, b float64) bool { return math.Abs(a-b) <= max(a, b)/3 }
	for i, p := range table {
		cells := strings.Split(rows[i+2], " | ")
		number := func(i int) float64 {
			n, _ := strconv.ParseFloat(strings.ReplaceAll(cells[i], ",", ""), 64)
			return n / float64(*fleetPart)
		}
		right, _ := time.ParseDuration(strings.TrimSuffix(cells[len(cells)-1], " |"))
		if p.right >= 0 && !(near(number(1), float64(p.counts[0])) && near(number(3), float64(p.counts[2])) &&
			(*fleetPart > 1 || near(right.Seconds(), p.right.Seconds()))) ||
			cells[0] != "| "+p.name {
			t.Errorf("%s has %s; if it is meant: make proof-fleet-sync", page, rows[i+2])
		}
	}
}

// markdown returns the table of a part of the fleet.
func markdown(table []phase, part int) string {
	var b strings.Builder
	if part > 1 {
		fmt.Fprintf(&b, "One part of %d:\n", part)
	}
	b.WriteString("| | KMS calls | most in a second | STS calls | most in a minute | requests to the API server | most in a second " +
		"| all right in |\n|---|---|---|---|---|---|---|---|\n")
	for _, p := range table {
		fmt.Fprintf(&b, "| %s |", p.name)
		for _, n := range p.counts {
			text := strconv.Itoa(n)
			if len(text) > 3 {
				text = text[:len(text)-3] + "," + text[len(text)-3:]
			}
			fmt.Fprintf(&b, " %s |", text)
		}
		right := "–"
		if p.right >= 0 {
			right = p.right.Round(time.Second).String()
		}
		fmt.Fprintf(&b, " %s |\n", right)
	}
	return b.String()
}
