// Package fakekube is an API server for tests. It keeps objects as JSON and answers get, list, watch, create, update, patch and delete over
// HTTP, or as a client's transport; or, given answers, it answers with these and changes nothing. It knows no kinds and checks nothing.
package fakekube

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/rest"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// Object is an object's JSON.
type Object = map[string]any

// Server is an API server. Its exported fields are set before it starts.
type Server struct {
	URL string

	Objects map[string]any    // answers by path: objects and lists. If it is not nil, nothing else exists, and nothing can be changed
	Forbids map[string]string // by path: the message of a refusal for want of rights
	Refuses string            // the message of a refusal of pods that are created as a dry run, which are accepted otherwise
	Warns   string            // the warning that comes with every answer
	// Runs has, by the path of a pod's exec, what stands for the commands there; each ends well.
	Runs map[string]func(command []string, stdout, stderr io.Writer)

	mu       sync.Mutex
	version  int
	objects  map[string]Object // path -> object
	watchers map[*watcher]watch
	requests []string
	broken   func(method, path string) int
	release  string
}

type event struct {
	Type   string `json:"type"`
	Object Object `json:"object"`
}

// watch is what a list or a watch is about.
type watch struct {
	collection string // path without a namespace
	namespace  string
	name       string
	labels     labels.Selector // nil: any
	metadata   bool            // only metadata was asked for
}

// watcher has the events that were not sent yet, however slow its client is. The server's mu guards it.
type watcher struct {
	events []event
	wake   chan struct{} // of one
}

func (w *watcher) add(e event) {
	w.events = append(w.events, e)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// New starts a server that ends with the test.
func New(t testing.TB) *Server {
	s := Unstarted()
	s.Start(t)
	return s
}

// Unstarted returns a server that answers as a client's transport.
func Unstarted() *Server {
	return &Server{objects: map[string]Object{}, watchers: map[*watcher]watch{}, release: "v1.34.1"}
}

// Start starts the server, which ends with the test, and returns its address.
func (s *Server) Start(t testing.TB) string {
	web := httptest.NewServer(s)
	s.URL = web.URL
	t.Cleanup(func() {
		web.CloseClientConnections()
		web.Close()
	})
	return s.URL
}

// RoundTrip has the server answer without a connection, to a client whose transport it is. In a bubble of testing/synctest, where time
// stands still while a goroutine waits for the network, there is no other way.
func (s *Server) RoundTrip(r *http.Request) (*http.Response, error) {
	if !isWatch(r) {
		answer := httptest.NewRecorder()
		s.ServeHTTP(answer, r)
		return answer.Result(), nil
	}
	body, to := io.Pipe()
	go func() {
		s.ServeHTTP(stream{to, http.Header{}}, r)
		_ = to.Close()
	}()
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: body, Request: r}, nil
}

type stream struct {
	io.Writer
	header http.Header
}

func (s stream) Header() http.Header { return s.header }
func (stream) WriteHeader(int)       {}
func (stream) Flush()                {}

// Config is for clients of the server.
func (s *Server) Config() *rest.Config {
	const media = "application/json"
	return &rest.Config{Host: s.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: media, AcceptContentTypes: media}}
}

// Put creates or replaces the object at a path such as /api/v1/namespaces/shop/serviceaccounts/web.
func (s *Server) Put(path string, object Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store(path, object)
}

// Delete removes the object at a path.
func (s *Server) Delete(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if object, found := s.objects[path]; found {
		delete(s.objects, path)
		s.notify(path, "DELETED", object)
	}
}

// Get returns the object at a path, nil if there is none.
func (s *Server) Get(path string) Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[path]
}

// Find returns the objects whose path begins so.
func (s *Server) Find(prefix string) []Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []Object
	for _, path := range slices.Sorted(maps.Keys(s.objects)) {
		if strings.HasPrefix(path, prefix) {
			found = append(found, s.objects[path])
		}
	}
	return found
}

