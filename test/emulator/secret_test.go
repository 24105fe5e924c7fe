package emulator

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestVersionsAndStages(t *testing.T) {
	s := Secret{Name: "a", Versions: []Version{
		{ID: "one", Stages: []string{}, Value: Value{Text: "1"}},
		{ID: "two", Stages: []string{stagePrevious}, Value: Value{Text: "2"}},
		{ID: "three", Stages: []string{stageCurrent, "blue"}, Value: Value{Text: "3"}},
	}}
	if err := s.complete(defaults{"1", defaultRegion}, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ id, stage, want string }{
		{"", "", "3"},
		{"one", "", "1"}, // a version without a stage can still be read by its ID
		{"two", "", "2"},
		{"", stagePrevious, "2"},
		{"", "blue", "3"},
		{"three", "blue", "3"},
		{"two", "blue", "Forbidden.ResourceNotFound"},
		{"", "green", "Forbidden.ResourceNotFound"},
		{"four", "", "Forbidden.ResourceNotFound"},
	} {
		v, p := s.version(x.id, x.stage)
		got := v.Text
		if p != nil {
			got = p.code
		}
		if got != x.want {
			t.Errorf("id %q, stage %q: got %s, want %s", x.id, x.stage, got, x.want)
		}
	}
	s.Type = "Rds"
	if v, p := s.version("nonsense", stagePrevious); p != nil || v.Text != "2" {
		t.Errorf("managed: got %v, %v", v, p)
	}
	if _, p := s.version("", "blue"); p == nil || p.code != "InvalidParameter" {
		t.Errorf("managed, stage of one's own: got %v", p)
	}
}

func TestRotationOfManagedSecrets(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := Secret{Name: "a", Type: "Rds", AutomaticRotation: "Enabled", RotationInterval: "3600s", Value: Value{Text: "1"}}
	if err := s.complete(defaults{"1", defaultRegion}, now); err != nil {
		t.Fatal(err)
	}
	if want := now.Add(time.Hour); !s.NextRotation.Equal(want) || !s.lastRotation.IsZero() {
		t.Errorf("next rotation %v, want %v; last %v, want none", s.NextRotation, want, s.lastRotation)
	}
	now = now.Add(2 * time.Hour)
	if err := s.rotate(Version{Value: Value{Text: "2"}}, now); err != nil {
		t.Fatal(err)
	}
	if want := now.Add(time.Hour); !s.NextRotation.Equal(want) || !s.lastRotation.Equal(now) {
		t.Errorf("next rotation %v, want %v; last %v, want %v", s.NextRotation, want, s.lastRotation, now)
	}
}

// However often a secret is rotated: each stage is on one version, the newest is current, the one before it previous,
// and no version is lost.
func TestRotationKeepsStages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, err := New(Config{Account: "1"})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.PutSecret(Secret{Name: "a", Value: Value{Text: "0"}}); err != nil {
			t.Fatal(err)
		}
		ids := []string{"v1"}
		for i := range rapid.IntRange(1, 8).Draw(t, "rotations") {
			v := Version{Value: Value{Text: fmt.Sprint(i + 1)}}
			v.ID = rapid.SampledFrom([]string{"", "v3", "x"}).Draw(t, "id")
			if rapid.Bool().Draw(t, "blue") {
				v.Stages = []string{"blue"}
			}
			err := e.Rotate("a", v)
			if taken := v.ID != "" && slices.Contains(ids, v.ID); taken != (err != nil) {
				t.Fatalf("rotate to %q among %q: %v", v.ID, ids, err)
			}
			versions := e.Secrets()[0].Versions
			ids = nil
			holders := map[string][]string{}
			for _, v := range versions {
				ids = append(ids, v.ID)
				for _, stage := range v.Stages {
					holders[stage] = append(holders[stage], v.ID)
				}
			}
			if len(slices.Compact(slices.Sorted(slices.Values(ids)))) != len(ids) {
				t.Fatalf("versions share an ID: %q", ids)
			}
			for stage, on := range holders {
				if len(on) != 1 {
					t.Fatalf("stage %s is on %q", stage, on)
				}
			}
			if last := len(ids) - 1; holders[stageCurrent][0] != ids[last] || last > 0 && holders[stagePrevious][0] != ids[last-1] {
				t.Fatalf("stages %v of versions %q", holders, ids)
			}
		}
	})
}
