package status

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

const refusal = "get secret app/db: Forbidden.NoPermission (HTTP 403): no (request R)"

// A plugin reads the status of an agent that is one version older: there are Problems and no Causes.
func TestStatusOfAnOlderAgent(t *testing.T) {
	const older = `{"fetched":"2026-01-02T03:04:05Z","secrets":[{"name":"app/db","version":"v1","stages":["ACSCurrent"]}],` +
		`"interval":"5m0s","next":"2026-01-02T03:09:05Z","problems":["` + refusal + `\n  why: a policy\n  fix: mend it"]}`
	var s Status
	if err := json.Unmarshal([]byte(older), &s); err != nil || len(s.Secrets) != 1 || s.Interval != config.Duration(5*time.Minute) ||
		len(s.Causes) != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	want := Problem{Says: refusal, Cause: "a policy", Cure: "mend it"} // no Link
	if all := ReadText(s.Problems[0]); len(all) != 1 || all[0] != want {
		t.Errorf("%+v", all)
	}
}

// A plugin that is one version older reads the status of this agent: it knows no Causes, and finds all of them in Problems.
func TestStatusForAnOlderPlugin(t *testing.T) {
	problem := Problem{Link: KMS, Secret: "app/db", Code: "Forbidden.NoPermission", Says: refusal, Cause: "a policy", Cure: "mend it"}
	text, err := json.Marshal(Status{Secrets: []Secret{{Name: "app/db"}}, Problems: []string{problem.String()}, Causes: []Problem{problem}})
	if err != nil {
		t.Fatal(err)
	}
	var older struct {
		Secrets  []struct{ Name string } `json:"secrets"`
		Problems []string                `json:"problems"`
	}
	if err := json.Unmarshal(text, &older); err != nil || len(older.Secrets) != 1 || len(older.Problems) != 1 ||
		older.Problems[0] != refusal+"\n  why: a policy\n  fix: mend it" {
		t.Errorf("%+v, %v", older, err)
	}
	// Of last words it takes what follows "fix: " for the cure.
	if last := Text([]Problem{problem}); !strings.HasSuffix(last, "\n  link: kms app/db\n  why: a policy\n  fix: mend it") {
		t.Errorf("%q", last)
	}
}

// An agent reads the configuration of a webhook that is one version older, and refuses one that says what it does not know: it would
// silently do less than it was told.
func TestConfigurationOfAnotherVersion(t *testing.T) {
	const older = `{"namespace":"shop","serviceAccount":"web","kms":{"host":"kms.cn-hangzhou.aliyuncs.com"},"refreshInterval":"5m0s",` +
		`"files":[{"path":"db","mode":"0440","secret":"app/db","format":"raw"}]`
	if doc, err := agentconfig.Read([]byte(older + "}")); err != nil || len(doc.Files) != 1 {
		t.Errorf("%+v, %v", doc, err)
	}
	if _, err := agentconfig.Read([]byte(older + `,"ofTomorrow":true}`)); err == nil || !strings.Contains(err.Error(), "of one version") {
		t.Errorf("got %v", err)
	}
}

// Last words that the kubelet has cut lose the end, not the beginning.
func TestTextThatWasCut(t *testing.T) {
	text := Text([]Problem{{Link: STS, Says: "one", Cause: "a", Cure: "b"}, {Link: KMS, Secret: "app/db", Says: "two", Cause: "c", Cure: "d"}})
	for end := range len(text) {
		all := ReadText(text[:end])
		if end > strings.Index(text, "two") && (len(all) != 2 || all[0].Link != STS || all[0].Cure != "b") {
			t.Errorf("%q: %+v", text[:end], all)
		}
	}
}
