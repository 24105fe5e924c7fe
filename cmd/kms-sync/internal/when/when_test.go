package when

import (
	"maps"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
)

var noon = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

// object was read at noon, with success.
func object(changes ...func(*v1alpha1.ExternalSecret)) *v1alpha1.ExternalSecret {
	es := &v1alpha1.ExternalSecret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db", UID: "1", Generation: 2}}
	es.Status = v1alpha1.ExternalSecretStatus{
		Conditions:         []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}},
		ObservedGeneration: 2, RefreshTime: new(metav1.NewTime(noon)), StoreGenerations: map[string]int64{"s": 1},
	}
	for _, change := range changes {
		change(es)
	}
	return es
}

func failed(next time.Time) func(*v1alpha1.ExternalSecret) {
	return func(es *v1alpha1.ExternalSecret) {
		es.Status.Conditions[0].Status = metav1.ConditionFalse
		if es.Status.NextRefreshTime = nil; !next.IsZero() {
			es.Status.NextRefreshTime = new(metav1.NewTime(next))
		}
	}
}

func TestNext(t *testing.T) {
	every := func(interval string) func(*v1alpha1.ExternalSecret) {
		return func(es *v1alpha1.ExternalSecret) { es.Spec.RotationInterval = interval }
	}
	onChange := func(es *v1alpha1.ExternalSecret) { es.Spec.RefreshPolicy = v1alpha1.RefreshOnChange }
	once := func(es *v1alpha1.ExternalSecret) { es.Spec.RefreshPolicy = v1alpha1.RefreshCreatedOnce }
	read := func(after time.Duration) func(*v1alpha1.ExternalSecret) {
		return func(es *v1alpha1.ExternalSecret) { es.Status.RefreshTime.Time = noon.Add(after) }
	}
	unread := func(es *v1alpha1.ExternalSecret) { es.Status.RefreshTime = nil }
	original := func(es *v1alpha1.ExternalSecret) { es.Status.DataSyncResults = make([]v1alpha1.DataSyncResult, 1) }
	answered := func(es *v1alpha1.ExternalSecret) { es.Status.ObservedRefresh = "now" }
	changed := func(es *v1alpha1.ExternalSecret) { es.Generation = 3 }
	immutable := func(es *v1alpha1.ExternalSecret) { es.Spec.Target.Immutable = true }
	requested := func(es *v1alpha1.ExternalSecret) {
		es.Annotations = map[string]string{v1alpha1.AnnotationRefresh: "now"}
	}
	never := func(es *v1alpha1.ExternalSecret) { es.Status = v1alpha1.ExternalSecretStatus{} }
	rotates := func(in ...time.Duration) func(*v1alpha1.ExternalSecret) {
		return func(es *v1alpha1.ExternalSecret) {
			for _, d := range in {
				es.Status.Secrets = append(es.Status.Secrets, v1alpha1.SyncedSecret{NextRotation: new(metav1.NewTime(noon.Add(d)))})
			}
		}
	}
	stores := map[string]int64{"s": 1}
	now := 10 * time.Second // after noon
	for name, tc := range map[string]struct {
		es          *v1alpha1.ExternalSecret
		facts       Facts
		why         Reason
		least, most time.Duration // after noon
	}{
		"new":                             {object(never), Facts{}, New, now, now},
		"new, of ack-secret-manager":      {object(never, original), Facts{}, New, now, now},
		"synced":                          {object(), Facts{}, Interval, 540 * time.Second, 660 * time.Second},
		"an interval of its own":          {object(every("1h")), Facts{}, Interval, 54 * time.Minute, 66 * time.Minute},
		"too short an interval":           {object(every("1ms")), Facts{}, Interval, 9 * time.Second, 11 * time.Second},
		"no interval":                     {object(every("soon")), Facts{}, Interval, 540 * time.Second, 660 * time.Second},
		"polling off":                     {object(rotates(time.Minute)), Facts{Polling: -1}, Never, 0, 0},
		"polling off, an interval":        {object(every("1h")), Facts{Polling: -1}, Never, 0, 0},
		"polling off, changed":            {object(changed), Facts{Polling: -1}, Changed, now, now},
		"changed":                         {object(changed), Facts{}, Changed, now, now},
		"a store changed":                 {object(), Facts{Stores: map[string]int64{"s": 2}}, Changed, now, now},
		"a store is another":              {object(), Facts{Stores: map[string]int64{"t": 1}}, Changed, now, now},
		"requested":                       {object(requested), Facts{}, Requested, now, now},
		"requested, answered":             {object(requested, answered), Facts{}, Interval, 540 * time.Second, 660 * time.Second},
		"missing":                         {object(), Facts{Missing: true}, Repair, 5 * time.Second, 5 * time.Second},
		"drifted":                         {object(), Facts{Drifted: true}, Repair, 5 * time.Second, 5 * time.Second},
		"rotation":                        {object(rotates(8*time.Minute, 2*time.Minute)), Facts{}, Rotation, 2 * time.Minute, 5 * time.Minute},
		"a late rotation":                 {object(rotates(-time.Minute)), Facts{}, Interval, 540 * time.Second, 660 * time.Second},
		"a far rotation":                  {object(rotates(time.Hour)), Facts{}, Interval, 540 * time.Second, 660 * time.Second},
		"failed":                          {object(failed(noon.Add(time.Minute))), Facts{}, Retry, time.Minute, time.Minute},
		"failed, missing":                 {object(failed(noon.Add(time.Minute))), Facts{Missing: true}, Retry, time.Minute, time.Minute},
		"failed, changed":                 {object(failed(noon.Add(time.Minute)), changed), Facts{}, Changed, now, now},
		"failed, never read":              {object(failed(noon.Add(time.Minute)), unread), Facts{Missing: true}, Retry, time.Minute, time.Minute},
		"a mistake":                       {object(failed(time.Time{})), Facts{Missing: true}, Never, 0, 0},
		"a mistake, mended":               {object(failed(time.Time{}), changed), Facts{}, Changed, now, now},
		"OnChange":                        {object(onChange), Facts{Stores: map[string]int64{"s": 2}}, Never, 0, 0},
		"OnChange, changed":               {object(onChange, changed), Facts{}, Changed, now, now},
		"OnChange, drifted":               {object(onChange), Facts{Drifted: true}, Repair, 5 * time.Second, 5 * time.Second},
		"OnChange, failed, a store":       {object(onChange, failed(time.Time{})), Facts{Stores: map[string]int64{"s": 2}}, Changed, now, now},
		"CreatedOnce":                     {object(once), Facts{Drifted: true}, Never, 0, 0},
		"CreatedOnce, changed":            {object(once, changed), Facts{}, Never, 0, 0},
		"CreatedOnce, requested":          {object(once, requested), Facts{}, Requested, now, now},
		"CreatedOnce, missing":            {object(once), Facts{Missing: true}, Repair, 5 * time.Second, 5 * time.Second},
		"CreatedOnce, never created":      {object(once, failed(noon.Add(time.Minute))), Facts{Missing: true}, Retry, time.Minute, time.Minute},
		"immutable":                       {object(immutable), Facts{}, Never, 0, 0},
		"immutable, changed":              {object(immutable, changed), Facts{}, Changed, now, now},
		"a clock set back":                {object(read(24 * time.Hour)), Facts{}, Interval, now, now},
		"a clock set back, failed":        {object(failed(noon.Add(24 * time.Hour))), Facts{}, Retry, now, now},
		"a replica's clock":               {object(read(30 * time.Second)), Facts{}, Interval, 570 * time.Second, 690 * time.Second},
		"a status that the schema prunes": {object(unread), Facts{}, Interval, now, now},
	} {
		t.Run(name, func(t *testing.T) {
			f := tc.facts
			f.Now = noon.Add(now)
			if f.Polling == 0 {
				f.Polling = 10 * time.Minute
			}
			f.Polling = max(f.Polling, 0)
			if f.Stores == nil && tc.es.Status.StoreGenerations != nil {
				f.Stores = stores
			}
			for uid := range 20 {
				tc.es.UID = types.UID(rune('a' + uid))
				due := Next(tc.es, f)
				at := due.At.Sub(noon)
				if due.Why == Never && due.At.IsZero() {
					at = 0
				}
				if due.Why != tc.why || at < tc.least || at > tc.most || due.Is(f.Now) != (tc.why != Never && at <= now) {
					t.Fatalf("%s at noon + %s; want %s, %s to %s", due.Why, at, tc.why, tc.least, tc.most)
				}
			}
		})
	}
}

