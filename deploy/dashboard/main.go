// Command dashboard writes the Grafana dashboard of the webhook and the agents, as a file that Grafana imports.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
)

const path = "deploy/chart/kms-agent-injector/monitoring/dashboard.json"

func main() {
	text, err := render()
	if err == nil {
		err = os.WriteFile(path, text, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "dashboard:", err)
		os.Exit(1)
	}
}

// A panel is one picture: a query or more over time, or a single number.
type panel struct {
	title, about string
	kind         string // timeseries or stat
	unit         string // as Grafana calls it
	width        int    // of 24
	queries      []query
	steps        []step // colours of a stat
}

type query struct{ expr, legend string }

// step is a colour from a value on.
type step struct {
	Color string   `json:"color"`
	Value *float64 `json:"value"` // nil: from the beginning
}

const height = 8

// render is the dashboard's JSON: equal every time.
func render() ([]byte, error) {
	var all []any
	id, y := 1, 0
	for _, row := range rows {
		all = append(all, object{"id": id, "type": "row", "title": row.title, "collapsed": false, "panels": []any{}, "gridPos": object{"x": 0, "y": y, "w": 24, "h": 1}})
		id, y = id+1, y+1
		x := 0
		for _, p := range row.panels {
			if x+p.width > 24 {
				x, y = 0, y+height
			}
			all = append(all, p.object(id, x, y))
			id, x = id+1, x+p.width
		}
		y += height
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(object{
		"title": "KMS agent injector", "uid": "kms-agent-injector", "tags": []string{"kms", "secrets"}, "schemaVersion": 39, "version": 1,
		"description": "Admission of annotated pods, and the agents that keep their secrets fresh.",
		"editable":    true, "graphTooltip": 1, "refresh": "1m", "timezone": "", "time": object{"from": "now-3h", "to": "now"},
		"templating": object{"list": variables}, "annotations": object{"list": []any{}}, "links": []any{}, "panels": all,
	})
	return out.Bytes(), err
}

// object is one of JSON; its keys are written sorted.
type object = map[string]any

var source = object{"type": "prometheus", "uid": "${datasource}"}

// variables are what the reader chooses.
var variables = []any{
	object{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0},
	object{
		"name": "namespace", "label": "Namespace of the pods", "type": "query", "datasource": source, "refresh": 2, "sort": 1,
		"query":      object{"query": "label_values(kms_agent_refresh_interval_seconds, namespace)", "refId": "namespace"},
		"includeAll": true, "multi": true, "allValue": ".*", "current": object{"text": "All", "value": "$__all"},
	},
}

func (p panel) object(id, x, y int) object {
	var targets []any
	for i, q := range p.queries {
		targets = append(targets, object{"refId": string(rune('A' + i)), "datasource": source, "expr": q.expr, "legendFormat": q.legend, "range": p.kind == "timeseries", "instant": p.kind == "stat"})
	}
	defaults := object{"unit": p.unit}
	options := object{"legend": object{"displayMode": "list", "placement": "bottom", "showLegend": true}, "tooltip": object{"mode": "multi", "sort": "desc"}}
	if p.kind == "stat" {
		defaults["thresholds"] = object{"mode": "absolute", "steps": p.steps}
		options = object{"colorMode": "background", "graphMode": "none", "reduceOptions": object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false}}
	} else {
		defaults["min"] = 0
		defaults["custom"] = object{"drawStyle": "line", "fillOpacity": 10, "lineWidth": 1, "showPoints": "never"}
	}
	return object{
		"id": id, "type": p.kind, "title": p.title, "description": p.about, "datasource": source, "targets": targets, "options": options,
		"fieldConfig": object{"defaults": defaults, "overrides": []any{}}, "gridPos": object{"x": x, "y": y, "w": p.width, "h": height},
	}
}
