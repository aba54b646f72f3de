package optimizer

import (
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/oracle"
)

// TestExactStep: with Exact and without the guard, the change of each factor is the oracle's also where the factors are so
// badly conditioned that float32 loses the weak direction.
func TestExactStep(t *testing.T) {
	// The result is stored in float32: 6e-8 of the factor, of which the change is a tenth or more.
	const tol = 1e-5
	for _, cond := range []float64{1, 1e2, 1e3, 1e5} {
		a := must[*mat.Dense](t)(oracle.RandomMatrix(1, 40, 6, cond))
		b := must[*mat.Dense](t)(oracle.RandomMatrix(2, 30, 6, cond))
		g := gaussian(random(5, 5), 40, 30)
		values := pair("l", a, b, 1)
		for i := range values {
			values[i].x = must[*mat.Dense](t)(oracle.FromFloat32(oracle.Float32(values[i].x), values[i].x.RawMatrix().Rows, 6))
		}
		a, b = values[0].x, values[1].x
		gA, gB := mul(g, b), mul(g.T(), a)
		round := func(x *mat.Dense) *mat.Dense {
			rows, cols := x.Dims()
			return must[*mat.Dense](t)(oracle.FromFloat32(oracle.Float32(x), rows, cols))
		}
		gA, gB = round(gA), round(gB)
		cfg := setting(t, "lora-muon", noDecay, func(c *Config) { c.Exact, c.Guard, c.LearningRate, c.Scale = true, false, 1, "none" })
		got := after(t, cfg, values, []*mat.Dense{gA, gB})
		ref := oracle.LoRAMuon{LearningRate: 1, Momentum: cfg.Momentum, S: 1, Scale: 1}
		_, dA, dB, err := ref.Step(oracle.Pair{A: a, B: b}, gA, gB)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []*mat.Dense{dA, dB} {
			e := relative(sub(got[i], values[i].x), want)
			t.Logf("cond %g: factor %d changes within %.1e", cond, i, e)
			if !(e <= tol) {
				t.Errorf("cond %g: factor %d changes %.1e from the oracle, want %g", cond, i, e, tol)
			}
		}
	}
}
