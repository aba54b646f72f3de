package optimizer

import (
	"fmt"
	"math"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/oracle"
)

// lossTol bounds how far an invariance may move the final loss of a run of 60 steps.
const lossTol = 1e-4

// TestScalarGaugeRuns: (A, B) → (cA, B/c) changes neither the loss nor the weights of a whole run; Muon on each factor,
// which is what others do, is changed. The rate decays, because at a constant one a run ends oscillating, which amplifies
// rounding: up to 4e-5 in the loss from a zero factor, here 1.2e-7.
func TestScalarGaugeRuns(t *testing.T) {
	run := func(name, kind string, c float64) (float64, *mat.Dense) {
		n := newNet(t, start{rank: 8, s: 2, c: c, kind: kind})
		cfg := setting(t, name, func(c *Config) { c.Schedule = Schedule{Kind: "linear", Steps: netSteps} })
		losses := n.run(t, mustNew(t, cfg), netSteps)
		return last(losses), n.weight(t, "w1")
	}
	for _, kind := range []string{"balanced", "zero", "1e-3"} {
		want, weight := run("lora-muon", kind, 1)
		for _, c := range []float64{3, 9, 27, 99} {
			got, moved := run("lora-muon", kind, c)
			t.Logf("%s, c = %g: loss %.6f, moved %.1e, weight moved %.1e", kind, c, got, got-want, relative(moved, weight))
			if !(math.Abs(got-want) <= lossTol) || !(relative(moved, weight) <= lossTol) {
				t.Errorf("%s, c = %g: loss %.6f, want %.6f; weight moved by %.1e", kind, c, got, want, relative(moved, weight))
			}
		}
	}
	plain, _ := run("factor-muon", "balanced", 1)
	if moved, _ := run("factor-muon", "balanced", 9); !(math.Abs(moved-plain) > 100*lossTol) {
		t.Errorf("factor-muon moves by %.1e only: the test has no bite", moved-plain)
	}
}

// TestGeneralGauge: (A, B) → (A G, B G⁻ᵀ) for any invertible G, with moments carried as gradients are, leaves the first
// order of the step on W unchanged, ΔA Bᵀ + A ΔBᵀ.
func TestGeneralGauge(t *testing.T) {
	// The polar factor sees the same matrix up to a rotation, so its error is the same; rounding made 7.6e-5 at most.
	const tol = 5e-4
	const m, n, r = 40, 30, 6
	rng := random(11, 11)
	a, b := gaussian(rng, m, r), gaussian(rng, n, r)
	grads := []*mat.Dense{gaussian(rng, m, n), gaussian(rng, m, n)}
	cfg := setting(t, "lora-muon")
	// firstOrder returns the first-order move of W in the second step, whose moments hold both gradients.
	firstOrder := func(a, b, carry *mat.Dense) *mat.Dense {
		var factorGrads [][]*mat.Dense
		for i, g := range grads {
			gA, gB := mul(g, b), mul(g.T(), a)
			if i == 0 && carry != nil {
				gA = mul(gA, carry)
			}
			factorGrads = append(factorGrads, []*mat.Dense{gA, gB})
		}
		values := pair("layer", a, b, 1)
		before, now := after(t, cfg, values, factorGrads[:1]...), after(t, cfg, values, factorGrads...)
		dA, dB := increments(cfg, before, now)
		return add(mul(dA, before[1].T()), mul(before[0], dB.T()))
	}
	want := firstOrder(a, b, nil)
	for seed := range 5 {
		g := must[*mat.Dense](t)(oracle.RandomMatrix(uint64(seed), r, r, 10))
		var inverse mat.Dense
		if err := inverse.Inverse(g); err != nil {
			t.Fatal(err)
		}
		got := firstOrder(mul(a, g), mul(b, inverse.T()), nil)
		t.Logf("G %d: first-order step moved by %.2e", seed, relative(got, want))
		if !(relative(got, want) <= tol) {
			t.Errorf("G %d: first-order step moved by %.2e, want at most %g", seed, relative(got, want), tol)
		}
		if bite := firstOrder(mul(a, g), mul(b, inverse.T()), g); !(relative(bite, want) > 10*tol) {
			t.Errorf("G %d: passes with moments that are not carried", seed)
		}
	}
}

