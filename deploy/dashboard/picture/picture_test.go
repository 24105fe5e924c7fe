package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

var (
	start = time.Unix(1_700_000_000, 0).UTC()
	end   = start.Add(10 * time.Minute)
)

// answering is a server that answers as Prometheus does: over a time with lines, at a time with number.
func answering(t *testing.T, lines, number string) prometheus {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q, kind, result := r.URL.Query(), "vector", number
		if r.URL.Path == "/api/v1/query_range" {
			kind, result = "matrix", lines
			if q.Get("start") != start.Format(time.RFC3339) || q.Get("end") != end.Format(time.RFC3339) || q.Get("step") != "3s" {
				t.Errorf("asked for %s", r.URL.RawQuery)
			}
		} else if r.URL.Path != "/api/v1/query" || q.Get("time") != end.Format(time.RFC3339) {
			t.Errorf("asked for %s", r.URL)
		}
		if expr := q.Get("query"); expr == "" || strings.Contains(expr, "$") || strings.Contains(expr, `=~""`) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"status":"error","errorType":"bad_data","error":"parse error in \"the query\""}`)
			return
		}
		fmt.Fprintf(w, `{"status":"success","data":{"resultType":%q,"result":[%s]}}`, kind, result)
	}))
	t.Cleanup(server.Close)
	return prometheus{url: server.URL, from: start, to: end, rate: time.Minute}
}

// at is a point of a line, so many seconds after the start.
func at(seconds int64, value string) string {
	return fmt.Sprintf("[%d,%q]", start.Unix()+seconds, value)
}

func draw(t *testing.T, dashboard string, server prometheus) string {
	t.Helper()
	svg, err := picture(t.Context(), []byte(dashboard), server)
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return string(svg)
		} else if err != nil {
			t.Fatalf("not XML: %v", err)
		}
	}
}

// The dashboard that Grafana gets can be drawn: every panel with its lines by their names, or its number, and the same each time.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("../../../" + source)
	if err != nil {
		t.Fatal(err)
	}
	labels := `{"result":"failure","reason":"<why>","code":"Busy","pod":"web-1","namespace":"shop","error_type":"calling_webhook_error"}`
	server := answering(t, `{"metric":`+labels+`,"values":[`+at(0, "1")+`,`+at(3, "2")+`]}`, `{"metric":{},"value":`+at(600, "1.5")+`}`)
	svg := draw(t, string(text), server)
	var board dashboard
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	lines := 0
	for _, p := range board.Panels {
		if !strings.Contains(svg, ">"+html.EscapeString(p.Title)+"</text>") {
			t.Errorf("%q is not in the picture", p.Title)
		}
		if p.Type == "timeseries" {
			lines += len(p.Targets)
		}
	}
	if got := strings.Count(svg, `class="series"`); got != lines {
		t.Errorf("%d lines, want one for each of %d queries", got, lines)
	}
	for _, want := range []string{"failure: &lt;why&gt;", "failure: Busy", "shop/web-1", "calling_webhook_error", "99 of 100", "1.5", "req/s"} {
		if !strings.Contains(svg, want) {
			t.Errorf("%q is not in the picture", want)
		}
	}
	if strings.Contains(svg, "No data") {
		t.Error("a panel says that it has no data")
	}
	if draw(t, string(text), server) != svg {
		t.Error("two pictures of the same data differ")
	}
}

// The picture in the README is of the dashboard as it is now.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../../../" + source)
	if err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile("../../../docs/dashboard.svg")
	if err != nil {
		t.Fatal(err)
	}
	var board dashboard
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		if !strings.Contains(string(svg), ">"+html.EscapeString(p.Title)+"</text>") {
			t.Errorf("docs/dashboard.svg does not have %q; draw it anew with deploy/dashboard/picture", p.Title)
		}
	}
	if bytes.Contains(svg, []byte("No data")) {
		t.Error("docs/dashboard.svg has a panel without data")
	}
}

const onePanel = `{"panels":[{"type":"timeseries","title":"Age","gridPos":{"x":0,"y":0,"w":12,"h":8},
	"fieldConfig":{"defaults":{"unit":"s"}},"targets":[{"expr":"age","legendFormat":"{{pod}}: {{code}}"}]}]}`

var (
	drawn = regexp.MustCompile(`class="series".* d="([^"]*)"`)
	place = regexp.MustCompile(`([ML])([\d.]+) ([\d.]+)`)
	mark  = regexp.MustCompile(`<text [^>]* y="([\d.]+)"[^>]*>([^<]*)<`)
)

