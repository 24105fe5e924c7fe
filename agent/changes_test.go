package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/notify"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

// versioned answers with version n of a secret at the n-th question for it, or what versions says.
func versioned(versions map[string][]string) *clockwork {
	count := map[string]int{}
	return &clockwork{answer: func(_ int, ref kms.Ref) (kms.Secret, error) {
		all := versions[ref.Name]
		version := all[min(count[ref.Name], len(all)-1)]
		count[ref.Name]++
		if version == "" {
			return kms.Secret{}, &kms.Error{Ref: ref, Code: "Forbidden.ResourceNotFound", Status: 404}
		}
		return kms.Secret{VersionID: version, Data: []byte(version)}, nil
	}}
}

func TestProgramsHearOfChangesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := versioned(map[string][]string{"a": {"v1", "v1", "v2", "v2"}, "b": {"v7"}, "c": {"", "", "", "", "v1", ""}})
		a := clockworkAgent(t, c, time.Minute, "c", "b", "a")
		for i := range a.doc.Files {
			a.doc.Files[i].Optional = true
		}
		var log strings.Builder
		a.log = NewLogger(&log, a.doc)
		var heard [][]notify.File
		a.tell = func(_ context.Context, c notify.Change) {
			for _, f := range c.Files {
				data, err := os.ReadFile(filepath.Join(a.doc.SecretsDir, f.Path))
				if f.Version != "" && (err != nil || string(data) != f.Version) {
					t.Errorf("the file is not there yet: %q, %v", data, err)
				}
			}
			heard = append(heard, c.Files)
		}
		runFor(t, a, 20*time.Minute)
		change := func(name, version, before string) []notify.File {
			return []notify.File{{Path: name, Secret: name, Version: version, PreviousVersion: before}}
		}
		if want := [][]notify.File{change("a", "v2", "v1"), change("c", "v1", ""), change("c", "", "v1")}; !reflect.DeepEqual(heard, want) {
			t.Errorf("heard %+v\nwant  %+v", heard, want)
		}
		if n := strings.Count(log.String(), "secret has another version"); n != 3 {
			t.Errorf("%d changes in the log: %s", n, &log)
		}
	})
}

// An agent that was ended between remembering and writing leaves the change to the next one.
func TestChangeOfAnEndedAgentIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := versioned(map[string][]string{"a": {"v1"}})
		a := clockworkAgent(t, c, time.Hour, "a")
		var heard []notify.Change
		a.tell = func(_ context.Context, c notify.Change) { heard = append(heard, c) }
		runFor(t, a, time.Second)
		runFor(t, a, time.Second)
		if len(heard) != 0 {
			t.Fatalf("nothing has changed, heard %+v", heard)
		}
		held, err := loadSnapshot(a.doc.StateDir)
		if err != nil {
			t.Fatal(err)
		}
		held.Values[kms.Ref{Name: "a"}] = value{secret: kms.Secret{VersionID: "v2", Data: []byte("v2")}}
		if err := held.save(a.doc.StateDir); err != nil {
			t.Fatal(err)
		}
		runFor(t, a, time.Second)
		if len(heard) != 1 || !reflect.DeepEqual(heard[0].Files, []notify.File{{Path: "a", Secret: "a", Version: "v2"}}) {
			t.Errorf("heard %+v", heard)
		}
	})
}

func TestVersionsThatNeverChangeAreFetchedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		count := map[string]int{}
		c := &clockwork{}
		c.answer = func(_ int, ref kms.Ref) (kms.Secret, error) {
			count[ref.String()]++
			kind := "Generic"
			if ref.Name == "managed" {
				kind = "Rds"
			}
			return kms.Secret{VersionID: "v1", Type: kind, Data: []byte(ref.Name)}, nil
		}
		a := clockworkAgent(t, c, time.Minute, "fixed", "managed", "current")
		a.doc.Files[0].VersionID, a.doc.Files[1].VersionID = "v1", "v1"
		runFor(t, a, time.Hour)
		runFor(t, a, time.Hour) // restarted
		if count["fixed version v1"] != 1 || count["managed version v1"] < 100 || count["current"] < 100 {
			t.Errorf("asked %v", count)
		}
		only := clockworkAgent(t, c, time.Minute, "fixed")
		only.doc.Files[0].VersionID = "v1"
		clear(count)
		runFor(t, only, 100*time.Hour)
		if len(count) != 1 || count["fixed version v1"] != 1 {
			t.Errorf("asked %v", count)
		}
	})
}

