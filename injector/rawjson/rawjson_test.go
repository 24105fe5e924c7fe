package rawjson

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// tree reads a value as encoding/json reads one into an any, numbers as json.Number.
func tree(r *Reader) any {
	switch r.peek() {
	case '{':
		object := map[string]any{}
		for name := range r.Members {
			object[name] = tree(r)
		}
		return object
	case '[':
		array := []any{}
		for range r.Elements {
			array = append(array, tree(r))
		}
		return array
	case '"':
		return r.Text()
	case 't', 'f':
		return r.Bool()
	case 'n':
		r.Null()
		return nil
	}
	start := r.at
	r.Skip()
	return json.Number(strings.TrimRight(r.text[start:r.at], " \t\r\n"))
}

// agree holds a Reader to what encoding/json makes of a text, when everything is read and when everything is skipped.
func agree(t *testing.T, text string) {
	t.Helper()
	skipping := NewReader(text)
	skipping.Skip()
	skipErr := skipping.End()
	reading := NewReader(text)
	got := tree(reading)
	readErr := reading.End()
	if (skipErr == nil) != (readErr == nil) {
		t.Fatalf("skipping: %v; reading: %v", skipErr, readErr)
	}
	if deep := readErr != nil && strings.Contains(readErr.Error(), "inside each other"); deep {
		return
	}
	if valid := json.Valid([]byte(text)); valid != (readErr == nil) {
		t.Fatalf("%q: encoding/json says valid %v, got %v", text, valid, readErr)
	}
	if readErr != nil {
		return
	}
	var want any
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%q (-encoding/json +got):\n%s", text, diff)
	}
}

func FuzzReader(f *testing.F) {
	for _, text := range []string{
		``, ` `, `{}`, ` { } `, `[]`, `[ 1 , 2 ]`, `{"a":1,}`, `[1,]`, `{"a"}`, `{"a":}`, `{a:1}`, `nul`, `nullx`, `true false`,
		`{"a":{"b":[{"c":null},true,false,"x"]},"d":-0.5e+10}`, `01`, `-`, `1.`, `1e`, `-0`, `1E5`, `.5`,
		`"\u00e9\ud83d\ude00\n\/"`, `"\ud800"`, `"\u12g4"`, `"\x"`, `"\`, `"\u12`, "\"\x01\"", "\"\xff\xfe\"", `{"\u0061":1,"a":2}`, "\"é\"", "\x00", "\ufeff{}",
		`"unterminated`, `[[[[`, `{"a":[}`, `[1 2]`, `{"a":1 "b":2}`, "\t\r\n1",
	} {
		f.Add(text)
	}
	f.Fuzz(agree)
}

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "plain", `"quoted" \ back`, "a\nb\tc\rd\x00e\x1f", "<&>", "é😀\u2028", "\xff\xc3(", "\xed\xa0\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := AppendString([]byte("before"), s)[len("before"):]
		var got string
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%q became %s: %v", s, text, err)
		}
		wanted, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var want string
		if err := json.Unmarshal(wanted, &want); err != nil {
			t.Fatal(err)
		}
		if got != want || !utf8.Valid(text) {
			t.Fatalf("%q became %s, which is %q", s, text, got)
		}
	})
}

func TestDepth(t *testing.T) {
	for _, c := range []struct {
		depth   int
		allowed bool
	}{{MaxDepth, true}, {MaxDepth + 1, false}, {5 << 20, false}} {
		for _, text := range []string{
			strings.Repeat("[", c.depth) + strings.Repeat("]", c.depth),
			strings.Repeat(`{"a":`, c.depth) + "1" + strings.Repeat("}", c.depth),
		} {
			r := NewReader(text)
			r.Skip()
			if err := r.End(); (err == nil) != c.allowed {
				t.Errorf("%d levels: %v", c.depth, err)
			}
		}
	}
}

