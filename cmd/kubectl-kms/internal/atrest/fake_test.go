package atrest

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
)

type j = map[string]any

// etcd has Secrets, and how each is stored.
type etcd struct {
	sync.Mutex
	version int
	secrets map[string]*stored // by namespace/name
	svms    map[string]j
	made    int                   // StorageVersionMigrations
	leases  int                   // live API servers, by their Leases
	served  bool                  // StorageVersionMigration
	migrate func(*etcd, j)        // what stands for its controller
	refuse  map[string]string     // why, by method and path
	expire  int                   // lists whose next page comes too late
	patched func(name string) int // status of the answer, 0 for the usual one
	got     func(name string) int
	probed  func()   // is called when a Secret has been created
	forbids []string // prefixes of "METHOD /path"
	slices  []string // addresses of the Service kubernetes
}

type stored struct {
	uid     string
	version int
	as      string
	note    string
}

func newEtcd(n int, as string) *etcd {
	e := &etcd{secrets: map[string]*stored{}, svms: map[string]j{}, refuse: map[string]string{}}
	for i := range n {
		e.version++
		e.secrets[fmt.Sprintf("shop/s-%04d", i)] = &stored{uid: strconv.Itoa(i), version: e.version, as: as}
	}
	return e
}

// count counts Secrets by how they are stored.
func (e *etcd) count() map[string]int {
	e.Lock()
	defer e.Unlock()
	found := map[string]int{}
	for _, s := range e.secrets {
		found[s.as]++
	}
	return found
}

// apiServer is one of several that have one etcd.
type apiServer struct {
	*etcd
	writes   string // how it stores what it writes
	started  float64
	config   string
	status   map[string]float64 // KMS v2: when which key was its provider's, by hash
	reloads  int
	metrics  map[string]float64 // by name and labels
	now      time.Time          // by its clock; zero: it tells no time
	silent   bool               // it counts nothing, as without a configuration
	ready    string
	requests []string
	address  string
}

var birth float64 = 1_700_000_000

func (e *etcd) server(t *testing.T, writes string) *apiServer {
	t.Helper()
	birth++
	s := &apiServer{etcd: e, writes: writes, started: birth, metrics: map[string]float64{}, status: map[string]float64{},
		ready: "[+]ping ok\nreadyz check passed\n"}
	for _, stored := range e.secrets {
		s.transform("", read, stored.as) // into its cache
	}
	web := httptest.NewUnstartedServer(s)
	web.EnableHTTP2 = true // one connection for all, as of API servers
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	web.StartTLS()
	s.address = web.Listener.Addr().String()
	authority = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	t.Cleanup(func() {
		web.CloseClientConnections()
		web.Close()
	})
	return s
}

var authority []byte // the same of all test servers

// cluster is what its administrator sees by an address, and the texts that are shown.
func cluster(t *testing.T, address string) (Cluster, *bytes.Buffer) {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", "")
	var out bytes.Buffer
	return Cluster{Aside: screen.New(&out, func(string) string { return "" }), pause: time.Millisecond, REST: &rest.Config{
		Host: "https://" + address, QPS: -1, TLSClientConfig: rest.TLSClientConfig{CAData: authority, ServerName: "example.com"},
	}}, &out
}

// balancer hands connections to API servers in turn.
func balancer(t *testing.T, servers ...*apiServer) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for i := 0; ; i++ {
			front, err := listener.Accept()
			if err != nil {
				return
			}
			back, err := net.Dial("tcp", servers[i%len(servers)].address)
			if err != nil {
				return
			}
			go func() { io.Copy(back, front); back.Close() }()
			go func() { io.Copy(front, back); front.Close() }()
		}
	}()
	return listener.Addr().String()
}

// reload has it store otherwise what it writes from now on.
func (s *apiServer) reload(writes string) {
	s.writes = writes
	s.reloads++
}

// restart has it store otherwise after a restart.
func (s *apiServer) restart(writes string) {
	s.writes, s.reloads = writes, 0
	s.started++
	clear(s.metrics)
	for _, stored := range s.secrets {
		s.transform("", read, stored.as) // into its cache
	}
}

// unconfigured makes it one without an encryption configuration.
func (s *apiServer) unconfigured() {
	s.silent, s.writes = true, plaintext
	clear(s.metrics)
}

