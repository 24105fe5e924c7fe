package atrest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
)

// StatusOptions select what Status examines.
type StatusOptions struct {
	Resources []schema.GroupVersionResource
	Count     bool   // read each object to find how it is stored
	Probe     string // namespace in which each API server creates and deletes an empty Secret; "": none
	Servers   int    // number of API servers; 0: as the cluster shows
}

var secrets = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}

// Status reports how the API servers store resources. The API servers' counters run since their start, so only their change while each
// object is read shows what etcd has now.
func (c Cluster) Status(ctx context.Context, o StatusOptions) (Report, error) {
	servers, err := c.find(ctx, o.Servers)
	if err != nil {
		return Report{}, err
	}
	var r Report
	if o.Probe != "" {
		for _, s := range servers.all {
			if err := probe(ctx, s.kube, o.Probe); err != nil {
				r.unknown("%s: cannot create a Secret as a probe: %v", s.address, err)
				continue
			}
			s.touched[name(secrets)] = true
		}
		if ctx.Err() != nil {
			return Report{}, errInterrupted
		}
		servers.look(ctx)
	}
	reader := servers.all[0]
	if seen := servers.seen(); len(seen) > 0 {
		reader = seen[0]
	}
	counted := map[schema.GroupVersionResource]Resource{}
	for _, resource := range o.Resources {
		if len(servers.seen()) == 0 {
			continue
		}
		counted[resource] = c.count(ctx, &r, reader, resource, o.Count)
		if ctx.Err() != nil {
			return Report{}, errInterrupted
		}
	}
	servers.look(ctx)
	r.servers(servers)
	for _, resource := range o.Resources {
		if len(servers.seen()) == 0 {
			r.unknown("%s: nothing shows how they are stored", name(resource))
			continue
		}
		r.resource(counted[resource], r.writes(servers, name(resource)))
	}
	r.others(servers, o.Resources)
	return r, nil
}

// name returns the name of a resource in the metrics.
func name(resource schema.GroupVersionResource) string { return resource.GroupResource().String() }

// probeTimeout limits a probe, which an interrupt does not stop.
const probeTimeout = 10 * time.Second

// probe creates and deletes a Secret without content. It leaves none behind if ctx ends.
func probe(ctx context.Context, kube kubernetes.Interface, namespace string) error {
	if ctx.Err() != nil {
		return errInterrupted
	}
	ctx, end := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer end()
	made, err := kube.CoreV1().Secrets(namespace).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "kubectl-kms-at-rest-"}}, metav1.CreateOptions{})
	if err != nil {
		return refusal(err, "create secrets in namespace "+namespace)
	}
	if err := kube.CoreV1().Secrets(namespace).Delete(ctx, made.Name, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("it is left behind, delete Secret %s/%s: %w", namespace, made.Name, err)
	}
	return nil
}

// count reads all objects of a resource through one API server, and learns from its counters how they are stored.
func (c Cluster) count(ctx context.Context, r *Report, s *server, resource schema.GroupVersionResource, all bool) Resource {
	out := Resource{Resource: name(resource)}
	sinceStart := func() Resource {
		out.counters(storedAs(s.last.done, s.last.used, out.Resource, read))
		return out
	}
	if !all {
		return sinceStart()
	}
	objects, _, err := s.list(ctx, resource)
	if err != nil {
		r.unknown("%s: how each is stored is not known: %v", out.Resource, err)
		return sinceStart()
	}
	before := s.last
	bar := c.progress(out.Resource+" read", 0, len(objects))
	var got atomic.Int64 // excludes objects deleted since the list
	failed, _, err := each(ctx, objects, bar.show, func(ctx context.Context, o object) error {
		err := s.read(ctx, resource, o)
		if err == nil {
			got.Add(1)
		}
		return err
	})
	bar.end()
	done := int(got.Load())
	if err != nil {
		r.unknown("%s: how each is stored is not known: %v", out.Resource, refusal(err, "get "+out.Resource+" in all namespaces"))
		return sinceStart()
	}
	for i, err := range failed {
		if i == 3 {
			r.broken("", "%s: %d more cannot be read", out.Resource, len(failed)-i)
			break
		}
		r.broken("if it cannot be decrypted, give the API servers back the key that encrypted it; until then, each list of all objects "+
			"fails, too", "%s cannot be read: %v", out.Resource, err)
	}
	s.lookAt(ctx)
	if s.problem != nil || s.last.started != before.started {
		r.unknown("%s: the connection moved to another API server after %d objects; try again", out.Resource, done)
		return sinceStart()
	}
	s.touched[out.Resource] = done > 0
	moved, used := s.last.since(before)
	found, sum := storedAs(moved, used, out.Resource, read), 0
	for as, n := range found {
		out.Stored = append(out.Stored, Stored{As: as, Objects: min(int(n), done), Read: int(n)})
		sum += int(n)
	}
	out.Counted, out.Objects = true, len(objects)
	switch {
	case sum == 0 && done > 0 && !s.last.transforms(out.Resource): // no provider is configured
		out.Stored = []Stored{{As: plaintext, Objects: done}}
	case sum < done:
		out.Counted = false
		r.unknown("%s: %d objects were read, and the API server's counters show %d: they went through several API servers; try again",
			out.Resource, done, sum)
	case sum > done:
		out.Others = sum - done
	}
	return out
}

