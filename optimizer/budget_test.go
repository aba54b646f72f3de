package optimizer

import (
	"math"
	"strings"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
	"github.com/polargo/polar/param"
)

// applied applies a budget to pairs of one shape.
func applied(t testing.TB, b budget, as, bs []*mat.Dense) (outA, outB []*mat.Dense) {
	t.Helper()
	stack := func(xs []*mat.Dense) *tensors.Tensor {
		var flat []float32
		for _, x := range xs {
			flat = append(flat, oracle.Float32(x)...)
		}
		m, r := xs[0].Dims()
		return tensors.FromFlatDataAndDimensions(flat, len(xs), m, r)
	}
	out, err := CallOnceN(check.Backend(t), func(x []*Node) []*Node { return b.apply(x[0], x[1]) }, stack(as), stack(bs))
	if err != nil {
		t.Fatal(err)
	}
	split := func(x *tensors.Tensor) (out []*mat.Dense) {
		dims := x.Shape().Dimensions
		flat := tensors.MustCopyFlatData[float32](x)
		for i := range dims[0] {
			size := dims[1] * dims[2]
			out = append(out, must[*mat.Dense](t)(oracle.FromFloat32(flat[i*size:(i+1)*size], dims[1], dims[2])))
		}
		return out
	}
	return split(out[0]), split(out[1])
}

// budgetTol bounds, against the SVD of the product in float64, by how much the norm exceeds the budget and how far the product is
// from the oracle's, relative to the budget. Rounding of the factors to float32 alone is 6e-8·‖A‖·‖B‖. The worst here was 7.3e-6,
// of singular values a million times the budget beside one at the budget; 1.4e-7 else.
const budgetTol = 1e-5

// TestBudgetOracle: singular values of the product beyond the budget become it, or decay toward it, and no others change, for
// ranks 1 to 32, factors of condition number up to 1e3 (products up to 1e6) and products up to a million times the budget.
func TestBudgetOracle(t *testing.T) {
	const m, n = 60, 44
	worst := 0.0
	for _, r := range []int{1, 2, 7, 32} {
		for _, cond := range []float64{1, 1000} {
			a := rounded(must[*mat.Dense](t)(oracle.RandomMatrix(uint64(r), m, r, cond)))
			b := rounded(must[*mat.Dense](t)(oracle.RandomMatrix(uint64(r)+100, n, r, cond)))
			product := mul(a, b.T())
			norm := spectralNormOf(t, product)
			for _, over := range []float64{1.0001, 8, 1e6} {
				bound := norm / over
				want := must[*mat.Dense](t)(oracle.SpectralHardcap(product, bound))
				e := errorOfBudget(t, budget{bound: bound, decay: 1}, a, b, want, bound)
				worst = max(worst, e)
				if !(e <= budgetTol) {
					t.Errorf("r %d, condition %g, %g times the budget: off by %.1e of it, want %g", r, cond, over, e, budgetTol)
				}
				if e := errorOfBudget(t, budget{bound: bound * (1 + 10*budgetTol), decay: 1}, a, b, want, bound); e <= budgetTol {
					t.Errorf("r %d, condition %g, %g times the budget: a budget that is 1e-4 larger passes", r, cond, over)
				}
				if over > budgetReach {
					continue // such an overshoot decays toward a tenth of the norm
				}
				want = must[*mat.Dense](t)(oracle.SpectralClippedWeightDecay(product, bound, 0.3))
				e = errorOfBudget(t, budget{bound: bound, decay: 0.3}, a, b, want, spectralNormOf(t, want))
				worst = max(worst, e)
				if !(e <= budgetTol) {
					t.Errorf("r %d, condition %g, %g times the budget: decay off by %.1e, want %g", r, cond, over, e, budgetTol)
				}
			}
		}
	}
	t.Logf("worst error %.1e of the budget", worst)
}

// errorOfBudget returns the distance of the bounded product from want, and by how much its norm exceeds want's, in units of unit.
func errorOfBudget(t *testing.T, b budget, a, c, want *mat.Dense, unit float64) float64 {
	t.Helper()
	outA, outC := applied(t, b, []*mat.Dense{a}, []*mat.Dense{c})
	got := mul(outA[0], outC[0].T())
	excess := spectralNormOf(t, got) - spectralNormOf(t, want)
	return max(excess, spectralNormOf(t, sub(got, want))) / unit
}