// TestRestart: an object is read at the times at which it would have been read without restarts, whatever happens.
func TestRestart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		es := object()
		es.UID = types.UID(rapid.StringN(1, 8, -1).Draw(t, "uid"))
		es.Spec.RefreshPolicy = rapid.SampledFrom([]v1alpha1.Policy{"", v1alpha1.RefreshOnChange, v1alpha1.RefreshCreatedOnce}).Draw(t, "policy")
		es.Spec.RotationInterval = rapid.SampledFrom([]string{"", "1s", "10s", "7m", "26h"}).Draw(t, "interval")
		es.Spec.Target.Immutable = rapid.Bool().Draw(t, "immutable")
		f := Facts{Now: noon, Polling: rapid.SampledFrom([]time.Duration{0, 2 * time.Minute}).Draw(t, "polling"),
			Stores: maps.Clone(es.Status.StoreGenerations)}
		failures := 0
		for range 50 {
			due := Next(es, f)
			if due.Why != Never && !due.At.After(f.Now) {
				es.Status.ObservedGeneration, es.Status.ObservedRefresh = es.Generation, es.Annotations[v1alpha1.AnnotationRefresh]
				es.Status.StoreGenerations = maps.Clone(f.Stores)
				if rapid.Bool().Draw(t, "fails") {
					failures++
					asked := rapid.SampledFrom([]time.Duration{0, time.Minute, 48 * time.Hour}).Draw(t, "asked")
					failed(Stamp(f.Now.Add(After(failures, asked, Every(es, f.Polling), false))).Time)(es)
				} else {
					failures, es.Status.Conditions[0].Status = 0, metav1.ConditionTrue
					es.Status.RefreshTime = new(metav1.NewTime(f.Now.Truncate(time.Second)))
					es.Status.Secrets = []v1alpha1.SyncedSecret{{NextRotation: new(metav1.NewTime(f.Now.Add(30 * time.Minute)))}}
					f.Missing, f.Drifted = false, false
				}
				if again := Next(es, f); again.Is(f.Now) && !es.Status.NextRefreshTime.Equal(new(metav1.NewTime(f.Now))) {
					t.Fatalf("due again at once: %+v", again)
				}
				continue
			}
			// Restarts at any time before it is due, which see the object as etcd has it, find the same time.
			if due.Why != Never {
				early := f
				early.Now = f.Now.Add(time.Duration(rapid.Int64Range(0, int64(due.At.Sub(f.Now))-1).Draw(t, "restart")))
				if again := Next(es.DeepCopy(), early); again != due {
					t.Fatalf("after a restart %+v, before %+v", again, due)
				}
			}
			switch rapid.IntRange(0, 6).Draw(t, "event") {
			case 0:
				es.Generation++
			case 1:
				f.Stores["s"]++
			case 2:
				f.Missing = true
			case 3:
				f.Drifted = true
			case 4:
				es.Annotations = map[string]string{v1alpha1.AnnotationRefresh: rapid.StringN(1, 3, -1).Draw(t, "refresh")}
			default:
				if due.Why != Never {
					f.Now = due.At
				}
			}
		}
	})
}