// A line goes to where its values are on the axes, and has a hole where there are none.
func TestLine(t *testing.T) {
	values := []string{at(0, "0"), at(150, "50"), at(300, "100"), at(450, "NaN"), at(600, "25")}
	svg := draw(t, onePanel, answering(t, `{"metric":{"pod":"web"},"values":[`+strings.Join(values, ",")+`]}`, ""))
	found := drawn.FindStringSubmatch(svg)
	if found == nil {
		t.Fatalf("no line in %s", svg)
	}
	var pens string
	var x, y []float64
	for _, p := range place.FindAllStringSubmatch(found[1], -1) {
		var px, py float64
		if _, err := fmt.Sscan(p[2], &px); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(p[3], &py); err != nil {
			t.Fatal(err)
		}
		pens, x, y = pens+p[1], append(x, px), append(y, py)
	}
	if pens != "MLLM" {
		t.Fatalf("drawn as %s, want a line of three points and a dot", found[1])
	}
	near := func(a, b float64) bool { return a-b < 0.2 && b-a < 0.2 }
	if width := x[1] - x[0]; width < 50 || !near(x[2]-x[1], width) || !near(x[3]-x[2], 2*width) {
		t.Errorf("points at %v, want them a quarter, a quarter and a half of the width apart", x)
	}
	// The axis goes from 0 s to 2 min in steps of 30 s.
	marks := map[string]float64{}
	for _, m := range mark.FindAllStringSubmatch(svg, -1) {
		var height float64
		if _, err := fmt.Sscan(m[1], &height); err != nil {
			t.Fatal(err)
		}
		marks[m[2]] = height
	}
	for _, want := range []string{"0 s", "30 s", "1 min", "1.5 min", "2 min", "web"} {
		if marks[want] == 0 {
			t.Errorf("%q is not in the picture", want)
		}
	}
	second := (marks["0 s"] - marks["2 min"]) / 120
	for i, value := range []float64{0, 50, 100, 25} {
		if second < 0.5 || !near(y[0]-y[i], value*second) {
			t.Errorf("%v is at %v, and 0 at %v; a second is %v high", value, y[i], y[0], second)
		}
	}
}

// A number has the colour of the threshold that it has reached.
func TestThreshold(t *testing.T) {
	const stat = `{"panels":[{"type":"stat","title":"Ends in","gridPos":{"x":0,"y":0,"w":6,"h":8},"fieldConfig":{"defaults":{"unit":"s",
		"thresholds":{"steps":[{"color":"red","value":null},{"color":"yellow","value":7200},{"color":"green","value":172800}]}}},"targets":[{"expr":"x"}]}]}`
	for value, want := range map[string][]string{
		"60": {"1 min", steps["red"]}, "7200": {"2 h", steps["yellow"]}, "604800": {"7 d", steps["green"]},
	} {
		svg := draw(t, stat, answering(t, "", `{"metric":{},"value":`+at(600, value)+`}`))
		if !strings.Contains(svg, ">"+want[0]+"<") || !strings.Contains(svg, `fill="`+want[1]+`"`) {
			t.Errorf("%s s: want %s in %s", value, want[0], want[1])
		}
	}
	if svg := draw(t, stat, answering(t, "", "")); !strings.Contains(svg, "No data") {
		t.Error("a panel without data does not say so")
	}
}

// What the server does not understand is told with its words and the panel.
func TestRefused(t *testing.T) {
	text := strings.Replace(onePanel, `"age"`, `"rate(age[$unknown])"`, 1)
	_, err := picture(t.Context(), []byte(text), answering(t, "", ""))
	if err == nil || !strings.Contains(err.Error(), `panel "Age"`) || !strings.Contains(err.Error(), `parse error in "the query"`) {
		t.Errorf("got %v", err)
	}
}