// transform counts an operation as API servers do.
func (s *apiServer) transform(resource, direction, as string) {
	if s.silent {
		return
	}
	add := func(prefix string) {
		s.metrics[fmt.Sprintf(`%s{resource=%q,status="OK",transformation_type=%q,transformer_prefix=%q}`, operationsTotal, resource, direction,
			prefix)]++
	}
	switch parts := strings.SplitAfter(as, ":"); {
	case as == plaintext && direction == read:
		add("identity")
	case as == plaintext:
		add("")
	case strings.HasPrefix(as, kmsV2):
		add(strings.Join(parts[:5], ""))
		labels := fmt.Sprintf(`{apiserver_id_hash="sha256:a",key_id_hash=%q,provider_name=%q,transformation_type=%q}`,
			strings.Join(parts[5:], ""), strings.TrimSuffix(parts[4], ":"), direction)
		s.metrics[keyUses+labels]++
		s.metrics[keyLastUse+labels] = 1_700_000_000 + s.metrics[keyUses+labels]
	case strings.HasPrefix(as, kmsV1):
		add(as)
	default:
		add(strings.Join(parts[:4], ""))
		add(parts[4])
	}
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.Lock()
	defer s.Unlock()
	w.Header()["Date"] = nil
	if !s.now.IsZero() {
		w.Header().Set("Date", s.now.UTC().Format(http.TimeFormat))
	}
	called := r.Method + " " + r.URL.Path
	s.requests = append(s.requests, called)
	for _, f := range s.forbids {
		if strings.HasPrefix(called, f) {
			answer(w, http.StatusForbidden, problem("Forbidden", http.StatusForbidden, "no"))
			return
		}
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case r.URL.Path == "/version":
		answer(w, http.StatusOK, j{"gitVersion": "v1.36.0"})
	case r.URL.Path == "/metrics":
		s.show(w)
	case r.URL.Path == "/readyz":
		if strings.Contains(s.ready, "[-]") {
			w.WriteHeader(http.StatusInternalServerError)
		}
		io.WriteString(w, s.ready)
	case r.URL.Path == "/apis":
		groups := []j{}
		if s.served {
			v := j{"groupVersion": svmGroup + "/v1beta1", "version": "v1beta1"}
			groups = append(groups, j{"name": svmGroup, "versions": []j{v}, "preferredVersion": v})
		}
		answer(w, http.StatusOK, j{"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
	case r.URL.Path == "/api":
		answer(w, http.StatusOK, j{"kind": "APIVersions", "versions": []string{"v1"}})
	case r.URL.Path == "/api/v1/namespaces/kube-system":
		answer(w, http.StatusOK, j{"metadata": j{"name": "kube-system", "uid": "the-cluster"}})
	case strings.HasSuffix(r.URL.Path, "/leases"):
		var items []j
		for i := range s.leases {
			items = append(items, j{"metadata": j{"name": strconv.Itoa(i)}, "spec": j{"renewTime": "2026-01-01T00:00:00.000000Z"}})
		}
		if items != nil {
			items = append(items, j{"metadata": j{"name": "dead"}, "spec": j{"renewTime": "2025-01-01T00:00:00.000000Z"}})
		}
		answer(w, http.StatusOK, j{"kind": "LeaseList", "apiVersion": "coordination.k8s.io/v1", "items": items})
	case strings.HasSuffix(r.URL.Path, "/endpointslices"):
		var items []j
		for _, address := range s.slices {
			host, port, _ := net.SplitHostPort(address)
			number, _ := strconv.Atoi(port)
			items = append(items, j{"endpoints": []j{{"addresses": []string{host}}}, "ports": []j{{"port": number}}})
		}
		answer(w, http.StatusOK, j{"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "items": items})
	case parts[0] == "apis" && parts[1] == svmGroup:
		s.svm(w, r)
	case r.URL.Path == "/api/v1/secrets", r.URL.Path == "/api/v1/configmaps":
		s.list(w, r)
	case len(parts) > 4 && parts[4] == "secrets":
		s.secret(w, r, parts[3], parts[5:])
	default:
		answer(w, http.StatusNotFound, problem("NotFound", http.StatusNotFound, r.URL.Path))
	}
}

func (s *apiServer) show(w io.Writer) {
	fmt.Fprintf(w, "# HELP %s Start time.\n%[1]s %v\n", processStart, s.started)
	for name, value := range s.metrics {
		fmt.Fprintln(w, name, value)
	}
	for hash, at := range s.status {
		fmt.Fprintf(w, "%s{key_id_hash=%q,provider_name=\"kms\"} %v\n", keyStatus, hash, at)
	}
	if s.reloads > 0 {
		fmt.Fprintf(w, "%s{status=\"success\"} %d\n%s{status=\"success\"} 1.7e9\n", reloadsTotal, s.reloads, reloadLast)
	}
	if s.config != "" {
		fmt.Fprintf(w, "%s{hash=%q} 1\n", configInfo, s.config)
	}
}

func (s *apiServer) list(w http.ResponseWriter, r *http.Request) {
	names := []string{}
	for name := range s.secrets {
		names = append(names, name)
	}
	slices.Sort(names)
	query := r.URL.Query()
	from, _ := strconv.Atoi(query.Get("continue"))
	if from > 0 && s.expire > 0 {
		s.expire--
		answer(w, http.StatusGone, problem("Expired", http.StatusGone, "too old"))
		return
	}
	meta := j{"resourceVersion": strconv.Itoa(s.version)}
	to := len(names)
	if limit, _ := strconv.Atoi(query.Get("limit")); limit > 0 && from+limit < to {
		to = from + limit
		meta["continue"] = strconv.Itoa(to)
	}
	items := []j{}
	for _, name := range names[from:to] {
		items = append(items, s.metadata(name))
	}
	answer(w, http.StatusOK, j{"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "items": items})
}

func (s *apiServer) metadata(key string) j {
	namespace, name, _ := strings.Cut(key, "/")
	return j{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": j{"namespace": namespace, "name": name,
		"uid": s.secrets[key].uid, "resourceVersion": strconv.Itoa(s.secrets[key].version)}}
}

func (s *apiServer) secret(w http.ResponseWriter, r *http.Request, namespace string, rest []string) {
	if r.Method == http.MethodPost {
		s.transform("secrets", write, s.writes)
		s.version++
		s.secrets[namespace+"/probe"] = &stored{uid: "probe", version: s.version, as: s.writes}
		if s.probed != nil {
			s.probed()
		}
		answer(w, http.StatusCreated, j{"kind": "Secret", "apiVersion": "v1", "metadata": j{"name": "probe", "namespace": namespace}})
		return
	}
	key := namespace + "/" + rest[0]
	for method, fails := range map[string]func(string) int{http.MethodPatch: s.patched, http.MethodGet: s.got} {
		if fails == nil || method != r.Method {
			continue
		}
		if status := fails(key); status != 0 {
			answer(w, status, problem(map[int]string{409: "Conflict", 500: "InternalError", 404: "NotFound"}[status], status, "by the test"))
			return
		}
	}
	found := s.secrets[key]
	if found == nil {
		answer(w, http.StatusNotFound, problem("NotFound", http.StatusNotFound, key))
		return
	}
	if !strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata") && r.Method != http.MethodDelete {
		panic("a request asks for a value")
	}
	switch r.Method {
	case http.MethodGet:
		s.transform("secrets", read, found.as)
	case http.MethodDelete:
		delete(s.secrets, key)
		answer(w, http.StatusOK, j{"kind": "Status", "apiVersion": "v1", "status": "Success"})
		return
	case http.MethodPatch:
		var patch struct {
			Metadata struct {
				UID         string
				Annotations map[string]string
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&patch); err != nil {
			panic(err)
		}
		s.transform("secrets", read, found.as)
		stale := found.as != s.writes
		if strings.HasPrefix(s.writes, kmsV1) {
			stale = !strings.HasPrefix(found.as, kmsV1) // it does not see that its key was rotated
		}
		switch note := patch.Metadata.Annotations[Annotation]; {
		case patch.Metadata.UID != found.uid:
			answer(w, http.StatusConflict, problem("Conflict", http.StatusConflict, "uid"))
			return
		case stale || note != "":
			s.version++
			found.version, found.as, found.note = s.version, s.writes, note
			s.transform("secrets", write, s.writes)
		}
	}
	answer(w, http.StatusOK, s.metadata(key))
}

// svm answers for StorageVersionMigrations.
func (s *apiServer) svm(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	switch {
	case r.Method == http.MethodPost:
		var made j
		if err := json.NewDecoder(r.Body).Decode(&made); err != nil {
			panic(err)
		}
		s.made++
		name := fmt.Sprintf("one-%d", s.made)
		made["metadata"].(j)["name"] = name
		s.svms[name] = made
		answer(w, http.StatusCreated, made)
	case r.Method == http.MethodDelete:
		delete(s.svms, name)
		answer(w, http.StatusOK, j{"kind": "Status", "apiVersion": "v1", "status": "Success"})
	case s.svms[name] != nil:
		if s.migrate != nil {
			s.migrate(s.etcd, s.svms[name])
		}
		answer(w, http.StatusOK, s.svms[name])
	default:
		items := []j{}
		for _, made := range s.svms {
			items = append(items, made)
		}
		answer(w, http.StatusOK, j{"kind": "StorageVersionMigrationList", "apiVersion": svmGroup + "/v1beta1", "items": items})
	}
}

func problem(reason string, code int, message string) j {
	return j{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": message}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}
