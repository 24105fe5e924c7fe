// Package atrest reports how the API servers store Secrets in etcd, and has them rewritten.
package atrest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
)

// A Cluster is accessed with the rights of the plugin's user.
type Cluster struct {
	REST  *rest.Config // its QPS limits the requests to each API server
	Aside screen.Screen

	pause time.Duration // between looks; 0: the default
}

// dialTimeout is short because some addresses may not be reachable from here.
const dialTimeout = 3 * time.Second

// A server is one API server, with connections of its own.
type server struct {
	address string
	kube    kubernetes.Interface
	objects metadata.Interface // metadata only: no value of a Secret leaves the API server

	clock       atomic.Int64 // when it last answered, by its own clock, in seconds since 1970; 0: not known
	first, last look
	touched     map[string]bool // resources of which it certainly read or wrote an object
	problem     error           // why there are no metrics
	health      []check         // of KMS providers
	unhealthy   error           // why there is no health
}

// A check is one of the API server's health checks.
type check struct {
	name string
	ok   bool
}

// connect returns clients with a connection of their own, because a connection reaches one API server even behind a load balancer.
func (c Cluster) connect(host string, direct bool) (*server, error) {
	config := rest.CopyConfig(c.REST)
	if direct {
		config.Host = "https://" + host
		config.ServerName = cmp.Or(config.ServerName, "kubernetes.default.svc") // a name in every API server's certificate
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	config.Dial = dialer.DialContext
	s := &server{address: host, touched: map[string]bool{}}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return dated{next, &s.clock} })
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	if s.kube, err = kubernetes.NewForConfigAndClient(config, client); err != nil {
		return nil, err
	}
	s.objects, err = metadata.NewForConfigAndClient(metadata.ConfigFor(config), client)
	return s, err
}

// dated is a transport that stores the time of each answer.
type dated struct {
	http.RoundTripper
	clock *atomic.Int64
}

func (d dated) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := d.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if at, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
		d.clock.Store(at.Unix())
	}
	return answer, nil
}

// lookAt reads the metrics.
func (s *server) lookAt(ctx context.Context) {
	stream, err := s.kube.Discovery().RESTClient().Get().AbsPath("/metrics").Stream(ctx)
	if err != nil {
		s.problem = refusal(err, "get /metrics")
		return
	}
	defer stream.Close()
	found, err := readMetrics(stream)
	if err == nil && found.started == 0 {
		err = errors.New("they lack " + processStart)
	}
	if err != nil {
		s.problem = fmt.Errorf("read the metrics: %w", err)
		return
	}
	found.at = float64(s.clock.Load())
	if s.first.started != found.started || s.first.reloads["success"].count != found.reloads["success"].count {
		// After a restart the counters start at zero; what was written before a reload may have another key.
		s.first = found
		clear(s.touched)
	}
	s.last, s.problem = found, nil
}

// lookAtHealth reads the KMS providers' checks from /readyz; /livez does not have them.
func (s *server) lookAtHealth(ctx context.Context) {
	text, err := s.kube.Discovery().RESTClient().Get().AbsPath("/readyz").Param("verbose", "").Do(ctx).Raw()
	if err != nil && !strings.Contains(string(text), "[+]") {
		s.unhealthy = refusal(err, "get /readyz")
		return
	}
	s.health, s.unhealthy = nil, nil
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(strings.TrimLeft(line, "[+-]"), " ")
		if strings.HasPrefix(name, "kms-provider") {
			s.health = append(s.health, check{name, strings.HasPrefix(line, "[+]")})
		}
	}
}

