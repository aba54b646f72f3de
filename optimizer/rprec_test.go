package optimizer

import (
	"fmt"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/oracle"
)

// rprecReference returns the pair's increments over the last of the given gradients, by the oracle.
func rprecReference(t *testing.T, o oracle.RPrecAdamW, a, b *mat.Dense, grads [][]*mat.Dense) (dA, dB *mat.Dense) {
	t.Helper()
	var momentsA, momentsB oracle.Moments
	var before [2]*mat.Dense
	for i, g := range grads {
		before = [2]*mat.Dense{a, b}
		var err error
		if a, b, momentsA, momentsB, err = o.Step(a, b, momentsA, momentsB, g[0], g[1], i+1); err != nil {
			t.Fatal(err)
		}
	}
	return sub(a, before[0]), sub(b, before[1])
}

// TestRPrecOracle holds the third step, which uses the moments of the two before it, against the oracle: ranks, imbalance of the
// factors, and exact steps for factors of any condition number.
func TestRPrecOracle(t *testing.T) {
	// Float32: 6e-8·cond² in the weakest direction of the Gram matrix, and differences of values of about one that move by
	// 0.1; the worst was 1.8e-5. Exact: the same differences alone; 2.3e-7.
	tols := map[bool]float64{false: 1e-4, true: 5e-6}
	worst := map[bool]float64{}
	for _, exact := range []bool{false, true} {
		for _, rank := range []int{1, 4, 16} {
			for _, cond := range []float64{1, 20, 1e4} {
				if cond > 20 && !exact {
					continue
				}
				name := fmt.Sprintf("exact=%v/r%d/cond%g", exact, rank, cond)
				a := rounded(scaled(3, must[*mat.Dense](t)(oracle.RandomMatrix(1, 40, rank, cond))))
				b := rounded(scaled(0.5, must[*mat.Dense](t)(oracle.RandomMatrix(2, 24, rank, cond))))
				rng := random(rank, 11)
				var grads [][]*mat.Dense
				for range 3 {
					grads = append(grads, []*mat.Dense{gaussian(rng, 40, rank), gaussian(rng, 24, rank)})
				}
				cfg := setting(t, "rprec-adamw", func(c *Config) {
					c.Exact, c.LearningRate, c.WeightDecay, c.Epsilon, c.Beta2 = exact, 0.1, 0.5, 1e-3, 0.99
				})
				values := pair("l", a, b, 2)
				second, third := lastTwo(t, cfg, values, grads)
				adam := oracle.Adam{LearningRate: 0.1, Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-3, WeightDecay: 0.5}
				want := oracle.RPrecAdamW{Adam: adam, Ridge: riemannianRidge}
				off := func(o oracle.RPrecAdamW) float64 {
					dA, dB := rprecReference(t, o, a, b, grads)
					return max(relative(sub(third[0], second[0]), dA), relative(sub(third[1], second[1]), dB))
				}
				e := off(want)
				worst[exact] = max(worst[exact], e)
				if !(e <= tols[exact]) {
					t.Errorf("%s: off the oracle by %.1e, want at most %g", name, e, tols[exact])
				}
				for bite, change := range map[string]func(*oracle.RPrecAdamW){
					"ridge":   func(o *oracle.RPrecAdamW) { o.Ridge = 1e-2 },
					"beta2":   func(o *oracle.RPrecAdamW) { o.Beta2 = 0.98 },
					"epsilon": func(o *oracle.RPrecAdamW) { o.Epsilon = 2e-3 },
					"decay":   func(o *oracle.RPrecAdamW) { o.WeightDecay = 0.51 },
				} {
					if bite == "epsilon" && cond > 20 {
						continue // nothing beside preconditioned gradients that large
					}
					changed := want
					change(&changed)
					if !(off(changed) > tols[exact]) {
						t.Errorf("%s: passes with another %s", name, bite)
					}
				}
			}
		}
	}
	t.Logf("worst: float32 %.1e, exact %.1e", worst[false], worst[true])
}

// TestRPrecOrthonormal: beside orthonormal factors the preconditioners are 1/(1+δ), and the step is AdamW's.
func TestRPrecOrthonormal(t *testing.T) {
	const tol = 1e-5 // rounding of the inverse, passed on by steps of 0.01 from values of about 0.1
	rng := random(8, 8)
	a, b := rounded(orthonormal(t, rng, 40, 6)), rounded(orthonormal(t, rng, 24, 6))
	values := pair("l", a, b, 1)
	grads := gradients(values, 1)
	step := func(name string) []*mat.Dense {
		return after(t, setting(t, name, noDecay, func(c *Config) { c.LearningRate = 0.01 }), values, grads)
	}
	got, want := step("rprec-adamw"), step("adamw")
	for i := range got {
		if e := relative(sub(got[i], values[i].x), sub(want[i], values[i].x)); !(e <= tol) {
			t.Errorf("factor %d: off AdamW by %.1e", i, e)
		}
	}
	values[1].x = rounded(mul(b, mat.NewDense(6, 6, []float64{ // another basis of the same column space
		1, 0.5, 0, 0, 0, 0, 0, 1, 0.5, 0, 0, 0, 0, 0, 1, 0.5, 0, 0, 0, 0, 0, 1, 0.5, 0, 0, 0, 0, 0, 1, 0.5, 0, 0, 0, 0, 0, 1})))
	if got, want = step("rprec-adamw"), step("adamw"); !(relative(sub(got[0], a), sub(want[0], a)) > 0.1) {
		t.Error("the step is AdamW's beside a factor that is not orthonormal too")
	}
}
