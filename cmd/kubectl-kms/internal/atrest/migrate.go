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

// The ways to rewrite objects.
const (
	Auto    = "auto"    // by the cluster if it can
	Updates = "updates" // by updates that change nothing
	SVM     = "storageversionmigration"
)

// MigrateOptions choose what Migrate does.
type MigrateOptions struct {
	Resources      []schema.GroupVersionResource
	Servers        int           // number of API servers; 0: as the cluster shows
	Wait           time.Duration // until all API servers show the same key
	DryRun         bool
	Annotate       bool   // change an annotation, for providers with which an update without changes does not rewrite
	AllowPlaintext bool   // rewrite even if the API servers write plaintext, or nothing shows what they write
	Probe          string // namespace in which an API server that does not show what it writes creates and deletes an empty Secret
	Via            string // Auto, Updates or SVM
	Again          bool   // ignore the mark of an interrupted migration
}

// Annotation is the annotation by which ACK's documentation has Secrets rewritten; its value is the time.
const Annotation = "encryption-key-rotation-time"

// fieldManager never owns a field: a patch without changes leaves managedFields as they are.
const fieldManager = "kubectl-kms-at-rest"

// errFailed says that some objects could not be rewritten. The errors have been printed.
var errFailed = errors.New("some objects could not be rewritten; run the same command to try them again")

// errUnproven says that all objects were rewritten, with a key that the metrics do not show.
var errUnproven = errors.New("the objects were rewritten, but nothing shows with which key, or whether they are encrypted; keep the old " +
	"key until kubectl kms at-rest status ends with exit code 0")

// Failed reports whether Migrate finished, and not all objects have been shown to be stored with the present key.
func Failed(err error) bool { return errors.Is(err, errFailed) || errors.Is(err, errUnproven) }

// A migration is one run.
type migration struct {
	Cluster
	MigrateOptions
	servers fleet
	cluster string
}

// Migrate has the API servers rewrite all objects of the resources with the present key. It neither reads nor changes their content.
func (c Cluster) Migrate(ctx context.Context, o MigrateOptions) error {
	servers, err := c.find(ctx, o.Servers)
	if err != nil {
		return err
	}
	m := &migration{Cluster: c, MigrateOptions: o, servers: servers, cluster: identity(ctx, servers.all[0], c.REST.Host)}
	if err := m.all(); err != nil {
		return err
	}
	var failed error
	for _, resource := range o.Resources {
		err := m.resource(ctx, resource)
		if ctx.Err() != nil && err == nil {
			err = errInterrupted
		}
		if err != nil && !Failed(err) {
			return fmt.Errorf("%s: %w", name(resource), err)
		}
		failed = cmp.Or(failed, err)
	}
	return failed
}

func (m *migration) say(format string, args ...any) { m.Aside.Printf(format+"\n", args...) }

// all returns an error unless all API servers are seen: an unseen one with another key would continue to write with it.
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
		return fmt.Errorf("the number of API servers is not known, and so not whether all write with the same key: %s; "+
			"set --api-servers to their number", why)
	}
	return fmt.Errorf("%d of %d API servers were seen, and the others may write with another key: %s; run it where all can be reached, or "+
		"set --api-servers to their real number", seen, m.servers.count, why)
}

// resource has the objects of one resource rewritten.
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
	if why := m.blind(); why != "" && !m.AllowPlaintext {
		return fmt.Errorf("%s; without its metrics, nothing shows whether it encrypts: grant the rights in docs/encryption-at-rest.md, or "+
			"rewrite them without proof with --allow-plaintext", why)
	}
	if _, _, err := m.key(resource); err != nil {
		return err
	}
	if err := m.agree(ctx, resource, objects); err != nil {
		return err
	}
	m.servers.look(ctx)
	key, problem, err := m.key(resource)
	switch {
	case err != nil:
		return err
	case problem != "":
		return fmt.Errorf("%s; run it again", problem)
	case key == "":
		m.say("%s: nothing shows with which key the API servers write, or whether they encrypt", name(resource))
	default:
		m.say("%s: all API servers write with %s", name(resource), short(key))
	}
	if strings.HasPrefix(key, kmsV1) && !m.Annotate {
		m.say("%s: KMS v1 does not show its key: objects of other providers are rewritten; --annotate rewrites all", name(resource))
	}
	objects, version, err := given.list(ctx, resource) // later writes have the key already
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
			m.say("%s: resumed after %s of %s, which were rewritten since %s", name(resource), thousands(len(objects)-len(left)),
				thousands(len(objects)), begun.Began.Format(time.RFC3339))
		} else {
			m.say("%s: the key is not that of the interrupted migration: all are rewritten", name(resource))
		}
	}
	if m.DryRun {
		m.say("%s: %s objects would be rewritten with %s, except those that have it already (dry run)", name(resource),
			thousands(len(left)), cmp.Or(short(key), "the API servers' key"))
		return nil
	}
	if err := mark.write(begun); err != nil {
		m.say("if interrupted, the migration starts over: %v", err)
	}
	began := time.Now()
	done, err := m.rewrite(ctx, resource, objects, left, begun)
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
	if key == "" {
		return errUnproven
	}
	return nil
}