// TestSpread: objects that were read together do not stay together, and an object's interval is another each time.
func TestSpread(t *testing.T) {
	var first []time.Duration
	for i := range 1000 {
		es := object(func(es *v1alpha1.ExternalSecret) { es.UID, es.Status.StoreGenerations = types.UID(rune(i+0x100)), nil })
		first = append(first, Next(es, Facts{Now: noon, Polling: 1000 * time.Second}).At.Sub(noon))
	}
	slices.Sort(first)
	for i, want := range map[int]time.Duration{
		0: 900 * time.Second, 250: 950 * time.Second, 500: 1000 * time.Second, 750: 1050 * time.Second, 999: 1100 * time.Second,
	} {
		if d := first[i] - want; d < -20*time.Second || d > 20*time.Second {
			t.Errorf("the %dth of 1,000 comes after %s, want %s", i, first[i], want)
		}
	}
}

func TestAfter(t *testing.T) {
	for name, tc := range map[string]struct {
		failures     int
		asked, every time.Duration
		outage       bool
		least, most  time.Duration
	}{
		"the first":        {1, 0, time.Hour, false, 0, 2 * time.Second},
		"the fourth":       {4, 0, time.Hour, false, 0, 16 * time.Second},
		"many":             {1000, 0, time.Hour, false, 0, 5 * time.Minute},
		"an outage":        {1000, 0, time.Hour, true, 0, 2 * time.Minute},
		"a short interval": {1000, 0, 10 * time.Second, false, 0, time.Minute},
		"no interval":      {1000, 0, 0, false, 0, 5 * time.Minute},
		"asked":            {1, 30 * time.Second, time.Hour, false, 30 * time.Second, 30 * time.Second},
		"asked for a year": {1, 365 * 24 * time.Hour, time.Hour, false, time.Hour, time.Hour},
		"none":             {0, 0, time.Hour, false, 0, 2 * time.Second},
	} {
		least, most := tc.most, tc.least
		for range 500 {
			d := After(tc.failures, tc.asked, tc.every, tc.outage)
			least, most = min(least, d), max(most, d)
		}
		if least < tc.least || most > tc.most || most-least < (tc.most-tc.least)*8/10 {
			t.Errorf("%s: %s to %s, want %s to %s", name, least, most, tc.least, tc.most)
		}
	}
}

func TestConfirmed(t *testing.T) {
	for name, tc := range map[string]struct {
		first time.Time
		every time.Duration
		want  bool
	}{
		"the first time":  {time.Time{}, time.Minute, false},
		"a second later":  {noon.Add(-time.Second), 10 * time.Second, false},
		"a poll later":    {noon.Add(-5 * time.Minute), 5 * time.Minute, true},
		"a tenth earlier": {noon.Add(-270 * time.Second), 5 * time.Minute, true},
		"half a poll":     {noon.Add(-150 * time.Second), 5 * time.Minute, false},
		"no polling":      {noon.Add(-time.Minute), 0, true},
	} {
		if got := Confirmed(tc.first, noon, tc.every); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestStamp(t *testing.T) {
	for d, want := range map[time.Duration]time.Duration{
		0: 0, 1: time.Second, time.Second: time.Second, 1500 * time.Millisecond: 2 * time.Second,
	} {
		if got := Stamp(noon.Add(d)).Sub(noon); got != want {
			t.Errorf("%s: %s", d, got)
		}
	}
}
