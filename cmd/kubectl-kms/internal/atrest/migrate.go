package atrest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// The ways to have objects stored anew.
const (
	Auto    = "auto"    // by the cluster where it can
	Updates = "updates" // by updates that change nothing
	SVM     = "storageversionmigration"
)

// MigrateOptions choose what Migrate does.
type MigrateOptions struct {
	Resources      []schema.GroupVersionResource
	Servers        int           // how many API servers there are; 0: what the cluster says
	Wait           time.Duration // for all API servers to show one key
	DryRun         bool
	Annotate       bool   // change an annotation, where an update that changes nothing is not enough
	AllowPlaintext bool   // also where plaintext is what is written
	Via            string // Auto, Updates or SVM
	Again          bool   // all, even if an interrupted migration has done some already
}

// Annotation is the annotation with which ACK's documentation rewrites Secrets; its value is the time.
const Annotation = "encryption-key-rotation-time"

// fieldManager owns nothing: patches that change nothing leave no trace in managedFields.
const fieldManager = "kubectl-kms-at-rest"

// errFailed says that some objects could not be rewritten. The errors have been printed.
var errFailed = errors.New("some objects could not be stored anew; the same command tries them again")

// Failed reports whether Migrate did what it could and some objects are left.
func Failed(err error) bool { return errors.Is(err, errFailed) }

// A migration is one run.
type migration struct {
	Cluster
	MigrateOptions
	servers fleet
	cluster string
}

// Migrate has all objects of resources stored anew, with the key that all API servers write with. What an object says is neither read nor
// changed.
func (c Cluster) Migrate(ctx context.Context, o MigrateOptions) error {
	servers, err := c.find(ctx, o.Servers)
	if err != nil {
		return err
	}
	m := &migration{Cluster: c, MigrateOptions: o, servers: servers, cluster: identity(ctx, servers.all[0], c.REST.Host)}
	if err := m.all(); err != nil {
		return err
	}
	failed := false
	for _, resource := range o.Resources {
		err := m.resource(ctx, resource)
		if ctx.Err() != nil && err == nil {
			err = errInterrupted
		}
		if err != nil && !Failed(err) {
			return fmt.Errorf("%s: %w", name(resource), err)
		}
		failed = failed || err != nil
	}
	if failed {
		return errFailed
	}
	return nil
}

func (m *migration) say(format string, args ...any) { m.Aside.Printf(format+"\n", args...) }

// all refuses to go on unless all API servers are seen: one with another key would go on writing with it.
func (m *migration) all() error {
	seen := len(m.servers.reached())
	if seen >= m.servers.count && m.servers.count > 0 {
		m.say("%d of %d API servers seen", seen, m.servers.count)
		return nil
	}
	whys := slices.Concat(m.servers.unseen, m.servers.unasked)
	for _, s := range m.servers.all {
		if s.problem != nil {
			whys = append(whys, fmt.Sprintf("%s: %v", s.address, s.problem))
		}
	}
	why := strings.Join(whys, "; ")
	if m.servers.count == 0 {
		return fmt.Errorf("how many API servers there are is not known, so that it is not known either whether all write with the same "+
			"key: %s; --api-servers says how many there are", why)
	}
	return fmt.Errorf("%d of %d API servers were seen, and the others may write with another key: %s; run it where all can be reached, or "+
		"say with --api-servers how many there are in truth", seen, m.servers.count, why)
}

