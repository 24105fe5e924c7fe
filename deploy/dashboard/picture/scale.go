package main

import (
	"fmt"
	"math"
	"time"
)

// ticks are the values at which an axis from 0 has lines; the last is at or above most.
func ticks(most float64, unit string) []float64 {
	if most <= 0 {
		most = 1
	}
	step := round(most / 4)
	if unit == "s" && most > 10 {
		step = roundTime(most / 4)
	}
	var out []float64
	for i := 0; ; i++ {
		v := float64(i) * step
		out = append(out, v)
		if v >= most {
			return out
		}
	}
}

// round is 1, 2 or 5 with zeros, from least on.
func round(least float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(least)))
	for _, f := range []float64{1, 2, 5} {
		if f*unit >= least {
			return f * unit
		}
	}
	return 10 * unit
}

// roundTime is a time that clocks show, from least seconds on.
func roundTime(least float64) float64 {
	const minute, hour = 60, 3600
	for _, t := range []float64{1, 2, 5, 10, 15, 30, minute, 2 * minute, 5 * minute, 10 * minute, 15 * minute, 30 * minute, hour, 3 * hour, 6 * hour, 12 * hour} {
		if t >= least {
			return t
		}
	}
	return 24 * hour * math.Ceil(least/24/hour)
}

// moments are the times from first to last at which the time axis has lines.
func moments(first, last time.Time) []time.Time {
	step := time.Duration(roundTime(last.Sub(first).Seconds()/9)) * time.Second
	var out []time.Time
	for t := first.Truncate(step); !t.After(last); t = t.Add(step) {
		if !t.Before(first) {
			out = append(out, t)
		}
	}
	return out
}

// format writes a value in one of the units that the dashboard uses, which are named as Grafana does.
func format(v float64, unit string) string {
	switch unit {
	case "reqps":
		return number(v) + " req/s"
	case "wps":
		return number(v) + " wr/s"
	case "s":
		return duration(v)
	}
	return number(v)
}

func number(v float64) string { return fmt.Sprintf("%.3g", v) }

func duration(s float64) string {
	for _, u := range []struct {
		name string
		in   float64
	}{{"d", 86400}, {"h", 3600}, {"min", 60}, {"s", 1}, {"ms", 1e-3}} {
		if math.Abs(s) >= u.in {
			return number(s/u.in) + " " + u.name
		}
	}
	if s == 0 {
		return "0 s"
	}
	return number(s*1e6) + " µs"
}