// writes returns how the API servers store new writes of a resource, "" if they differ or it is not known.
func (r *Report) writes(servers fleet, resource string) string {
	by, silent := servers.writes(resource)
	for _, s := range silent {
		r.unknown("%s: the key with which %s writes is not known: it has written none since its start at %s or since it reloaded its "+
			"configuration; --probe has it write one", resource, s.address, moment(s.last.started).Format(time.RFC3339))
	}
	if len(silent) > 0 {
		return ""
	}
	if len(by) == 1 {
		return slices.Collect(maps.Keys(by))[0]
	}
	if len(by) > 1 {
		r.broken("make their configurations equal, or wait until each has loaded it; do not remove a key before", "%s: the API servers write "+
			"with different keys: %s", resource, describeWrites(by))
	}
	return ""
}

// writes returns the API servers' addresses by how they store new writes of a resource, and the servers that do not show it. One that has
// written none stores them as another does that has the same configuration.
func (s fleet) writes(resource string) (by map[string][]string, silent []*server) {
	by, byConfig := map[string][]string{}, map[string]string{}
	for _, one := range s.seen() {
		if as := one.writes(resource); as != "" && one.last.config != "" {
			byConfig[one.last.config] = as
		}
	}
	for _, one := range s.seen() {
		if as := cmp.Or(one.writes(resource), byConfig[one.last.config]); as != "" {
			by[as] = append(by[as], one.address)
		} else {
			silent = append(silent, one)
		}
	}
	return by, silent
}

func describeWrites(by map[string][]string) string {
	var each []string
	for _, as := range slices.Sorted(maps.Keys(by)) {
		each = append(each, strings.Join(by[as], ", ")+" writes "+short(as))
	}
	return strings.Join(each, "; ")
}

// writes returns how the API server stores new writes, "" if its counters do not show it.
func (s *server) writes(resource string) string {
	moved, used := s.last.since(s.first)
	recent := storedAs(moved, used, resource, write)
	if len(recent) == 0 && s.last.reloads["success"].count == 0 {
		recent = storedAs(s.last.done, s.last.used, resource, write) // the configuration has never changed
	}
	if s.last.bare() || s.touched[resource] && !s.last.transforms(resource) {
		return plaintext // no provider is configured
	}
	as := ""
	for one := range recent {
		rest, kms := strings.CutPrefix(one, kmsV2)
		provider, _, _ := strings.Cut(rest, ":")
		if kms {
			one = kmsV2 + provider + ":" + s.last.latest(provider) // the key may be newer than the last write
		}
		if as != "" && as != one {
			return ""
		}
		as = one
	}
	return as
}

// others lists other encrypted resources, by the counters alone.
func (r *Report) others(servers fleet, asked []schema.GroupVersionResource) {
	found := map[string]map[string]float64{}
	for _, s := range servers.seen() {
		for o := range s.last.done {
			if o.resource == "" || slices.ContainsFunc(asked, func(a schema.GroupVersionResource) bool { return name(a) == o.resource }) {
				continue
			}
			if found[o.resource] == nil {
				found[o.resource] = map[string]float64{}
			}
			for as, n := range storedAs(s.last.done, s.last.used, o.resource, read) {
				found[o.resource][as] = max(found[o.resource][as], n)
			}
		}
	}
	for _, resource := range slices.Sorted(maps.Keys(found)) {
		out := Resource{Resource: resource}
		out.counters(found[resource])
		out.sort()
		r.Resources = append(r.Resources, out)
	}
}