func TestSelected(t *testing.T) {
	const text = `{"skipped":{"deep":[1,{"a":"b"}]},"n":-42,"on":true,"noText":null,"noInt":null,"noBool":null,"list":[{"name":"x","more":1},{"name":"y"},null],"Name":"other","name":"a\u0062","stop":1,"after":2}`
	var got []any
	r := NewReader(text)
	for name := range r.Members {
		switch name {
		case "n":
			got = append(got, r.Int())
		case "on":
			got = append(got, r.Bool())
		case "noText":
			got = append(got, r.Text())
		case "noInt":
			got = append(got, r.Int())
		case "noBool":
			got = append(got, r.Bool())
		case "name":
			got = append(got, r.Text())
		case "list":
			for range r.Elements {
				item := "-"
				for name := range r.Members {
					if name == "name" {
						item = r.Text()
						break // the rest of the item is skipped
					}
				}
				got = append(got, item)
			}
		}
		if name == "stop" {
			break
		}
	}
	if err := r.End(); err != nil {
		t.Fatal(err)
	}
	if want := []any{int64(-42), true, "", int64(0), false, "x", "y", "-", "ab"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestErrors looks at what a caller learns, and that it is nothing of the text.
func TestScalar(t *testing.T) {
	for text, want := range map[string]string{
		`"64Mi" `: "64Mi", "\"1\\u0030m\"": "10m", "1.5e3 \n": "1.5e3", "null": "null", `{ "a": 1 } `: `{ "a": 1 }`,
	} {
		r := NewReader(text)
		if got, err := r.Scalar(), r.End(); got != want || err != nil {
			t.Errorf("%s is read as %s, %v", text, got, err)
		}
	}
	if r := NewReader("{"); r.Scalar() != "" && r.End() == nil {
		t.Error("an open object is read without an error")
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		text string
		read func(*Reader)
		want string
	}{
		{`{"a":"secret"`, (*Reader).Skip, "a comma or the closing bracket is expected at byte 13"},
		{`"secret"`, func(r *Reader) { r.Int() }, "a number is expected at byte 0"},
		{`1.5`, func(r *Reader) { r.Int() }, "a whole number of 64 bits is expected at byte 0"},
		{`99999999999999999999`, func(r *Reader) { r.Int() }, "a whole number of 64 bits is expected at byte 0"},
		{`[1]`, func(r *Reader) { r.Text() }, "a string is expected at byte 0"},
		{`"true"`, func(r *Reader) { r.Bool() }, "true or false is expected at byte 0"},
		{`"a"`, func(r *Reader) { r.Members(nil) }, "an object is expected at byte 0"},
		{`{}`, func(r *Reader) { r.Elements(nil) }, "an array is expected at byte 0"},
		{`{} {}`, (*Reader).Skip, "something follows the JSON value at byte 3"},
	} {
		r := NewReader(c.text)
		c.read(r)
		if err := r.End(); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.text, err, c.want)
		}
	}
}

func TestAllocations(t *testing.T) {
	text := `{"skip":[1,2,{"a":"b\n"}],"n":1,"name":"web","list":[{"n":2},{"n":3}]}`
	r := NewReader("")
	var sum int64
	if n := testing.AllocsPerRun(100, func() {
		*r = Reader{text: text}
		for name := range r.Members {
			switch name {
			case "n":
				sum += r.Int()
			case "name":
				sum += int64(len(r.Text()))
			case "list":
				for range r.Elements {
					for name := range r.Members {
						if name == "n" {
							sum += r.Int()
						}
					}
				}
			}
		}
		if r.End() != nil {
			t.Fatal(r.End())
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSkip(b *testing.B) {
	text := `[` + strings.Repeat(`{"name":"SETTING_1","valueFrom":{"configMapKeyRef":{"name":"settings","key":"setting.1"}}},`, 100) + `{}]`
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		r := NewReader(text)
		r.Skip()
		if err := r.End(); err != nil {
			b.Fatal(err)
		}
	}
}
