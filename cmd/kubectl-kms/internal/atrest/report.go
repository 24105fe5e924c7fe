package atrest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
)

// The states of a finding.
const (
	Good    = "ok"
	Broken  = "broken"
	Unknown = "unknown" // it could not be looked at
)

// A Finding is one result of Status.
type Finding struct {
	State string `json:"state"`
	Says  string `json:"says"`
	Cure  string `json:"cure,omitempty"`
}

// An APIServer is what one of the cluster's API servers shows.
type APIServer struct {
	Address       string          `json:"address"`
	Started       time.Time       `json:"started,omitzero"`
	Configuration string          `json:"configuration,omitempty"` // hash of the encryption configuration, where it is served
	Reloaded      time.Time       `json:"reloaded,omitzero"`       // when the configuration last changed without a restart
	Health        map[string]bool `json:"health,omitempty"`        // of the KMS providers
	Keys          []Key           `json:"keys,omitempty"`
	Problem       string          `json:"problem,omitempty"` // why the metrics are missing
}

// A Key is the key of a KMS v2 provider. Its numbers are since the API server's start.
type Key struct {
	Provider  string    `json:"provider"`
	Hash      string    `json:"hash"` // of the key's identifier
	Current   bool      `json:"current"`
	Said      time.Time `json:"said,omitzero"` // when the provider last reported it as its key
	Reads     int       `json:"reads"`
	LastRead  time.Time `json:"lastRead,omitzero"`
	Writes    int       `json:"writes"`
	LastWrite time.Time `json:"lastWrite,omitzero"`
}

// A Resource says how a resource's objects are stored.
type Resource struct {
	Resource string   `json:"resource"`
	Counted  bool     `json:"counted"` // each object was read; if not, the numbers are the counters since the API servers' start
	Objects  int      `json:"objects,omitempty"`
	Others   int      `json:"others,omitempty"` // reads of other clients meanwhile; the numbers may be too high by these
	Writes   string   `json:"writes,omitempty"` // how new writes are stored
	Stored   []Stored `json:"stored"`
}

// A Stored is one way to store objects: plaintext, or the prefix of the values in etcd followed, for KMS v2, by the hash of the key's
// identifier.
type Stored struct {
	As      string `json:"as"`
	Objects int    `json:"objects,omitempty"`
	Read    int    `json:"read"` // operations
	State   string `json:"state,omitempty"`
}

// keyless reports whether the metrics do not show the key: with two providers of local keys, see storedAs.
func (s Stored) keyless() bool {
	return strings.Count(s.As, ":") == strings.Count("k8s:enc:aescbc:v1:", ":") && !strings.HasPrefix(s.As, "k8s:enc:kms:")
}

// The states of what is stored.
const (
	current = "current"
	old     = "old"
)

// counters adds what is known by the API servers' counters alone.
func (r *Resource) counters(reads map[string]float64) {
	for as, n := range reads {
		r.Stored = append(r.Stored, Stored{As: as, Read: int(n)})
	}
}

func (r *Resource) sort() {
	slices.SortFunc(r.Stored, func(a, b Stored) int { return strings.Compare(a.As, b.As) })
}

// A Report is all that Status found.
type Report struct {
	APIServers []APIServer `json:"apiServers"`
	Expected   int         `json:"expected,omitempty"` // number of API servers
	Resources  []Resource  `json:"resources"`
	Findings   []Finding   `json:"findings"`
}

// State returns the worst of the findings.
func (r Report) State() string {
	state := Good
	for _, f := range r.Findings {
		if f.State == Broken || f.State == Unknown && state == Good {
			state = f.State
		}
	}
	return state
}

func (r *Report) broken(cure, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{Broken, fmt.Sprintf(format, args...), cure})
}

func (r *Report) unknown(format string, args ...any) {
	r.Findings = append(r.Findings, Finding{Unknown, fmt.Sprintf(format, args...), ""})
}

func (r *Report) good(format string, args ...any) {
	r.Findings = append(r.Findings, Finding{Good, fmt.Sprintf(format, args...), ""})
}