// Through an outage of an hour the files stay, few calls are made, and soon after it the new value is there.
func TestOutageOfAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		from, to := begun.Add(30*time.Minute), begun.Add(90*time.Minute)
		var during int
		var recovered time.Time
		c := &clockwork{}
		c.answer = func(_ int, ref kms.Ref) (kms.Secret, error) {
			now := time.Now()
			switch {
			case now.Before(from):
				return kms.Secret{VersionID: "v1", Data: []byte("old")}, nil
			case now.Before(to):
				during++
				return kms.Secret{}, outage
			}
			return kms.Secret{VersionID: "v2", Data: []byte("new")}, nil
		}
		a := clockworkAgent(t, c, 5*time.Minute, "a", "b", "c")
		file := filepath.Join(a.doc.SecretsDir, "a")
		a.tell = func(context.Context, notify.Change) { recovered = time.Now() }
		go func() {
			time.Sleep(89 * time.Minute)
			if data, err := os.ReadFile(file); err != nil || string(data) != "old" {
				t.Errorf("during the outage: %q, %v", data, err)
			}
		}()
		runFor(t, a, 2*time.Hour)
		if during < 10 || during > 60 {
			t.Errorf("%d calls in an hour of outage", during)
		}
		if late := recovered.Sub(to); late < 0 || late > catchUp {
			t.Errorf("back %s after the outage", late)
		}
		if data, err := os.ReadFile(file); err != nil || string(data) != "new" {
			t.Errorf("after the outage: %q, %v", data, err)
		}
	})
}

func TestMetricsCountEveryAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{}
		c.answer = func(n int, ref kms.Ref) (kms.Secret, error) {
			switch {
			case ref.Name == "absent":
				return kms.Secret{}, &kms.Error{Ref: ref, Code: "Forbidden.ResourceNotFound"}
			case n == 1:
				return kms.Secret{}, outage
			}
			return kms.Secret{VersionID: "v1", Data: []byte("x")}, nil
		}
		a := clockworkAgent(t, c, time.Minute, "absent", "k")
		a.doc.Files[0].Optional = true
		a.doc.Files[0], a.doc.Files[1] = a.doc.Files[1], a.doc.Files[0] // the outage is of the first
		runFor(t, a, 50*time.Second)
		runFor(t, a, time.Second)
		scraped := httptest.NewRecorder()
		a.metrics.Handler(nil).ServeHTTP(scraped, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		for _, line := range []string{
			`kms_agent_refresh_total{result="failure",code="ServiceUnavailableTemporary"} 1`,
			`kms_agent_refresh_total{result="success",code="OK"} 1`,
			"kms_agent_files_written_total 1", `kms_agent_secret_last_success_timestamp_seconds{secret="k"}`,
		} {
			if !strings.Contains(scraped.Body.String(), "\n"+line) {
				t.Errorf("%s is not in %s", line, scraped.Body)
			}
		}
		if strings.Contains(scraped.Body.String(), `secret="absent"`) {
			t.Error("a secret that is absent was fetched")
		}
	})
}

func TestProgramIsToldOfARotation(t *testing.T) {
	told := make(chan notify.Change, 10)
	program := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var c notify.Change
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
			t.Error(err)
		}
		told <- c
	}))
	defer program.Close()
	p := newPod(t)
	p.doc.OnChange = program.URL + "/reload"
	p.init()
	stop := p.run()
	p.waitFor("refreshed")
	rotated := emulator.Version{Value: emulator.Value{Text: `{"AccountName":"app","AccountPassword":"sentinel-2"}`}}
	if err := p.cloud.Rotate("app/db", rotated); err != nil {
		t.Fatal(err)
	}
	select {
	case c := <-told:
		if text := fmt.Sprint(c.Files); len(c.Files) != 1 || !strings.Contains(text, "conf/db.env app/db") || c.Files[0].PreviousVersion == "" ||
			c.Files[0].Version == c.Files[0].PreviousVersion {
			t.Errorf("notified of %s", text)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("not told")
	}
	stop()
	if len(told) != 0 {
		t.Errorf("told %d times more", len(told))
	}
}
