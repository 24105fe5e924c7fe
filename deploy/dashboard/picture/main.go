// Command picture draws the dashboard as an SVG, as Grafana would show it, from what a Prometheus server has measured.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

const source = "deploy/chart/kms-agent-injector/monitoring/dashboard.json"

func main() {
	server := flag.String("prometheus", "http://127.0.0.1:9090", "`URL` of the Prometheus server")
	until := flag.String("until", "", "right end of the picture, a `time` as in 2026-01-02T15:04:05Z; default: now")
	last := flag.Duration("last", 10*time.Minute, "how far back the picture goes")
	rate := flag.Duration("rate", time.Minute, "what $__rate_interval stands for: four scrape intervals or more")
	out := flag.String("out", "docs/dashboard.svg", "`file` to write")
	flag.Parse()
	if err := run(context.Background(), *server, *until, *last, *rate, *out); err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, server, until string, last, rate time.Duration, out string) error {
	to := time.Now()
	if until != "" {
		var err error
		if to, err = time.Parse(time.RFC3339, until); err != nil {
			return fmt.Errorf("--until: %w", err)
		}
	}
	to = to.UTC().Truncate(time.Second)
	text, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	svg, err := picture(ctx, text, prometheus{url: server, from: to.Add(-last), to: to, rate: rate})
	if err != nil {
		return err
	}
	return os.WriteFile(out, svg, 0o644)
}

// dashboard is what of Grafana's JSON can be drawn.
type dashboard struct {
	Title      string
	Panels     []panel
	Templating struct {
		List []struct{ Name, AllValue string }
	}
}

type panel struct {
	Type, Title string
	GridPos     struct{ X, Y, W, H float64 }
	FieldConfig struct {
		Defaults struct {
			Unit       string
			Thresholds struct {
				Steps []struct {
					Color string
					Value *float64
				}
			}
		}
	}
	Targets []struct{ Expr, LegendFormat string }
}

// picture asks the server every panel's questions and draws the answers.
func picture(ctx context.Context, text []byte, server prometheus) ([]byte, error) {
	var board dashboard
	if err := json.Unmarshal(text, &board); err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	values := []string{"$__rate_interval", seconds(server.rate)}
	for _, v := range board.Templating.List {
		values = append(values, "$"+v.Name, v.AllValue)
	}
	variables := strings.NewReplacer(values...)
	c := newCanvas(board, server.from, server.to)
	for _, p := range board.Panels {
		var all []series
		for _, q := range p.Targets {
			answer, err := server.ask(ctx, variables.Replace(q.Expr), q.LegendFormat, p.Type == "stat")
			if err != nil {
				return nil, fmt.Errorf("panel %q: %w", p.Title, err)
			}
			all = append(all, answer...)
		}
		c.panel(p, all)
	}
	return c.end(), nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.0fs", d.Seconds()) }