// resource has the objects of one resource stored anew.
func (m *migration) resource(ctx context.Context, resource schema.GroupVersionResource) error {
	given := m.servers.all[0]
	objects, _, err := given.list(ctx, resource)
	if err != nil {
		return err
	}
	if len(objects) == 0 {
		m.say("%s: there are none", name(resource))
		return nil
	}
	if _, err := m.key(resource); err != nil {
		return err
	}
	if err := m.agree(ctx, resource, objects[0]); err != nil {
		return err
	}
	m.servers.look(ctx)
	key, err := m.key(resource)
	if err != nil {
		return err
	}
	m.say("%s: all API servers write with %s", name(resource), short(key))
	if strings.HasPrefix(key, kmsV1) && !m.Annotate {
		m.say("%s: KMS v1 does not show its key: only what another provider wrote is written again; --annotate writes all", name(resource))
	}
	objects, version, err := given.list(ctx, resource) // what is written from here on has the key already
	if err != nil {
		return err
	}
	mark := openMark(m.cluster, name(resource))
	shown := m.fingerprint(false)
	begun := state{Key: m.fingerprint(true), Version: version, Began: time.Now().UTC().Truncate(time.Second)}
	left := objects
	if earlier, ok := mark.read(); ok && !m.Again && !m.Annotate {
		if earlier.Key == begun.Key && begun.Key != "" {
			begun = earlier
			left = slices.DeleteFunc(slices.Clone(objects), func(o object) bool { return o.after(begun.Version) })
			m.say("%s: resumed after %s of %s, which have been written since %s", name(resource), thousands(len(objects)-len(left)),
				thousands(len(objects)), begun.Began.Format(time.RFC3339))
		} else {
			m.say("%s: the key is another one than that of the migration that was interrupted: all are to be written again", name(resource))
		}
	}
	if m.DryRun {
		m.say("%s: %s objects would be written again with %s; those that have that key already stay as they are (dry run)", name(resource),
			thousands(len(left)), short(key))
		return nil
	}
	if err := mark.write(begun); err != nil {
		m.say("an interrupted migration will have to begin anew: %v", err)
	}
	began := time.Now()
	done, err := m.rewrite(ctx, resource, objects, left, begun.Version)
	if err != nil {
		return err
	}
	m.servers.look(ctx)
	if m.fingerprint(false) != shown {
		mark.remove()
		return errors.New("the API servers' key or configuration changed meanwhile; run it again")
	}
	mark.remove()
	m.say("%s: %s in %s", name(resource), done, time.Since(began).Round(100*time.Millisecond))
	return nil
}

// agree waits until all API servers write with one key. Metrics say it of KMS v2, and a hash of the whole configuration in newer versions;
// what is certain is that an API server leaves an object alone that another has just written with the same key.
func (m *migration) agree(ctx context.Context, resource schema.GroupVersionResource, o object) error {
	deadline := time.Now().Add(m.Wait)
	said := ""
	for {
		problem := differ(m.servers.seen())
		if seen := len(m.servers.reached()); seen < m.servers.count {
			problem = fmt.Sprintf("%d of %d API servers are seen", seen, m.servers.count)
		}
		if problem == "" && !m.DryRun {
			var err error
			if problem, err = m.same(ctx, resource, o); err != nil {
				return err
			}
		}
		if problem == "" {
			return nil
		}
		if !time.Now().Before(deadline) {
			return fmt.Errorf("%s, still after %s", problem, m.Wait)
		}
		if problem != said {
			m.say("waiting: %s", problem)
			said = problem
		}
		select {
		case <-ctx.Done():
			return errInterrupted
		case <-time.After(cmp.Or(m.pause, 2*time.Second)):
		}
		m.servers.look(ctx)
	}
}

// same has each API server in turn write one object again if that has not its key.
func (m *migration) same(ctx context.Context, resource schema.GroupVersionResource, o object) (problem string, err error) {
	before := ""
	reached := m.servers.reached()
	for i, s := range reached {
		now, err := s.patch(ctx, resource, o, nil)
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return "", nil // it is gone: the next one tells as much, or there is none
		}
		if err != nil {
			return "", refusal(err, "patch "+name(resource)+" in all namespaces")
		}
		s.touched[name(resource)] = true
		if i > 0 && now != before {
			return fmt.Sprintf("%s writes %s with another key than %s", s.address, name(resource), reached[i-1].address), nil
		}
		before = now
	}
	return "", nil
}

