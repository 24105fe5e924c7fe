package main

import (
	"bytes"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/content"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/sync"
)

var update = flag.Bool("update", false, "write the table of differences into docs/secret-sync.md")

const page = "../../docs/secret-sync.md"

// The page has the differences that the program has.
func TestDifferencesAreDocumented(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- differences -->\n", "<!-- end -->\n"
	before, rest, _ := strings.Cut(string(text), begin)
	_, after, found := strings.Cut(rest, end)
	want := before + begin + content.Table() + "| `ClusterSecretStore` `conditions[].namespaceRegexes` " +
		"| expressions match parts of names: `prod` admits `preprod` | they are for whole names | `compat." + unanchored + "` |\n" + end + after
	if !found {
		t.Fatalf("%s has no place for the table", page)
	}
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(text) != want {
		t.Errorf("%s does not have the present differences; go test ./cmd/kms-sync -update writes them", page)
	}
}

// The page and the dashboard have each metric; they, alerts, runbooks and the page on operations have no other.
func TestMetricsAreWhatIsReferredTo(t *testing.T) {
	descriptions := make(chan *prometheus.Desc, 100)
	sync.Describe(descriptions)
	close(descriptions)
	var names []string
	for d := range descriptions {
		names = append(names, regexp.MustCompile(`kms_sync_\w+`).FindString(d.String()))
	}
	const monitoring = "../../deploy/chart/kms-sync/monitoring/"
	for file, all := range map[string]bool{
		page: true, monitoring + "dashboard.json": true, monitoring + "alerts.yaml": false, "../../docs/runbooks.md": false,
		"../../docs/operations.md": false,
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, name := range regexp.MustCompile(`\bkms_sync_\w+`).FindAllString(string(text), -1) {
			if name = strings.TrimSuffix(name, "_bucket"); !slices.Contains(names, name) {
				t.Errorf("%s refers to %s, which kms-sync does not have", file, name)
			}
			found = append(found, name)
		}
		for _, name := range names {
			if all && !slices.Contains(found, name) {
				t.Errorf("%s does not have %s", file, name)
			}
		}
	}
}

// The command line of ack-secret-manager 0.6.7 is accepted as its chart writes it, and the page names what has no effect.
func TestFlagsOfTheOriginal(t *testing.T) {
	var f flags
	o, err := f.parse(strings.Fields("--backend=alicloud-kms --region=cn-hangzhou --kms-endpoint=kms.cn-hangzhou.aliyuncs.com " +
		"--polling-interval=300s --disable-polling=false --reconcile-period=5s --reconcile-count=1 --token-rotation-period=120s " +
		"--max-concurrent-kms-secret-pulls=10 --max-concurrent-oos-secret-pulls=10 --max-concurrent-secret-pulls 10 --enable-worker-role=true " +
		"--cleanup-secret-on-failure --process-cluster-secret-store=true --process-cluster-external-secret=true " +
		"--enable-cross-namespace-secret-store=true --enable-cross-namespace-auth-ref=false --cluster-id=c0ffee --uid=1234567890123456 " +
		"--exclude-namespaces=kube-system,other"))
	if err != nil {
		t.Fatal(err)
	}
	if o.PollingInterval != 5*time.Minute || o.Workers != 1 || !o.Config.NodeRole || !o.Config.CrossNamespaceStores ||
		o.Config.KMS.Endpoint != "kms.cn-hangzhou.aliyuncs.com" || o.Config.AccountID != "1234567890123456" ||
		!slices.Equal(o.Exclude, []string{"kube-system", "other"}) {
		t.Errorf("the settings are %+v", o)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.withoutEffect) != len(withoutEffect) {
		t.Errorf("given without effect: %v", f.withoutEffect)
	}
	for _, name := range f.withoutEffect {
		if !bytes.Contains(text, []byte("`--"+name+"`")) {
			t.Errorf("%s does not name --%s", page, name)
		}
	}
}

func TestConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	text := "{accountID: '1', clusterID: c, region: cn-beijing, kms: {caFile: ca.pem}, allow: {secrets: [prod/*]}, " +
		"controllerNamespaces: [{names: [shop]}]}"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := new(flags).parse([]string{"--config", file, "--region=cn-hangzhou", "--compat=replaceRuleValues,compat.unanchoredRegexes"})
	if err != nil {
		t.Fatal(err)
	}
	if c := o.Config; c.Region != "cn-hangzhou" || c.KMS.CAFile != filepath.Join(filepath.Dir(file), "ca.pem") || !c.Allow.Secret("prod/db") ||
		c.Allow.Secret("other") || len(c.ControllerNamespaces) != 1 || !c.Compat.UnanchoredRegexes || !o.Compat.ReplaceRuleValues {
		t.Errorf("the configuration is %+v, compat %+v", c, o.Compat)
	}
	for _, args := range [][]string{
		{"--config", file, "--polling-interval=1s"}, {"--config", file, "--compat=replaceRules"}, {"--config", file, "now"},
		{"--config", file + ".yml"}, {"--config", file, "--watch-namespaces=a", "--exclude-namespaces=b"}, {"--region=cn-hangzhou"},
	} {
		if _, err := new(flags).parse(args); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
	_, err = new(flags).parse([]string{"--config", file, "--compat=unanchored"})
	if err == nil || !strings.Contains(err.Error(), unanchored) {
		t.Errorf("of a wrong switch: %v", err)
	}
}

func TestNoSDKPrintsCredentials(t *testing.T) {
	t.Setenv("DEBUG", "dara")
	if err := run(t.Context(), []string{"--region=cn-hangzhou"}); err == nil || !strings.Contains(err.Error(), `remove "dara" from DEBUG`) {
		t.Error(err)
	}
}

func TestWrongFlagsOfAdmission(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "")
	for args, want := range map[string]string{
		"admission": "POD_NAMESPACE", "admission --namespace=a b": "is not a flag", "admission --config=x": "not defined",
		"admission --namespace=a --log-level=loud": "--log-level",
	} {
		if err := run(t.Context(), strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}

// TestOnlyTargetWrites looks for calls that write objects: those of package target write Secrets, and those of package sync change
// finalizers and status.
func TestOnlyTargetWrites(t *testing.T) {
	writes := []string{"Create", "Update", "Patch", "Apply", "Delete", "DeleteAllOf"}
	found := map[string][]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			selector, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains(writes, selector.Sel.Name) {
				return true
			}
			if of, ok := selector.X.(*ast.Ident); ok && slices.Contains([]string{"slices", "writer", "reviews"}, of.Name) { // reviews: allowed
				return true
			}
			if of, ok := selector.X.(*ast.SelectorExpr); ok && of.Sel.Name == "writer" { // of package target
				return true
			}
			found[filepath.Base(filepath.Dir(path))] = append(found[filepath.Base(filepath.Dir(path))], selector.Sel.Name)
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg, calls := range found {
		slices.Sort(calls)
		if calls = slices.Compact(calls); pkg != "target" && (pkg != "sync" || !slices.Equal(calls, []string{"Patch"})) {
			t.Errorf("package %s calls %v", pkg, calls)
		}
	}
	if len(found["target"]) == 0 {
		t.Error("the search does not find the writes of package target")
	}
}
