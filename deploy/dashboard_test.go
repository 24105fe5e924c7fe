package deploy_test

import (
	"encoding/json"
	"testing"
)

const (
	dashboardFile     = "chart/kms-agent-injector/monitoring/dashboard.json"
	syncDashboardFile = "chart/kms-sync/monitoring/dashboard.json"
)

// No panel overlaps another or leaves the grid, ids are unique, and each query uses the selected data source.
func TestPanels(t *testing.T) {
	for _, file := range []string{dashboardFile, syncDashboardFile} {
		t.Run(file, func(t *testing.T) { checkPanels(t, file) })
	}
}

func checkPanels(t *testing.T, file string) {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			ID          int
			Title, Type string
			Description string
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct {
				RefID, Expr string
				Datasource  struct{ UID string }
			}
		}
	}
	if err := json.Unmarshal([]byte(read(t, file)), &dashboard); err != nil {
		t.Fatal(err)
	}
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s is on top of %q at %d, %d", p.Title, other, x, y)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("%s says nothing about itself, or asks nothing", p.Title)
		}
		for _, q := range p.Targets {
			if q.Expr == "" || q.Datasource.UID != "${datasource}" {
				t.Errorf("%s asks %q of %q", p.Title, q.Expr, q.Datasource.UID)
			}
		}
	}
}