// Break answers requests with the status that the function gives; 0 answers them as usual. Watches that run go on.
func (s *Server) Break(status func(method, path string) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = status
}

// Release sets the version that the server says it has.
func (s *Server) Release(version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release = version
}

// Requests counts those since the start that begin with "METHOD /path".
func (s *Server) Requests(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

func (s *Server) store(path string, object Object) Object {
	s.version++
	object = maps.Clone(object)
	meta := Object{}
	if old, ok := object["metadata"].(Object); ok {
		meta = maps.Clone(old)
	}
	w, name := split(path)
	meta["name"], meta["resourceVersion"] = name, strconv.Itoa(s.version)
	if meta["uid"] == nil {
		meta["uid"] = "uid-" + strconv.Itoa(s.version)
	}
	if w.namespace != "" {
		meta["namespace"] = w.namespace
	}
	object["metadata"] = meta
	kind := "MODIFIED"
	if _, exists := s.objects[path]; !exists {
		kind = "ADDED"
	}
	s.objects[path] = object
	s.notify(path, kind, object)
	return object
}

func (s *Server) notify(path, kind string, object Object) {
	for to, w := range s.watchers {
		if w.has(path, object) {
			to.add(event{kind, w.show(object)})
		}
	}
}

// split takes a path apart: /api/v1/namespaces/NS/secrets/NAME is the collection /api/v1/secrets, /api/v1/namespaces/NS is the
// collection /api/v1/namespaces.
func split(path string) (w watch, name string) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	version := 2 // of /api/v1
	if parts[0] == "apis" {
		version = 3
	}
	rest := parts[version:]
	if rest[0] == "namespaces" && len(rest) > 2 {
		w.namespace, rest = rest[1], rest[2:]
	}
	w.collection = "/" + strings.Join(append(slices.Clone(parts[:version]), rest[0]), "/")
	if len(rest) > 1 {
		name = rest[1]
	}
	return w, name
}

func (w watch) has(path string, object Object) bool {
	other, name := split(path)
	return w.collection == other.collection && (w.namespace == "" || w.namespace == other.namespace) && (w.name == "" || w.name == name) &&
		(w.labels == nil || w.labels.Matches(labelsOf(object)))
}

func labelsOf(object Object) labels.Set {
	set := labels.Set{}
	meta, _ := object["metadata"].(Object)
	texts, _ := meta["labels"].(Object)
	for key, value := range texts {
		set[key], _ = value.(string)
	}
	return set
}

func isWatch(r *http.Request) bool {
	asked := r.URL.Query().Get("watch")
	return asked != "" && asked != "false"
}

func (w watch) show(object Object) Object {
	if !w.metadata {
		return object
	}
	return Object{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]}
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	status := 0
	if s.broken != nil {
		status = s.broken(r.Method, r.URL.Path)
	}
	s.mu.Unlock()
	if status != 0 {
		fail(w, status, "broken by the test")
		return
	}
	if s.Objects != nil || s.Runs != nil || s.Forbids != nil {
		s.answer(w, r)
		return
	}
	if r.URL.Path == "/version" {
		s.mu.Lock()
		defer s.mu.Unlock()
		respond(w, http.StatusOK, Object{"gitVersion": s.release})
		return
	}
	about, name := split(r.URL.Path)
	about.metadata = strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata")
	if selector, ok := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name="); ok {
		about.name = selector
	}
	if selector := r.URL.Query().Get("labelSelector"); selector != "" {
		var err error
		if about.labels, err = labels.Parse(selector); err != nil {
			fail(w, http.StatusBadRequest, err.Error())
			return
		}
	}
	switch {
	case isWatch(r):
		s.watch(w, r, about)
	case r.Method == http.MethodGet && name == "":
		s.mu.Lock()
		defer s.mu.Unlock()
		kind, version := about.kind()
		respond(w, http.StatusOK, Object{
			"apiVersion": version, "kind": kind + "List", "metadata": Object{"resourceVersion": strconv.Itoa(s.version)}, "items": s.list(about),
		})
	default:
		s.one(w, r, about)
	}
}

