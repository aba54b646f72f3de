package optimizer

import (
	"fmt"
	"math"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/oracle"
)

// polarStep returns -factor·msign(direction), exact.
func polarStep(t *testing.T, direction *mat.Dense, factor float64) *mat.Dense {
	t.Helper()
	return scaled(-factor, must[*mat.Dense](t)(oracle.Msign(direction)))
}

// TestMuonOracle takes two steps and holds the second against the SVD: shapes, width scales, Nesterov, storage order.
func TestMuonOracle(t *testing.T) {
	const tol = 1.5e-3 // the polar factor's error, on average 5e-4; the worst here was 6.4e-4
	factors := map[string]func(m, n float64) float64{
		"rms": func(m, n float64) float64 { return math.Sqrt(m / n) }, "none": func(m, n float64) float64 { return 1 },
		"jordan": func(m, n float64) float64 { return math.Sqrt(max(1, m/n)) }, "moonlight": func(m, n float64) float64 { return 0.2 * math.Sqrt(max(m, n)) },
	}
	for _, shape := range [][2]int{{24, 10}, {10, 24}, {16, 16}, {1, 9}, {300, 200}} {
		for scale, factor := range factors {
			for _, nesterov := range []bool{false, true} {
				for _, transposed := range []bool{false, true} {
					name := fmt.Sprintf("%dx%d/%s/nesterov=%v/transposed=%v", shape[0], shape[1], scale, nesterov, transposed)
					if shape[0] == 300 && (scale != "rms" || nesterov) {
						continue
					}
					t.Run(name, func(t *testing.T) {
						cfg := setting(t, "muon", func(c *Config) { c.Scale, c.Nesterov, c.WeightDecay = scale, nesterov, 0.5 })
						eta := cfg.LearningRate * factor(float64(shape[0]), float64(shape[1]))
						got, direction := muonSecondStep(t, cfg, shape[0], shape[1], transposed)
						if e := relative(got, polarStep(t, direction, eta)); !(e <= tol) {
							t.Errorf("relative error %.2e, want at most %g", e, tol)
						}
						if e := relative(got, polarStep(t, direction, 1.005*eta)); !(e > tol) {
							t.Error("a step of another length passes")
						}
					})
				}
			}
		}
	}
}

// muonSecondStep takes two steps and returns the second without its decay, and the exact direction of its momentum.
func muonSecondStep(t *testing.T, cfg Config, m, n int, transposed bool) (step, direction *mat.Dense) {
	t.Helper()
	rng := random(m, n)
	w, g1, g2 := gaussian(rng, m, n), gaussian(rng, m, n), gaussian(rng, m, n)
	v := dense("/w", w)
	flip := func(x *mat.Dense) *mat.Dense { return x }
	if transposed {
		flip = func(x *mat.Dense) *mat.Dense { return mat.DenseCopyOf(x.T()) }
		v.spec.Transposed, v.x = true, flip(w)
	}
	first := flip(after(t, cfg, []value{v}, []*mat.Dense{flip(g1)})[0])
	second := flip(after(t, cfg, []value{v}, []*mat.Dense{flip(g1)}, []*mat.Dense{flip(g2)})[0])
	beta := cfg.Momentum
	direction = add(scaled(beta*(1-beta), g1), scaled(1-beta, g2))
	if cfg.Nesterov {
		direction = add(scaled(beta, direction), scaled(1-beta, g2))
	}
	return sub(second, scaled(1-cfg.WeightDecay*cfg.LearningRate, first)), direction
}

// TestFactorMuonOracle: each factor moves along its own polar factor, by the width scale of the layer's weight.
func TestFactorMuonOracle(t *testing.T) {
	const tol = 1.5e-3 // as TestMuonOracle
	const m, n, r = 30, 12, 5
	rng := random(6, 6)
	a, b, gA, gB := gaussian(rng, m, r), gaussian(rng, n, r), gaussian(rng, m, r), gaussian(rng, n, r)
	cfg := setting(t, "factor-muon", func(c *Config) { c.WeightDecay = 0.5 })
	got := after(t, cfg, pair("layer", a, b, 3), []*mat.Dense{gA, gB})
	k, eta := math.Sqrt(1-cfg.WeightDecay*cfg.LearningRate), cfg.LearningRate*math.Sqrt(float64(m)/n)
	for i, x := range []*mat.Dense{a, b} {
		direction := []*mat.Dense{gA, gB}[i]
		step := sub(got[i], scaled(k, x))
		if e := relative(step, polarStep(t, direction, eta)); !(e <= tol) {
			t.Errorf("factor %d: relative error %.2e, want at most %g", i, e, tol)
		}
		if e := relative(step, polarStep(t, direction, 1.005*eta)); !(e > tol) {
			t.Errorf("factor %d: a step of another length passes", i)
		}
	}
}

// TestStepLength: in units of the RMS-to-RMS norm a LoRA-Muon step of a first-order component is eta/2, whatever the
// width, rank and balance of the factors; Muon's is eta.
func TestStepLength(t *testing.T) {
	const tol = 2e-3 // of the largest singular value: the polar steps end in [0.999, 1.0004]
	rms := func(x *mat.Dense) float64 {
		m, n := x.Dims()
		return spectralNormOf(t, x) * math.Sqrt(float64(n)/float64(m))
	}
	for _, shape := range [][3]int{{24, 12, 4}, {48, 24, 4}, {12, 96, 8}, {40, 40, 40}} {
		m, n, r := shape[0], shape[1], shape[2]
		rng := random(m, r)
		a, b, g := scaled(7, gaussian(rng, m, r)), gaussian(rng, n, r), gaussian(rng, m, n)
		cfg := setting(t, "lora-muon", noDecay, func(c *Config) { c.Guard = false })
		got := after(t, cfg, pair("layer", a, b, 1), []*mat.Dense{mul(g, b), mul(g.T(), a)})
		lengths := []float64{rms(mul(sub(got[0], a), b.T())), rms(mul(a, sub(got[1], b).T()))}
		w := gaussian(rng, m, n)
		moved := after(t, setting(t, "muon", noDecay, func(c *Config) { c.LearningRate = 0.05 }), []value{dense("/w", w)}, []*mat.Dense{g})
		for _, length := range append(lengths, rms(sub(moved[0], w))) {
			if !(math.Abs(length-0.05) <= 0.05*tol) {
				t.Errorf("%v: a component of length %.6f, want 0.05", shape, length)
			}
		}
	}
}
