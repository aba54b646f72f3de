package run

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/polargo/polar/adapter"
	"github.com/polargo/polar/adapter/peft"
	"gonum.org/v1/gonum/mat"
)

func protecting(c *Config) { c.Optimizer, c.Init = "lora-muon-ogd", "lora" }

// pastAdapter trains an adapter of the given rank on other text and returns its folder.
func pastAdapter(t testing.TB, base string, rank int) string {
	t.Helper()
	cfg := tune(t, base, writeFile(t, "past.txt", words(200, 7)))
	cfg.Rank, cfg.Steps, cfg.Init = rank, 3, "lora"
	result, _ := mustRun(t, cfg)
	return result.Adapter
}

// matrixOf returns row-major float32 values as a matrix.
func matrixOf(data []float32, rows, cols int) *mat.Dense {
	wide := make([]float64, len(data))
	for i, value := range data {
		wide[i] = float64(value)
	}
	return mat.NewDense(rows, cols, wide)
}

// alongPast returns the largest part, over the layers, of what an adapter does that is along the directions of a past one.
func alongPast(t *testing.T, session *Session, past, now string) (largest float64) {
	t.Helper()
	load := func(dir string) *peft.Adapter {
		a, err := peft.Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	directions, err := adapter.DirectionsOf(session.decoder.Layers(), load(past))
	if err != nil {
		t.Fatal(err)
	}
	pairs := load(now).Pairs
	for _, d := range directions {
		i := slices.IndexFunc(pairs, func(p peft.Pair) bool { return p.Layer == d.Layer })
		p := pairs[i]
		var moved, block mat.Dense
		moved.Mul(matrixOf(p.A, p.FanOut, p.Rank), matrixOf(p.B, p.FanIn, p.Rank).T())
		block.Product(matrixOf(d.U, d.FanOut, d.Rank).T(), &moved, matrixOf(d.V, d.FanIn, d.Rank))
		largest = max(largest, mat.Norm(&block, 2)/mat.Norm(&moved, 2))
	}
	return largest
}

// TestProtect: a run leaves the directions of earlier adapters as they are, from a start that is zero and from others, says so in
// its plan, and goes on to the same bits after a cut although the earlier adapters are gone.
func TestProtect(t *testing.T) {
	const tol = 1e-5 // float32 factors; from a start that is not zero, of products that nearly cancel
	base, text := tinyModel(t), writeFile(t, "text.txt", words(300, 1))
	past, other := pastAdapter(t, base, 2), pastAdapter(t, base, 1)
	for _, init := range []string{"lora", "balanced", "pissa"} {
		cfg := tune(t, base, text)
		protecting(&cfg)
		cfg.Init, cfg.Protect = init, []string{past, other}
		session := mustPrepare(t, cfg)
		if notes := strings.Join(session.Plan.Notes, "\n"); !strings.Contains(notes, "protected: 6 of 6 layers") || !strings.Contains(notes, "(18 in all)") {
			t.Errorf("%s: the plan's notes do not say what is protected: %s", init, notes)
		}
		result, err := session.Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		free := cfg
		free.Out, free.Protect = filepath.Join(t.TempDir(), "free"), nil
		unprotected, _ := mustRun(t, free)
		kept, moved := alongPast(t, session, past, result.Adapter), alongPast(t, session, past, unprotected.Adapter)
		t.Logf("%s: %.1e of the change is along the earlier adapter, %.1e without protection", init, kept, moved)
		if !(kept <= tol) || !(moved > 1e-2) {
			t.Errorf("%s: %.1e of the change is along the earlier adapter, %.1e without protection", init, kept, moved)
		}
		if init != "lora" {
			continue
		}
		moving := filepath.Join(t.TempDir(), "adapter")
		if err := os.CopyFS(moving, os.DirFS(past)); err != nil {
			t.Fatal(err)
		}
		cut := cfg
		cut.Out, cut.Protect = filepath.Join(t.TempDir(), "cut"), []string{moving, other}
		ctx, before := cancelAfter(3)
		if _, _, err := execute(ctx, cut, before); !errors.Is(err, ErrInterrupted) {
			t.Fatalf("cut: %v, want ErrInterrupted", err)
		}
		if err := os.RemoveAll(moving); err != nil {
			t.Fatal(err)
		}
		resumed, _ := mustRun(t, Config{Resume: true, Out: cut.Out})
		if !slices.Equal(resumed.Losses, result.Losses) || newest(t, cut.Out).Weights != newest(t, cfg.Out).Weights {
			t.Errorf("losses of the resumed run %v, want %v", resumed.Losses, result.Losses)
		}
		cut.Resume, cut.Protect = true, []string{other}
		_, err = Prepare(context.Background(), cut, nil)
		mustSay(t, err, "other settings", "protect")
	}
}

// TestProtectRefuses: what cannot be protected is said in one line, before anything is trained.
func TestProtectRefuses(t *testing.T) {
	base, text := tinyModel(t), writeFile(t, "text.txt", words(200, 1))
	past := pastAdapter(t, base, 2)
	still := filepath.Join(t.TempDir(), "still")
	a, err := peft.Load(past)
	if err != nil {
		t.Fatal(err)
	}
	for i := range a.Pairs {
		clear(a.Pairs[i].A)
	}
	if err := peft.Save(still, a, nil); err != nil {
		t.Fatal(err)
	}
	narrow := filepath.Join(t.TempDir(), "narrow")
	for i, p := range a.Pairs {
		a.Pairs[i].FanOut, a.Pairs[i].A = p.FanOut-1, p.A[:(p.FanOut-1)*p.Rank]
	}
	if err := peft.Save(narrow, a, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   []string
	}{
		{"optimizer", func(c *Config) { c.Optimizer = "lora-muon" }, []string{"protect is only for lora-muon-ogd", "lora-muon would move"}},
		{"rank", func(c *Config) { c.Rank = 0 }, []string{"protect is only for adapters"}},
		{"budget", func(c *Config) { c.SpectralBudget = 1 }, []string{"protect and spectral-budget exclude each other"}},
		{"missing", func(c *Config) { c.Protect = []string{filepath.Join(t.TempDir(), "nothing")} }, []string{"protect: load adapter", "nothing", "no such file"}},
		{"widths", func(c *Config) { c.Protect = []string{narrow} }, []string{"protect " + narrow, "does not fit this model", "the model's weight is"}},
		{"still", func(c *Config) { c.Protect = []string{still} }, []string{"protect " + still, "changes nothing"}},
		{"elsewhere", func(c *Config) { c.Protect, c.Targets = []string{onlyLayer(t, past, "q_proj")}, []string{"k_proj"} },
			[]string{"none of its layers is trained here", "q_proj"}},
	} {
		cfg := tune(t, base, text)
		protecting(&cfg)
		cfg.Protect = []string{past}
		c.change(&cfg)
		_, err := Prepare(context.Background(), cfg, nil)
		if err == nil {
			t.Errorf("%s: no error", c.name)
			continue
		}
		mustSay(t, err, c.want...)
	}
}

// onlyLayer writes the pairs of an adapter whose layer's name ends as given, as another adapter.
func onlyLayer(t *testing.T, dir, suffix string) string {
	t.Helper()
	a, err := peft.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	kept := &peft.Adapter{Base: a.Base}
	for _, p := range a.Pairs {
		if strings.HasSuffix(p.Layer, suffix) {
			kept.Pairs = append(kept.Pairs, p)
		}
	}
	out := filepath.Join(t.TempDir(), "only")
	if err := peft.Save(out, kept, nil); err != nil {
		t.Fatal(err)
	}
	return out
}