// TestBudgetAwkward: factors that nearly cancel, unbalanced ones, rank-deficient ones.
func TestBudgetAwkward(t *testing.T) {
	const m, n, r, bound = 40, 30, 6, 0.2
	rng := random(8, 8)
	qA, qB := orthonormal(t, rng, m, r), orthonormal(t, rng, n, r)
	diagonal := func(power float64) *mat.Dense {
		d := mat.NewDense(r, r, nil)
		for i := range r {
			d.Set(i, i, math.Pow(10, power*float64(i)))
		}
		return d
	}
	low, turn := gaussian(rng, r, 2), orthonormal(t, rng, r, r)
	for name, c := range map[string]struct {
		a, b *mat.Dense
		tol  float64
	}{
		// ‖A‖·‖B‖ is 1e3 times the product, and the rounding of the factors 6e-5 of it.
		"opposed":    {mul(mul(qA, diagonal(0.6)), turn), mul(mul(qB, diagonal(-0.6)), turn), 30 * budgetTol},
		"unbalanced": {scaled(1e5, qA), scaled(1e-5, qB), budgetTol},
		"rank 2":     {mul(qA, mul(low, low.T())), qB, budgetTol},
		"both":       {mul(qA, mul(low, low.T())), mul(qB, mul(low, low.T())), budgetTol},
	} {
		a, b := rounded(c.a), rounded(c.b)
		want := must[*mat.Dense](t)(oracle.SpectralHardcap(mul(a, b.T()), bound))
		e := errorOfBudget(t, budget{bound: bound, decay: 1}, a, b, want, bound)
		t.Logf("%s: off by %.1e of the budget", name, e)
		if !(e <= c.tol) {
			t.Errorf("%s: off by %.1e of the budget, want %g", name, e, c.tol)
		}
	}
}

// TestBudgetLeavesAlone: pairs within the budget keep their bits, also beside one that is not, and zero factors stay zero.
func TestBudgetLeavesAlone(t *testing.T) {
	const m, n, r = 20, 14, 5
	rng := random(4, 4)
	as := []*mat.Dense{gaussian(rng, m, r), gaussian(rng, m, r), mat.NewDense(m, r, nil), gaussian(rng, m, r), mat.NewDense(m, r, nil)}
	bs := []*mat.Dense{gaussian(rng, n, r), gaussian(rng, n, r), gaussian(rng, n, r), mat.NewDense(n, r, nil), mat.NewDense(n, r, nil)}
	bs[1] = rounded(scaled(10, bs[1]))
	norm := spectralNormOf(t, mul(as[0], bs[0].T()))
	for _, mode := range []float64{1, 0.5} {
		outA, outB := applied(t, budget{bound: norm * (1 + 1e-6), decay: mode}, as, bs)
		for i := range as {
			moved := relative(outA[i], as[i]) + relative(outB[i], bs[i])
			if i == 1 && !(moved > 0.1) {
				t.Errorf("decay %g: the pair over the budget moved by %.1e only", mode, moved)
			}
			if i != 1 && moved != 0 {
				t.Errorf("decay %g: pair %d within the budget moved by %.1e", mode, i, moved)
			}
		}
	}
	broken := mat.DenseCopyOf(as[0])
	broken.Set(0, 0, math.NaN())
	if outA, _ := applied(t, budget{bound: 1, decay: 1}, []*mat.Dense{broken}, bs[:1]); !math.IsNaN(outA[0].At(0, 0)) {
		t.Error("a NaN became a number")
	}
}

// TestBudgetGauge: the bounded product is the same in every gauge of the pair, and the factors' balance what it was.
func TestBudgetGauge(t *testing.T) {
	const m, n, r, tol = 30, 24, 6, 1e-5 // rounding of A G and B G⁻ᵀ; 4e-7 here
	rng := random(5, 6)
	a, b := gaussian(rng, m, r), gaussian(rng, n, r)
	limit := budget{bound: spectralNormOf(t, mul(a, b.T())) / 3, decay: 1}
	outA, outB := applied(t, limit, []*mat.Dense{a}, []*mat.Dense{b})
	want := mul(outA[0], outB[0].T())
	before, now := mat.Norm(a, 2)/mat.Norm(b, 2), mat.Norm(outA[0], 2)/mat.Norm(outB[0], 2)
	if !(math.Abs(now/before-1) < 0.1) {
		t.Errorf("‖A‖/‖B‖ went from %.3f to %.3f", before, now)
	}
	for seed := range 3 {
		g := must[*mat.Dense](t)(oracle.RandomMatrix(uint64(seed), r, r, 10))
		var inverse mat.Dense
		if err := inverse.Inverse(g); err != nil {
			t.Fatal(err)
		}
		outA, outB := applied(t, limit, []*mat.Dense{rounded(mul(a, g))}, []*mat.Dense{rounded(mul(b, inverse.T()))})
		got, e := mul(outA[0], outB[0].T()), 0.0
		if e = relative(got, want); !(e <= tol) {
			t.Errorf("gauge %d: the product moved by %.1e, want %g", seed, e, tol)
		}
		if e := relative(outA[0], mul(mul(a, g), mul(inverse.T(), inverse.T()))); !(e > tol) {
			t.Errorf("gauge %d does nothing", seed)
		}
	}
}