// key is that which is written with, if the metrics tell.
func (m *migration) key(resource schema.GroupVersionResource) (string, error) {
	key := "the API servers' key"
	for _, s := range m.servers.seen() {
		switch as := s.writes(name(resource)); {
		case as == plaintext && !m.AllowPlaintext:
			return "", errors.New("the API servers write them as plaintext: switch encryption at rest on first " +
				"(docs/encryption-at-rest.md); to go back to plaintext, say --allow-plaintext")
		case as != "":
			key = as
		}
	}
	return key, nil
}

// fingerprint changes when an API server shows another configuration or key and, with processes, after a restart, which may have changed
// either. "" means that it is not known.
func (m *migration) fingerprint(processes bool) string {
	var all []string
	for _, s := range m.servers.reached() {
		if s.problem != nil {
			return ""
		}
		shown := fmt.Sprint(s.last.config, " ", s.kms(), " ", s.last.reloads["success"].count)
		if processes || s.last.config == "" { // a configuration that does not show changes by a restart
			shown += fmt.Sprint(" ", s.last.started)
		}
		all = append(all, shown)
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// rewrite has the objects that are left written again, and says what was done.
func (m *migration) rewrite(ctx context.Context, resource schema.GroupVersionResource, objects, left []object, since string) (said string,
	err error) {
	if m.Via != Updates && !m.Annotate && len(left) > 0 {
		served, err := m.svm(ctx, resource, len(objects), since)
		if err != nil || served {
			return "written again by a StorageVersionMigration", err
		}
		if m.Via == SVM {
			return "", errors.New("the cluster serves no StorageVersionMigration, or nothing works on it; --via updates does without")
		}
	}
	var annotation map[string]string
	if m.Annotate {
		annotation = map[string]string{Annotation: time.Now().UTC().Format("2006-01-02T15:04:05-0700")}
	}
	var written, kept, others atomic.Int64 // some are deleted meanwhile
	given := m.servers.all[0]
	bar := m.progress(name(resource), len(objects)-len(left), len(objects))
	failed, done, err := each(ctx, left, bar.show, func(ctx context.Context, o object) error {
		now, err := given.patch(ctx, resource, o, annotation)
		switch {
		case apierrors.IsConflict(err): // written by another client since the list, and so with the key; or made anew
			others.Add(1)
			return nil
		case err == nil && now == o.version:
			kept.Add(1)
		case err == nil:
			written.Add(1)
		}
		return err
	})
	bar.end()
	if err != nil {
		if errors.Is(err, errInterrupted) {
			return "", fmt.Errorf("%w after %s of %s; the same command goes on from there", err, thousands(len(objects)-len(left)+done),
				thousands(len(objects)))
		}
		return "", refusal(err, "patch "+name(resource)+" in all namespaces")
	}
	for _, f := range failed {
		m.say("%s: %v", name(resource), f)
	}
	if len(failed) > 0 {
		return "", errFailed
	}
	said = fmt.Sprintf("%s written again, %s had the key already", thousands(int(written.Load())), thousands(int(kept.Load())))
	if n := int(others.Load()); n > 0 {
		said += fmt.Sprintf(", %s written by other clients meanwhile", thousands(n))
	}
	return said, nil
}

// patch has an object written again if the API server finds that it is not stored as it would store it now, and returns its resource
// version. Without annotations nothing changes but that. The patch is void for an object of the same name that was made anew.
func (s *server) patch(ctx context.Context, resource schema.GroupVersionResource, o object, annotations map[string]string) (string, error) {
	meta := map[string]any{"uid": o.uid}
	if annotations != nil {
		meta["annotations"] = annotations
	}
	text, err := json.Marshal(map[string]any{"metadata": meta})
	if err != nil {
		return "", err
	}
	now, err := s.objects.Resource(resource).Namespace(o.namespace).Patch(ctx, o.name, types.MergePatchType, text,
		metav1.PatchOptions{FieldManager: fieldManager})
	if err != nil {
		return "", err
	}
	return now.ResourceVersion, nil
}