// servers reports on the API servers.
func (r *Report) servers(servers fleet) {
	r.Expected = servers.count
	for _, s := range servers.all {
		out := APIServer{Address: s.address}
		if s.problem != nil {
			out.Problem = s.problem.Error()
			r.unknown("%s: %v", s.address, s.problem)
		} else {
			s.describe(&out)
		}
		for _, c := range s.health {
			if out.Health == nil {
				out.Health = map[string]bool{}
			}
			if out.Health[c.name] = c.ok; !c.ok {
				r.broken("look at the KMS plugin's log, at the key's state in KMS and at the plugin's permissions", "%s: %s is not healthy: writes "+
					"fail soon, and reads after the API server's next start", s.address, c.name)
			}
		}
		if s.unhealthy != nil {
			r.unknown("%s: the health of its KMS providers is not known: %v", s.address, s.unhealthy)
		}
		if failed := s.last.reloads["failure"]; s.problem == nil && failed.last > s.last.reloads["success"].last {
			r.broken("correct the file of the encryption configuration; the API server's log says what is wrong", "%s: reloading its "+
				"encryption configuration failed at %s, and it uses the previous one", s.address, moment(failed.last).Format(time.RFC3339))
		}
		r.APIServers = append(r.APIServers, out)
	}
	if !servers.complete() {
		for _, why := range slices.Concat(servers.unseen, servers.unasked) {
			r.unknown("%s", why)
		}
		if servers.count > 0 {
			r.unknown("%d of %d API servers were seen", len(servers.seen()), servers.count)
		} else {
			r.unknown("the number of API servers is not known; set --api-servers")
		}
	}
	if problem := differ(servers.seen()); problem != "" {
		r.broken("wait until all show the same; a KMS plugin may take minutes to notice a new key", "%s", problem)
	}
}