// TestBudgetEveryStep: whatever the optimizer, s·‖A Bᵀ‖ is at most beta after every step, which without a budget it is not.
func TestBudgetEveryStep(t *testing.T) {
	const beta, steps = 0.5, 6
	eachOptimizer(t, func(t *testing.T, name string) {
		if !takesPairs(name) {
			_, err := New(setting(t, name, func(c *Config) { c.SpectralBudget = beta }))
			if err == nil || !strings.Contains(err.Error(), "only for low-rank pairs") {
				t.Errorf("error %v for a budget without pairs", err)
			}
			return
		}
		norms := func(cfg Config) (worst float64) {
			values := mixture(name)
			store := newStore(t, values...)
			s := newStepper(t, store, mustNew(t, cfg), paths(values)...)
			for seed := range steps {
				s.step(t, gradients(values, 1, seed)...)
				for i, v := range values {
					if v.spec.Side == param.SideB {
						product := mul(get(t, store, values[i-1].path), get(t, store, v.path).T())
						worst = max(worst, v.spec.S()*spectralNormOf(t, product))
					}
				}
			}
			return worst
		}
		plain, bounded := norms(setting(t, name)), norms(setting(t, name, func(c *Config) { c.SpectralBudget = beta }))
		if !(bounded <= beta*(1+budgetTol)) || !(bounded > 0.99*beta) || !(plain > 2*beta) {
			t.Errorf("largest norm %g, without a budget %g; want %g", bounded, plain, beta)
		}
	})
}

// TestBudgetEquilibrium: steps of norm eta in one direction settle where clipped decay takes away what they add, at
// b + (1 - l)/l·eta after the decay, and a hardcap at b.
func TestBudgetEquilibrium(t *testing.T) {
	// The step's second-order term adds eta²/(4 sigma), 0.25 % of eta at the budget; and 200 steps leave 0.9²⁰⁰ of the start.
	const beta, eta, s, r, tol = 1.0, 0.01, 2.0, 3, 0.005
	rng := random(3, 3)
	u, v := orthonormal(t, rng, 16, r), orthonormal(t, rng, 12, r)
	settle := func(mode string, l float64) float64 {
		values := pair("layer", scaled(0.5, u), scaled(0.5, v), s)
		cfg := setting(t, "lora-muon", noDecay, func(c *Config) {
			c.LearningRate, c.Scale, c.Momentum = eta, "none", 0
			c.SpectralBudget, c.SpectralBudgetMode, c.SpectralBudgetDecay = beta, mode, l
		})
		grads := make([][]*mat.Dense, 200) // of W: -u vᵀ
		for i := range grads {
			grads[i] = []*mat.Dense{scaled(-1, u), scaled(-1, v)}
		}
		out := after(t, cfg, values, grads...)
		return s * spectralNormOf(t, mul(out[0], out[1].T()))
	}
	for _, l := range []float64{0.1, 0.5} {
		want := beta + (1-l)/l*eta
		if got := settle(BudgetClippedDecay, l); !(math.Abs(got-want) <= tol*(want-beta)) {
			t.Errorf("decay %g: settles at %.5f, want %.5f", l, got, want)
		}
	}
	if got := settle(BudgetHardcap, 0.1); !(math.Abs(got-beta) <= budgetTol) {
		t.Errorf("hardcap: settles at %.6f, want %g", got, beta)
	}
}

// TestBudgetErrors: settings that cannot work are named.
func TestBudgetErrors(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"spectral budget must be 0 or more and finite, got -1": func(c *Config) { c.SpectralBudget = -1 },
		"got NaN":             func(c *Config) { c.SpectralBudget = math.NaN() },
		`unknown mode "hard"`: func(c *Config) { c.SpectralBudget, c.SpectralBudgetMode = 1, "hard" },
		"must be in (0, 1], got 1.5": func(c *Config) {
			c.SpectralBudget, c.SpectralBudgetMode, c.SpectralBudgetDecay = 1, BudgetClippedDecay, 1.5
		},
		"known: hardcap, clipped-decay": func(c *Config) { c.SpectralBudget, c.SpectralBudgetMode = 1, "" },
	} {
		if _, err := New(setting(t, "lora-muon", change)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	lone := pair("layer", gaussian(random(1, 1), 4, 2), gaussian(random(1, 1), 3, 2), 1)[:1]
	o := mustNew(t, setting(t, "sgd", func(c *Config) { c.SpectralBudget = 1 }))
	err := newStepper(t, newStore(t, lone...), o, lone[0].path).try(gaussian(random(1, 1), 4, 2))
	if err == nil || !strings.Contains(err.Error(), "no trainable factor B") {
		t.Errorf("error %v for a factor without its partner", err)
	}
}
