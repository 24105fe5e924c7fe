package render

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/test/bounds"
)

// bombs are expressions of some hundred bytes that the library evaluates with hundreds of megabytes and more.
var bombs = map[string]string{
	"flattened":        "[@,@]" + strings.Repeat("|[@,@][]", 20) + "|length(@)",
	"doubled":          "s | [@, @]" + strings.Repeat(" | [@, @]", 60),
	"doubled, objects": "{a: @, b: @}" + strings.Repeat("|{a: *, b: *}", 40),
	"projected":        "[[@,@,@,@,@,@,@,@]]" + strings.Repeat("[].[@,@,@,@,@,@,@,@][]", 12),
	"mapped":           strings.Repeat("map(&[@,@][], ", 20) + "[@]" + strings.Repeat(")", 20),
	"escaped":          strings.Repeat("to_string(", 60) + "s" + strings.Repeat(")", 60),
	"literal":          "[`[" + strings.Repeat("1,", 400) + "1]`]" + strings.Repeat("|[@,@,@][]", 15),
	"merged": "[@]" + strings.Repeat("|[@[0],@[0]].merge(@[0],@[0])|[@,@]", 25) + "|[@,@][][][]|[@,@]" +
		strings.Repeat("|[@,@][]", 20),
}

func TestExpressionsThatMultiplyAreRefused(t *testing.T) {
	for name, expression := range bombs {
		if err := CheckKey(expression); err == nil || !strings.Contains(err.Error(), "too much work") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What only a large document makes large.
	numbers := `{"l":[` + strings.Repeat(`"",`, 7000) + `""],"s":"` + strings.Repeat("x", 9000) + `"}`
	for name, expression := range map[string]string{
		"joined":    "join(s, l)",
		"flattened": "l" + strings.Repeat("[]", 20),
		"in pairs":  "l[*].[@,@,@,@,@,@,@,@]|[][][]",
	} {
		if err := CheckKey(expression); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		bounds.Allocations(t, len(expression)+len(numbers), func() {
			_, err := Render(config.JSON, keys("K", expression), "", Input{Data: []byte(numbers)})
			if err == nil || !strings.Contains(err.Error(), "too much work") {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// The estimate itself takes no more than the expression is long.
func TestTheEstimateIsShort(t *testing.T) {
	for name, expression := range map[string]string{
		"mapped":   strings.Repeat("map(&a,", 300) + "a" + strings.Repeat(")", 300),
		"sorted":   strings.Repeat("sort_by(a,&", 300) + "a" + strings.Repeat(")", 300),
		"joined":   strings.Repeat("join(a,", 400) + "a" + strings.Repeat(")", 400),
		"or":       strings.Repeat("(a||", 600) + "a" + strings.Repeat(")", 600),
		"filtered": strings.Repeat("a[?", 600) + "a" + strings.Repeat("]", 600),
		"compared": strings.Repeat("(a==", 600) + "a" + strings.Repeat(")", 600),
		"selected": strings.Repeat("[a,", 900) + "a" + strings.Repeat("]", 900),
		"or, flat": "a" + strings.Repeat("||a", 1000),
	} {
		if len(expression) > maxKey {
			t.Fatalf("%s: %d bytes", name, len(expression))
		}
		_ = CheckKey(expression) // would not end
	}
}

// What people write is far from the limits, on secrets of the largest size that KMS stores.
func TestOrdinaryExpressionsAreAffordable(t *testing.T) {
	document := map[string]any{"db": map[string]any{"user": "app", "password": "s3cret", "hosts": []string{"a", "b"}}, "servers": []any{}}
	for i := range 300 {
		document["servers"] = append(document["servers"].([]any),
			map[string]any{"name": fmt.Sprint("server-", i), "host": "10.0.0.1", "port": i, "tags": []string{"x", "y"}})
	}
	text, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, expression := range []string{
		"db.user", "db.password || db.pass", "db.{u: user, p: password, h: join(',', hosts)}", "[db.user, db.password, db.hosts[0]]",
		"servers[?name=='server-7'].host | [0]", "servers[*].{n: name, h: host, p: port}", "servers[].tags[] | sort(@) | [0]",
		"sort_by(servers, &port)[-1].name", "max_by(servers, &port).host", "map(&name, servers)",
		"length(servers[?port > `100` && contains(tags, 'x')])",
		"to_string(db)", "join(',', servers[*].name)", "keys(db) | sort(@)", "{all: db, first: servers[0], names: servers[*].name}",
		"servers[?starts_with(name, 'server-1')] | [?ends_with(name, '9')].host", "not_null(db.x, db.y, db.user)",
	} {
		if _, err := Render(config.JSON, keys("K", expression), "", Input{Data: text}); err != nil {
			t.Errorf("%s: %v", expression, err)
		}
	}
	var many []config.Key
	for i := range 50 {
		many = append(many, config.Key{Name: fmt.Sprint("K", i), Path: fmt.Sprintf("servers[?name=='server-%d'].host | [0]", i)})
	}
	if _, err := Render(config.JSON, many, "", Input{Data: text}); err != nil {
		t.Error(err)
	}
}

// FuzzKeys tries expressions on documents.
func FuzzKeys(f *testing.F) {
	const document = `{"a":1,"s":"s3ntinel","l":[{"x":"\"y","n":2},{"x":"z"}],"o":{"p":[1,[2,[3]]],"q":null}}`
	for _, bomb := range bombs {
		f.Add(bomb, document)
	}
	for _, seed := range []string{
		"a", "l[*].x", "l[?n > `1`].{x: x, y: n}", "o.p[][]", "join('-', l[].x)", "sort_by(l, &x)[0]", "map(&to_string(@), l)", "*.*",
		"o.p[::-1]", "merge(o, {a: s})", "!a && o || `[1,2]`",
	} {
		f.Add(seed, document)
	}
	f.Fuzz(func(t *testing.T, expression, document string) {
		bounds.Allocations(t, len(expression)+len(document), func() {
			if CheckKey(expression) == nil {
				_, _ = Render(config.JSON, keys("K", expression), "", Input{Data: []byte(document)})
			}
		})
	})
}