// agree waits until all API servers write with the same key. The metrics show it for KMS v2 and, in newer versions, as a hash of the whole
// configuration; for certain is only that an API server does not rewrite an object that another has just written with the same key.
func (m *migration) agree(ctx context.Context, resource schema.GroupVersionResource, objects []object) error {
	deadline := time.Now().Add(m.Wait)
	said := ""
	for {
		problem := differ(m.servers.seen())
		if seen := len(m.servers.reached()); seen < m.servers.count {
			problem = fmt.Sprintf("%d of %d API servers are seen", seen, m.servers.count)
		}
		if problem == "" && !m.DryRun {
			if err := m.probe(ctx, resource); err != nil {
				return err
			}
		}
		if problem == "" {
			var err error
			if _, problem, err = m.key(resource); err != nil {
				return err
			}
		}
		if problem == "" && !m.DryRun {
			var err error
			if problem, err = m.same(ctx, resource, objects[0]); err != nil {
				return err
			}
			if problem == gone {
				if objects, _, err = m.servers.all[0].list(ctx, resource); err != nil {
					return err
				}
				if len(objects) == 0 {
					return errors.New("all were deleted before the API servers could be compared; run it again")
				}
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

// gone is the problem that same has with an object that was deleted or recreated: it shows nothing about the API servers.
const gone = "the object by which the API servers are compared was deleted"

// same asks each API server in turn to rewrite one object, which it does if the object has another key.
func (m *migration) same(ctx context.Context, resource schema.GroupVersionResource, o object) (problem string, err error) {
	before := ""
	reached := m.servers.reached()
	for i, s := range reached {
		now, err := s.patch(ctx, resource, o, nil)
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return gone, nil
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

// blind says which API server's metrics cannot be read, and why; "" if there is none.
func (m *migration) blind() string {
	for _, s := range m.servers.reached() {
		if s.problem != nil {
			return fmt.Sprintf("%s: %v", s.address, s.problem)
		}
	}
	return ""
}

// probe has each API server that does not show how it stores new writes create and delete an empty Secret. Only then may it be asked to
// rewrite an object, which could store that as plaintext.
func (m *migration) probe(ctx context.Context, resource schema.GroupVersionResource) error {
	_, silent := m.servers.writes(name(resource))
	for _, s := range silent {
		err := errors.New("only Secrets are probed")
		if resource == secrets {
			s.first = s.last // what it wrote with another key no longer counts
			err = probe(ctx, s.kube, m.Probe)
		}
		if err == nil {
			s.touched[name(resource)] = true
		} else if !m.AllowPlaintext {
			return fmt.Errorf("%s has written no %s since it started or reloaded its configuration, so nothing shows whether it encrypts them, "+
				"and it was not probed: %w; create one through it, or rewrite them without proof with --allow-plaintext", s.address,
				name(resource), err)
		}
	}
	if len(silent) > 0 {
		m.servers.look(ctx)
	}
	if ctx.Err() != nil {
		return errInterrupted
	}
	return nil
}

// key returns the key of new writes, "" if not all API servers show it and need not, and how the API servers' keys differ.
func (m *migration) key(resource schema.GroupVersionResource) (key, problem string, err error) {
	by, silent := m.servers.writes(name(resource))
	if by[plaintext] != nil && !m.AllowPlaintext {
		return "", "", errors.New("the API servers write them as plaintext: switch encryption at rest on first " +
			"(docs/encryption-at-rest.md), or decrypt them with --allow-plaintext")
	}
	if len(by) > 1 {
		return "", "the API servers write with different keys: " + describeWrites(by), nil
	}
	switch why := m.blind(); {
	case (why != "" || len(silent) > 0) && (m.AllowPlaintext || m.DryRun):
		return "", "", nil
	case why != "":
		return "", why, nil
	case len(silent) > 0:
		return "", fmt.Sprintf("the metrics of %s do not show how it stores new %s", silent[0].address, name(resource)), nil
	}
	for as := range by {
		key = as
	}
	return key, "", nil
}

// fingerprint changes when an API server shows another configuration or key and, with processes, after a restart, which may have changed
// either; "" if it is not known.
func (m *migration) fingerprint(processes bool) string {
	var all []string
	for _, s := range m.servers.reached() {
		if s.problem != nil {
			return ""
		}
		shown := fmt.Sprint(s.last.config, " ", s.kms(), " ", s.last.reloads["success"].count)
		if processes || s.last.config == "" { // without the hash, only a restart shows a change
			shown += fmt.Sprint(" ", s.last.started)
		}
		all = append(all, shown)
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// rewrite has the remaining objects rewritten, and says how many were.
func (m *migration) rewrite(ctx context.Context, resource schema.GroupVersionResource, objects, left []object, begun state) (said string,
	err error) {
	if m.Via != Updates && !m.Annotate && len(left) > 0 {
		served, err := m.svm(ctx, resource, len(objects), begun)
		if err != nil || served {
			return "written again by a StorageVersionMigration", err
		}
		if m.Via == SVM {
			return "", errors.New("the cluster serves no StorageVersionMigration, or no controller handles it; use --via updates")
		}
	}
	var annotation map[string]string
	if m.Annotate {
		annotation = map[string]string{Annotation: time.Now().UTC().Format("2006-01-02T15:04:05-0700")}
	}
	var written, kept, others atomic.Int64 // the rest is deleted meanwhile
	given := m.servers.all[0]
	bar := m.progress(name(resource), len(objects)-len(left), len(objects))
	failed, done, err := each(ctx, left, bar.show, func(ctx context.Context, o object) error {
		now, err := given.patch(ctx, resource, o, annotation)
		switch {
		case apierrors.IsConflict(err): // another client wrote it since the list, and so with the key, or recreated it
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

// patch has the API server rewrite an object that is not stored as the server would store it now, and returns its resource version.
// Without annotations, nothing else changes. The patch is void for a recreated object of the same name.
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