// answer answers by the exported fields.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	if run := s.Runs[r.URL.Path]; run != nil {
		exec(w, r, run)
		return
	}
	if s.Warns != "" {
		w.Header().Set("Warning", s.Warns)
	}
	answer := s.Objects[r.URL.Path]
	switch dry := r.Method == http.MethodPost && r.URL.Query().Get("dryRun") == "All"; {
	case s.Forbids[r.URL.Path] != "":
		fail(w, http.StatusForbidden, s.Forbids[r.URL.Path])
	case dry && s.Refuses == "":
		respond(w, http.StatusOK, Object{"kind": "Pod", "apiVersion": "v1"})
	case dry:
		fail(w, http.StatusInternalServerError, s.Refuses)
	case r.Method != http.MethodGet:
		fail(w, http.StatusMethodNotAllowed, "nothing may be changed")
	case answer == nil:
		fail(w, http.StatusNotFound, r.URL.Path+" not found")
	default:
		respond(w, http.StatusOK, answer)
	}
}

// exec answers as the kubelet does.
func exec(w http.ResponseWriter, r *http.Request, run func(command []string, stdout, stderr io.Writer)) {
	channels := []wsstream.ChannelType{
		wsstream.IgnoreChannel, wsstream.WriteChannel, wsstream.WriteChannel, wsstream.WriteChannel, wsstream.IgnoreChannel,
	}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{"v5.channel.k8s.io": {Binary: true, Channels: channels}})
	_, streams, err := conn.Open(w, r.WithContext(logr.NewContext(r.Context(), logr.Discard())))
	if err != nil {
		return // the client asks in another way
	}
	defer func() { _ = conn.Close() }()
	run(r.URL.Query()["command"], streams[1], streams[2])
	_ = json.NewEncoder(streams[3]).Encode(Object{"kind": "Status", "apiVersion": "v1", "status": "Success"})
}

func (s *Server) list(about watch) []Object {
	items := []Object{}
	for _, path := range slices.Sorted(maps.Keys(s.objects)) {
		if about.has(path, s.objects[path]) {
			items = append(items, about.show(s.objects[path]))
		}
	}
	return items
}

func (s *Server) one(w http.ResponseWriter, r *http.Request, about watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := strings.TrimSuffix(r.URL.Path, "/status") // a patch of it has nothing else
	var body Object
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			fail(w, http.StatusBadRequest, err.Error())
			return
		}
		if r.Method == http.MethodPost {
			path += "/" + body["metadata"].(Object)["name"].(string)
		}
	}
	existing, exists := s.objects[path]
	if !exists && r.Method != http.MethodPost {
		fail(w, http.StatusNotFound, fmt.Sprintf("%s not found", path))
		return
	}
	switch r.Method {
	case http.MethodGet:
		respond(w, http.StatusOK, about.show(existing))
	case http.MethodPost:
		if exists {
			fail(w, http.StatusConflict, "already exists")
			return
		}
		respond(w, http.StatusCreated, s.store(path, body))
	case http.MethodPut:
		if body["metadata"].(Object)["resourceVersion"] != existing["metadata"].(Object)["resourceVersion"] {
			fail(w, http.StatusConflict, "was changed in the meantime")
			return
		}
		respond(w, http.StatusOK, s.store(path, body))
	case http.MethodPatch:
		patched, err := apply(r, existing)
		switch {
		case err != nil:
			fail(w, http.StatusUnprocessableEntity, err.Error())
			return
		case patched["metadata"].(Object)["resourceVersion"] != existing["metadata"].(Object)["resourceVersion"]:
			fail(w, http.StatusConflict, "was changed in the meantime")
			return
		}
		respond(w, http.StatusOK, s.store(path, patched))
	case http.MethodDelete:
		delete(s.objects, path)
		s.notify(path, "DELETED", existing)
		respond(w, http.StatusOK, existing)
	default:
		fail(w, http.StatusMethodNotAllowed, r.Method)
	}
}