func (s *server) describe(out *APIServer) {
	out.Started, out.Configuration = moment(s.last.started), s.last.config
	if reloaded := s.last.reloads["success"]; reloaded.count > 0 {
		out.Reloaded = moment(reloaded.last)
	}
	keys := map[kmsKey]*Key{}
	key := func(k kmsKey) *Key {
		if keys[k] == nil {
			keys[k] = &Key{Provider: k.provider, Hash: k.hash, Current: s.last.latest(k.provider) == k.hash}
		}
		return keys[k]
	}
	for k, at := range s.last.current {
		key(k).Said = moment(at)
	}
	for u, n := range s.last.used {
		k, at := key(u.kmsKey), time.Time{}
		if last := s.last.lastUse[u]; last > 0 {
			at = moment(last)
		}
		if u.direction == read {
			k.Reads, k.LastRead = int(n), at
		} else {
			k.Writes, k.LastWrite = int(n), at
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(keys), func(a, b kmsKey) int {
		return strings.Compare(a.provider+":"+a.hash, b.provider+":"+b.hash)
	}) {
		out.Keys = append(out.Keys, *keys[k])
	}
}

func moment(seconds float64) time.Time {
	return time.Unix(int64(seconds), 0).UTC()
}

// differ returns how the API servers' configurations or KMS keys differ, "" if they do not or it is not known.
func differ(servers []*server) string {
	for _, what := range []struct {
		title string
		of    func(*server) string
	}{
		{"the API servers have different encryption configurations", func(s *server) string { return s.last.config }},
		{"the API servers' KMS providers have different keys", (*server).kms},
	} {
		by := map[string][]string{}
		for _, s := range servers {
			by[what.of(s)] = append(by[what.of(s)], s.address)
		}
		if len(by) < 2 {
			continue
		}
		var each []string
		for _, value := range slices.Sorted(maps.Keys(by)) {
			each = append(each, strings.Join(by[value], ", ")+" has "+cmp.Or(short(value), "none"))
		}
		return what.title + ": " + strings.Join(each, "; ")
	}
	return ""
}

// removedAfter is how many seconds a KMS provider has reported no key when it counts as removed. Each reports its key once a minute, and
// the metrics keep the last report of a provider that a reload removed.
const removedAfter = 5 * 60

// kms returns the present keys of the KMS v2 providers, as text.
func (s *server) kms() string {
	providers := map[string]bool{}
	for key, said := range s.last.current {
		if s.last.at-said < removedAfter {
			providers[key.provider] = true
		}
	}
	var keys []string
	for _, provider := range slices.Sorted(maps.Keys(providers)) {
		keys = append(keys, kmsV2+provider+":"+s.last.latest(provider))
	}
	return strings.Join(keys, " ")
}

// resource reports on how a resource's objects are stored.
func (r *Report) resource(out Resource, writes string) {
	out.Writes = writes
	out.sort()
	plain, behind := 0, 0
	for i := range out.Stored {
		switch stored := &out.Stored[i]; {
		case stored.As == writes && writes != plaintext, stored.keyless() && strings.HasPrefix(writes, stored.As):
			stored.State = current
		case stored.As == plaintext:
			plain += stored.Objects
		case writes != "":
			stored.State, behind = old, behind+stored.Objects
		}
	}
	r.Resources = append(r.Resources, out)
	const again = "kubectl kms at-rest migrate"
	upTo := ""
	if out.Others > 0 {
		upTo = "up to "
	}
	if writes == plaintext {
		r.broken("switch encryption at rest on: docs/encryption-at-rest.md", "%s are written as plaintext", out.Resource)
		return
	}
	if strings.HasPrefix(writes, kmsV1) {
		r.unknown("%s: KMS v1 does not say which of its keys is in use; after a rotation, %s --annotate rewrites all", out.Resource, again)
	}
	switch {
	case !out.Counted:
		for _, s := range out.Stored {
			if s.As != writes {
				r.unknown("%s: %s has been read %d times since the API server's start; whether any is left is not known", out.Resource,
					short(s.As), s.Read)
			}
		}
		r.unknown("%s: some objects were not read", out.Resource)
	case plain > 0:
		r.broken(again, "%s: %s%s of %s are plaintext in etcd", out.Resource, upTo, thousands(plain), thousands(out.Objects))
	case behind > 0:
		r.broken(again+"; do not remove the old key before", "%s: %s%s of %s are stored with another key than the one that writes", out.Resource,
			upTo, thousands(behind), thousands(out.Objects))
	case len(out.Stored) > 1:
		r.broken(again+"; do not remove a key before", "%s: they are stored with different keys", out.Resource)
	case writes != "":
		r.good("%s: all %s are stored with the key that writes", out.Resource, thousands(out.Objects))
	}
}

// short describes a Stored.As with a shortened hash.
func short(as string) string {
	at := strings.Index(as, "sha256:")
	if at < 0 {
		return as
	}
	at += len("sha256:")
	return as[:min(len(as), at+12)]
}

// Text writes the report for people.
func (r Report) Text(s screen.Screen) {
	table := screen.Table{Header: []string{"API SERVER", "STARTED", "CONFIGURATION", "KMS", "KEY"}}
	for _, a := range r.APIServers {
		if a.Problem != "" {
			table.Add(a.Address, "–", "–", "–", a.Problem)
			continue
		}
		health := ""
		for _, ok := range a.Health {
			if health = cmp.Or(health, "healthy"); !ok {
				health = "unhealthy"
			}
		}
		var keys []string
		for _, k := range a.Keys {
			if k.Current {
				keys = append(keys, k.Provider+" "+short(k.Hash))
			}
		}
		table.Add(a.Address, a.Started.Format(time.RFC3339), cmp.Or(short(a.Configuration), "–"), cmp.Or(health, "–"),
			cmp.Or(strings.Join(keys, ", "), "–"))
	}
	s.Table(table)
	if len(r.Resources) > 0 {
		s.Printf("\n")
		r.resources(s)
	}
	s.Printf("\n")
	for _, f := range r.Findings {
		s.Printf("%s %s\n", s.Mark(f.State), f.Says)
		if f.Cure != "" {
			s.Indented(2, s.Strong("→ ")+screen.Escape(f.Cure))
		}
	}
}

func (r Report) resources(s screen.Screen) {
	table := screen.Table{Header: []string{"RESOURCE", "OBJECTS", "READS", "STATE", "STORED AS"}}
	for _, resource := range r.Resources {
		if len(resource.Stored) == 0 {
			table.Add(resource.Resource, "–", "–", "–", "–")
		}
		for _, stored := range resource.Stored {
			objects := "–"
			if resource.Counted {
				objects = thousands(stored.Objects)
			}
			table.Add(resource.Resource, objects, thousands(stored.Read), cmp.Or(stored.State, "–"), short(stored.As))
		}
	}
	s.Table(table)
}