// refusal turns Forbidden into an error that names the missing permission.
func refusal(err error, what string) error {
	if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
		return fmt.Errorf("you are not allowed to %s", what)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// A fleet is the API servers of a cluster that can be seen from here.
type fleet struct {
	all     []*server // connected; the first is the kubeconfig's
	count   int       // of all in the cluster; 0: not known
	unseen  []string  // addresses without a connection, and why
	unasked []string  // sources of count that failed, and why
}

// seen returns the servers that show their metrics.
func (s fleet) seen() (seen []*server) {
	for _, server := range s.all {
		if server.problem == nil {
			seen = append(seen, server)
		}
	}
	return seen
}

// reached returns the servers that can be asked to write. The metrics tell the kubeconfig's server from the others; without them, it
// is included only if it is the only one.
func (s fleet) reached() []*server {
	if s.all[0].problem != nil && len(s.all) > 1 {
		return s.all[1:]
	}
	return s.all
}

// complete reports whether all servers are seen.
func (s fleet) complete() bool { return s.count > 0 && len(s.seen()) >= s.count }

// find connects to the API servers: to the kubeconfig's; to each endpoint of the Service kubernetes; and again to the kubeconfig's
// address, which may be a load balancer's. Their number is count or, if that is 0, the number of Leases or of endpoints.
func (c Cluster) find(ctx context.Context, count int) (fleet, error) {
	host := c.REST.Host
	if u, err := url.Parse(host); err == nil && u.Host != "" {
		host = u.Host
	}
	given, err := c.connect(host, false)
	if err != nil {
		return fleet{}, err
	}
	if _, err := given.kube.Discovery().ServerVersion(); err != nil && !apierrors.IsForbidden(err) {
		return fleet{}, fmt.Errorf("ask the API server: %w", err)
	}
	s := fleet{}
	s.add(ctx, given)
	leases, err := liveAPIServers(ctx, given.kube)
	if err != nil {
		s.unasked = append(s.unasked, err.Error())
	}
	s.count = cmp.Or(count, leases)
	if s.complete() {
		return s, nil
	}
	addresses, err := endpoints(ctx, given.kube)
	if err != nil {
		s.unasked = append(s.unasked, err.Error())
	}
	s.count = cmp.Or(s.count, len(addresses))
	c.direct(ctx, &s, addresses)
	c.again(ctx, &s)
	return s, nil
}

// direct connects to each address.
func (c Cluster) direct(ctx context.Context, s *fleet, addresses []string) {
	given := s.all[0]
	addresses = slices.DeleteFunc(addresses, func(a string) bool { return a == given.address })
	if c.REST.Insecure && len(addresses) > 0 {
		s.unseen = append(s.unseen, strings.Join(addresses, ", ")+": not connected, because the kubeconfig says insecure-skip-tls-verify")
		return
	}
	found := make([]*server, len(addresses))
	errs := make([]error, len(addresses))
	var group sync.WaitGroup
	for i, address := range addresses {
		group.Go(func() {
			if found[i], errs[i] = c.connect(address, true); errs[i] == nil {
				_, errs[i] = found[i].kube.Discovery().ServerVersion()
			}
		})
	}
	group.Wait()
	for i, server := range found {
		if errs[i] != nil {
			s.unseen = append(s.unseen, fmt.Sprintf("%s: %v", addresses[i], unquoted(errs[i])))
			continue
		}
		s.add(ctx, server)
	}
}

// unquoted returns an error without the request's URL.
func unquoted(err error) error {
	if asked := new(url.Error); errors.As(err, &asked) {
		return asked.Err
	}
	return err
}

// again reconnects to the kubeconfig's address while some API servers are not seen.
func (c Cluster) again(ctx context.Context, s *fleet) {
	given := s.all[0]
	if given.problem != nil {
		return
	}
	for tries := 4 * (s.count - len(s.seen())); tries > 0 && !s.complete() && ctx.Err() == nil; tries-- {
		server, err := c.connect(given.address, false)
		if err != nil {
			return
		}
		if s.add(ctx, server) {
			server.address += " #" + strconv.Itoa(len(s.all))
		}
	}
}

// add looks at an API server and adds it, unless the fleet has it already.
func (s *fleet) add(ctx context.Context, server *server) bool {
	server.lookAt(ctx)
	if len(s.all) > 0 && server.problem == nil {
		for i, other := range s.all {
			if other.problem == nil && other.last.started == server.last.started {
				if i == 0 && !strings.Contains(other.address, server.address) {
					other.address += " = " + server.address
				}
				return false
			}
		}
	}
	server.lookAtHealth(ctx)
	s.all = append(s.all, server)
	return true
}

// look reads the metrics of all servers again.
func (s *fleet) look(ctx context.Context) {
	var group sync.WaitGroup
	for _, server := range s.all {
		group.Go(func() { server.lookAt(ctx) })
	}
	group.Wait()
}

// liveAPIServers counts the Leases that API servers renew every ten seconds.
func liveAPIServers(ctx context.Context, kube kubernetes.Interface) (int, error) {
	leases, err := kube.CoordinationV1().Leases(metav1.NamespaceSystem).List(ctx,
		metav1.ListOptions{LabelSelector: "apiserver.kubernetes.io/identity=kube-apiserver"})
	if err != nil {
		return 0, refusal(err, "list leases in namespace "+metav1.NamespaceSystem)
	}
	var newest time.Time
	for _, l := range leases.Items {
		if l.Spec.RenewTime != nil && l.Spec.RenewTime.After(newest) {
			newest = l.Spec.RenewTime.Time
		}
	}
	live := 0
	for _, l := range leases.Items {
		if l.Spec.RenewTime != nil && newest.Sub(l.Spec.RenewTime.Time) < time.Minute {
			live++
		}
	}
	return live, nil
}

// endpoints returns the addresses of the Service kubernetes, which the API servers write.
func endpoints(ctx context.Context, kube kubernetes.Interface) ([]string, error) {
	slicesOf, err := kube.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).List(ctx,
		metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=kubernetes"})
	if err != nil {
		return nil, refusal(err, "list endpointslices in namespace "+metav1.NamespaceDefault)
	}
	var found []string
	for _, slice := range slicesOf.Items {
		for _, e := range slice.Endpoints {
			for _, a := range e.Addresses {
				for _, p := range slice.Ports {
					if p.Port != nil {
						found = append(found, net.JoinHostPort(a, strconv.Itoa(int(*p.Port))))
					}
				}
			}
		}
	}
	return found, nil
}

// identity returns a value that is unique to the cluster.
func identity(ctx context.Context, s *server, host string) string {
	if system, err := s.kube.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{}); err == nil {
		return string(system.UID)
	}
	return fmt.Sprintf("%x", sha256.Sum256([]byte(host)))
}