func apply(r *http.Request, to Object) (patched Object, err error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(to)
	if err != nil {
		return nil, err
	}
	switch kind, _ := to["kind"].(string); {
	case r.Header.Get("Content-Type") == "application/json-patch+json":
		var patch jsonpatch.Patch
		if patch, err = jsonpatch.DecodePatch(body); err == nil {
			text, err = patch.Apply(text)
		}
	case strings.HasSuffix(kind, "WebhookConfiguration"): // their webhooks are merged by name
		text, err = strategicpatch.StrategicMergePatch(text, body, admissionregistrationv1.MutatingWebhookConfiguration{})
	default: // a merge, for all that the clients here do with it
		text, err = jsonpatch.MergePatch(text, body)
	}
	if err != nil {
		return nil, err
	}
	return patched, json.Unmarshal(text, &patched)
}

// watch streams what changes after the request, and with sendInitialEvents what is there first, as an informer asks for.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, about watch) {
	to := &watcher{wake: make(chan struct{}, 1)}
	s.mu.Lock()
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		for _, object := range s.list(about) {
			to.add(event{"ADDED", object})
		}
		kind, version := about.kind()
		to.add(event{"BOOKMARK", Object{"apiVersion": version, "kind": kind, "metadata": Object{
			"resourceVersion": strconv.Itoa(s.version), "annotations": Object{"k8s.io/initial-events-end": "true"}}}})
	}
	s.watchers[to] = about
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, to)
	}()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-to.wake:
		}
		s.mu.Lock()
		events := to.events
		to.events = nil
		s.mu.Unlock()
		for _, e := range events {
			if json.NewEncoder(w).Encode(e) != nil {
				return
			}
		}
		w.(http.Flusher).Flush()
	}
}

// kinds are those of collections; what is not here is of ServiceAccounts.
var kinds = map[string][2]string{
	"secrets":                           {"Secret", "v1"},
	"mutatingwebhookconfigurations":     {"MutatingWebhookConfiguration", "admissionregistration.k8s.io/v1"},
	"validatingwebhookconfigurations":   {"ValidatingWebhookConfiguration", "admissionregistration.k8s.io/v1"},
	"validatingadmissionpolicies":       {"ValidatingAdmissionPolicy", "admissionregistration.k8s.io/v1"},
	"validatingadmissionpolicybindings": {"ValidatingAdmissionPolicyBinding", "admissionregistration.k8s.io/v1"},
	"externalsecrets":                   {"ExternalSecret", "alibabacloud.com/v1alpha1"},
	"secretstores":                      {"SecretStore", "alibabacloud.com/v1alpha1"},
	"clustersecretstores":               {"ClusterSecretStore", "alibabacloud.com/v1alpha1"},
}

// kind is what the answers to a list and a watch consist of.
func (w watch) kind() (kind, version string) {
	of, found := kinds[w.collection[strings.LastIndex(w.collection, "/")+1:]]
	switch {
	case w.metadata:
		return "PartialObjectMetadata", "meta.k8s.io/v1"
	case found:
		return of[0], of[1]
	}
	return "ServiceAccount", "v1"
}

func respond(w http.ResponseWriter, status int, object any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(object) //nolint:errcheck // the client is gone
}

func fail(w http.ResponseWriter, status int, message string) {
	reasons := map[int]string{
		http.StatusNotFound: "NotFound", http.StatusConflict: "Conflict", http.StatusForbidden: "Forbidden",
		http.StatusMethodNotAllowed: "MethodNotAllowed", http.StatusInternalServerError: "InternalError",
	}
	if message == "already exists" {
		reasons[http.StatusConflict] = "AlreadyExists"
	}
	respond(w, status, Object{
		"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": status, "reason": reasons[status], "message": message,
	})
}
