package main

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
)

func TestDashboardIsFresh(t *testing.T) {
	want, err := render()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../" + path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not the present one; run make dashboard (%v)", path, err)
	}
	again, err := render()
	if err != nil || !bytes.Equal(again, want) {
		t.Errorf("two dashboards differ; %v", err)
	}
}

// No panel covers another or leaves the grid, each has its own id, and each query asks the data source that the reader chose.
func TestPanels(t *testing.T) {
	text, err := render()
	if err != nil {
		t.Fatal(err)
	}
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
	if err := json.Unmarshal(text, &dashboard); err != nil {
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
