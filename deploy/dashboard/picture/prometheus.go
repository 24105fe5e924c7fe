package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// prometheus is a server, and the time that the picture is of.
type prometheus struct {
	url      string
	from, to time.Time
	rate     time.Duration
}

// series is one line of a panel.
type series struct {
	name   string
	points []point
}

type point struct{ at, value float64 } // at in seconds since 1970

// UnmarshalJSON reads what Prometheus writes: [1700000000.5, "0.25"].
func (p *point) UnmarshalJSON(text []byte) error {
	var value string
	if err := json.Unmarshal(text, &[]any{&p.at, &value}); err != nil {
		return err
	}
	var err error
	p.value, err = strconv.ParseFloat(value, 64)
	return err
}

// there is false of a quotient by zero, and the like, which has no place in a picture.
func (p point) there() bool { return !math.IsNaN(p.value) && !math.IsInf(p.value, 0) }

// points is how many of a line are asked for: as many as the eye can tell apart in a panel of half the width.
const points = 180

// ask returns the series that an expression has over the picture's time, or at its end, by name.
func (p prometheus) ask(ctx context.Context, expr, legend string, instant bool) ([]series, error) {
	path, query := "/api/v1/query", url.Values{"query": {expr}, "time": {p.to.Format(time.RFC3339)}}
	if !instant {
		step := max(p.to.Sub(p.from)/points, time.Second).Round(time.Second)
		path = "/api/v1/query_range"
		query = url.Values{"query": {expr}, "start": {p.from.Format(time.RFC3339)}, "end": {p.to.Format(time.RFC3339)}, "step": {seconds(step)}}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(p.url, "/")+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Value  *point
				Values []point
			}
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%s%s answers %s, and not as Prometheus does: %w", p.url, path, response.Status, err)
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("%s refuses %s: %s", p.url, expr, answer.Error)
	}
	var out []series
	for _, r := range answer.Data.Result {
		if r.Value != nil {
			r.Values = []point{*r.Value}
		}
		out = append(out, series{name(legend, r.Metric), r.Values})
	}
	slices.SortStableFunc(out, func(a, b series) int { return cmp.Compare(a.name, b.name) })
	return out, nil
}

var placeholder = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)

// name fills a series' labels into the dashboard's text for the legend.
func name(legend string, labels map[string]string) string {
	full := placeholder.ReplaceAllStringFunc(legend, func(hole string) string { return labels[placeholder.FindStringSubmatch(hole)[1]] })
	return strings.TrimRight(full, ": ") // of a label that this series does not have
}
