package optimizer

import (
	"fmt"
	"math"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// TestPoLoRAOracle holds the fourth step, which uses the diagonals of the three before it, against the oracle.
func TestPoLoRAOracle(t *testing.T) {
	// Float32: muon's 8 polar steps leave 5e-4 on average, as in TestMuonOracle; the worst was 4.6e-4. Exact: norms from above
	// by up to r^{2^-18}, 1.1e-5 for r = 16, and the stored results; 1.4e-6.
	tols := map[bool]float64{false: 2e-3, true: 3e-5}
	const s, steps = 2.0, 4
	for _, exact := range []bool{false, true} {
		worst := 0.0
		for _, rank := range []int{1, 4, 16} {
			for _, shape := range [][2]int{{40, 24}, {24, 40}} {
				for _, nesterov := range []bool{false, true} {
					if nesterov && (exact || rank != 4) {
						continue
					}
					m, n := shape[0], shape[1]
					name := fmt.Sprintf("%v r%d nesterov %v exact %v", shape, rank, nesterov, exact)
					rng := random(rank, m)
					a, b := gaussian(rng, m, rank), rounded(scaled(0.1, gaussian(rng, n, rank)))
					var grads [][]*mat.Dense
					for range steps {
						g := gaussian(rng, m, n)
						// Rows and columns of other curvature.
						g.Apply(func(i, j int, v float64) float64 { return v * math.Pow(0.9, float64(i+j)) }, g)
						grads = append(grads, []*mat.Dense{rounded(mul(g, b)), rounded(mul(g.T(), a))})
					}
					cfg := setting(t, "polora", func(c *Config) {
						c.LearningRate, c.WeightDecay, c.Nesterov, c.Exact, c.Beta2 = 0.5, 1, nesterov, exact, 0.9
					})
					values := pair("l", a, b, s)
					k := math.Sqrt(1 - cfg.WeightDecay*cfg.LearningRate)
					got := lastStep(t, cfg, values, grads, k)
					off := func(o oracle.PoLoRA) float64 {
						p, d, err := oracle.Pair{A: a, B: b}, oracle.Diagonals{}, error(nil)
						var before oracle.Pair
						for _, g := range grads {
							before = p
							if p, d, err = o.Step(p, d, g[0], g[1]); err != nil {
								t.Fatal(err)
							}
						}
						wantA, wantB := sub(p.A, scaled(k, before.A)), sub(p.B, scaled(k, before.B))
						return max(relative(got[0], wantA), relative(got[1], wantB))
					}
					o := oracle.PoLoRA{LearningRate: 0.5, Momentum: cfg.Momentum, Beta2: 0.9, Nesterov: nesterov, WeightDecay: 1,
						Damping: poloraDamping, S: s, Scale: math.Sqrt(float64(m) / float64(n))}
					e := off(o)
					worst = max(worst, e)
					if !(e <= tols[exact]) {
						t.Errorf("%s: off the oracle by %.1e, want at most %g", name, e, tols[exact])
					}
					for bite, change := range map[string]func(*oracle.PoLoRA){
						"beta2": func(o *oracle.PoLoRA) { o.Beta2 = 0.5 }, "damping": func(o *oracle.PoLoRA) { o.Damping = 0.1 },
						"momentum": func(o *oracle.PoLoRA) { o.Momentum = 0.7 }, "nesterov": func(o *oracle.PoLoRA) { o.Nesterov = !o.Nesterov },
						"scale": func(o *oracle.PoLoRA) { o.Scale *= 1.01 }, "s": func(o *oracle.PoLoRA) { o.S *= 1.01 },
					} {
						changed := o
						change(&changed)
						if !(off(changed) > tols[exact]) {
							t.Errorf("%s: passes with another %s", name, bite)
						}
					}
				}
			}
		}
		t.Logf("exact %v: worst %.1e", exact, worst)
	}
}

// TestPoLoRABound: the first-order move of W is within eta·scale in the spectral norm and both factors move equally far,
// however the factors are scaled; the first step follows lora-muon's direction.
func TestPoLoRABound(t *testing.T) {
	// The damping of C_A and C_B, 1e-4 of their largest eigenvalues, polar steps, and the rounding of a factor that is 1000 times
	// as large as its step; the worst was 1.4e-4.
	const tol = 1e-3
	const m, n, s = 30, 20, 2.0
	for _, c := range []float64{0.2, 1, 5} {
		rng := random(5, 2)
		a, b := rounded(scaled(c, gaussian(rng, m, 4))), rounded(scaled(1/c, gaussian(rng, n, 4)))
		g := gaussian(rng, m, n)
		grads := []*mat.Dense{rounded(scaled(s, mul(g, b))), rounded(scaled(s, mul(g.T(), a)))}
		step := func(name string) (dA, dB *mat.Dense) {
			got := after(t, setting(t, name, noDecay, func(cfg *Config) {
				if cfg.LearningRate = 0.5; name == "lora-muon" {
					cfg.Guard = false
				}
			}), pair("l", a, b, s), grads)
			return sub(got[0], a), sub(got[1], b)
		}
		dA, dB := step("polora")
		move := spectralNormOf(t, scaled(s, add(mul(dA, b.T()), mul(a, dB.T()))))
		bound := 0.5 * math.Sqrt(float64(m)/n)
		normA, normB := spectralNormOf(t, dA), spectralNormOf(t, dB)
		want := bound / (s * (spectralNormOf(t, a) + spectralNormOf(t, b)))
		t.Logf("A times %g: W moves by %.3f of the bound", c, move/bound)
		if !(move <= bound) || !(math.Abs(normA/want-1) <= tol) || !(math.Abs(normB/want-1) <= tol) {
			t.Errorf("A times %g: W moves by %.4f, the bound is %.4f; the factors by %.4g and %.4g, want %.4g",
				c, move, bound, normA, normB, want)
		}
		muonA, muonB := step("lora-muon")
		for i, d := range [][2]*mat.Dense{{dA, muonA}, {dB, muonB}} {
			e := relative(scaled(1/spectralNormOf(t, d[0]), d[0]), scaled(1/spectralNormOf(t, d[1]), d[1]))
			t.Logf("factor %d: %.1e from lora-muon's direction, norm off by %.1e", i, e, []float64{normA, normB}[i]/want-1)
			if !(e <= tol) {
				t.Errorf("A times %g: factor %d moves %.1e away from lora-muon's direction", c, i, e)
			}
		}
	}
}

// TestLargestEigenvalue: from above, within r^{2^-17} of ‖p‖₂ whatever the gap and the scale; zero for zero.
func TestLargestEigenvalue(t *testing.T) {
	const rounding = 2e-6 // 17 norms, whose errors are halved by each root
	for _, values := range [][]float64{
		{1, 1, 1, 1, 1}, {1, 0.999, 0.5, 0, 0}, {1, 1e-3, 0, 0, 0}, {1e-20, 3e-21, 0, 0, 0}, {1e15, 1e14, 1, 1, 1}, {0, 0, 0, 0, 0},
	} {
		p := rounded(must[*mat.Dense](t)(oracle.WithEigenvalues(3, values)))
		out, err := CallOnce(check.Backend(t), func(x *Node) *Node { return largestEigenvalue(x) }, batchOfOne(p))
		if err != nil {
			t.Fatal(err)
		}
		got, want := float64(tensors.MustCopyFlatData[float32](out)[0]), spectralNormOf(t, p)
		excess := math.Pow(5, math.Ldexp(1, -normSquarings-1))
		if !(got >= want*(1-rounding) && got <= want*(excess+rounding)) {
			t.Errorf("%v: %g, want %g", values, got, want)
		}
	}
}