// TestAlphaKeepsPath: s does not matter to the path of W, from the same s·A Bᵀ.
func TestAlphaKeepsPath(t *testing.T) {
	run := func(name string, s float64) float64 {
		n := newNet(t, start{rank: 8, s: s, c: 1, kind: "balanced"})
		return last(n.run(t, mustNew(t, setting(t, name)), netSteps))
	}
	want := run("lora-muon", 1)
	for _, s := range []float64{0.25, 2, 32} {
		got := run("lora-muon", s)
		t.Logf("s = %g: loss %.6f, moved %.1e", s, got, got-want)
		if !(math.Abs(got-want) <= lossTol) {
			t.Errorf("s = %g: loss %.6f, want %.6f within %g", s, got, want, lossTol)
		}
	}
	if moved := run("factor-muon", 32) - run("factor-muon", 1); !(math.Abs(moved) > 100*lossTol) {
		t.Errorf("factor-muon moves by %.1e only: the test has no bite", moved)
	}
}

// TestRebalance: moving scale between the factors, with their moments, does not move W and does balance them.
func TestRebalance(t *testing.T) {
	const tol = 5e-5 // the published shift of the final loss
	imbalance := func(n *net) float64 {
		a, b := get(t, n.store, "/adapter/w1/A"), get(t, n.store, "/adapter/w1/B")
		return mat.Norm(a, 2) / mat.Norm(b, 2)
	}
	steps := netSteps
	run := func(every int, exponent float64, between ...func(*net)) (float64, *net) {
		cfg := setting(t, "lora-muon", func(c *Config) { c.RebalanceEvery, c.RebalanceExponent = every, exponent })
		n := newNet(t, start{rank: 8, s: 1, c: 9, kind: "balanced"})
		var hooks []func()
		for _, do := range between {
			hooks = append(hooks, func() { do(n) })
		}
		return last(n.run(t, mustNew(t, cfg), steps, hooks...)), n
	}
	want, never := run(0, 1)
	for _, c := range []struct {
		every    int
		exponent float64
	}{{1, 1}, {1, 0.25}, {10, 1}} {
		t.Run(fmt.Sprintf("every%d/%g", c.every, c.exponent), func(t *testing.T) {
			got, n := run(c.every, c.exponent)
			t.Logf("loss moved by %.1e, ‖A‖/‖B‖ %.3f, was %.1f", got-want, imbalance(n), imbalance(never))
			if !(math.Abs(got-want) <= tol) {
				t.Errorf("loss %.6f, want %.6f within %g", got, want, tol)
			}
			if !(math.Abs(imbalance(n)-1) < 0.05) { // the steps between disturb it again
				t.Errorf("‖A‖/‖B‖ is %.3f, want 1", imbalance(n))
			}
		})
	}
	if !(imbalance(never) > 10) {
		t.Errorf("‖A‖/‖B‖ is %.3f without rebalancing: nothing to do", imbalance(never))
	}
	steps = 9
	if _, n := run(10, 1); !(imbalance(n) > 10) {
		t.Errorf("‖A‖/‖B‖ is %.3f after 9 steps: rebalanced before the tenth", imbalance(n))
	}
	steps = netSteps
	swing := 3.0
	got, _ := run(0, 1, func(n *net) { // scale moves forth and back, but the moments stay
		multiply(t, n, "A", swing)
		multiply(t, n, "B", 1/swing)
		swing = 1 / swing
	})
	if !(math.Abs(got-want) > 10*tol) {
		t.Errorf("loss moves by %.1e only when the moments are not carried: the test has no bite", got-want)
	}
}

// TestRebalanceZero: a pair with a zero factor has nothing to balance and stays finite.
func TestRebalanceZero(t *testing.T) {
	a := gaussian(random(1, 1), 6, 2)
	cfg := setting(t, "lora-muon", noDecay, func(c *Config) { c.RebalanceEvery = 1 })
	got := after(t, cfg, pair("layer", a, mat.NewDense(4, 2, nil), 1), []*mat.Dense{scaled(0, a), mat.NewDense(4, 2, nil)})
	if relative(got[0], a) != 0 || mat.Norm(got[1], 2) != 0 {
		t.Errorf("A moved by %.1e, B is %v", relative(got[0], a), got[1].RawMatrix().Data)
	}
}

// multiply scales one factor of each layer of a net.
func multiply(t *testing.T, n *net, side string, c float64) {
	t.Helper()
	for _, layer := range []string{"w1", "w2"} {
		path := "/adapter/" + layer + "/" + side
		x := scaled(c, get(t, n.store, path))
		rows, cols := x.Dims()
		if err := n.store.GetVariable(path).SetValue(tensors.FromFlatDataAndDimensions(oracle.Float32(x), rows, cols)); err != nil {
			t.Fatal(err)
		}
	}
}
