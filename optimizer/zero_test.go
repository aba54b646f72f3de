package optimizer

import (
	"math"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/oracle"
)

// What every optimizer does with zeros.

// factorWise holds the optimizers of pairs whose step of a factor is not preconditioned by the other one.
var factorWise = map[string]bool{"factor-muon": true, "adamw": true, "sgd": true, "spectron": true, "shampoo": true, "soap": true}

// zeroFactorMoves returns how far each factor of a pair moves when B is set to zero after two steps, so that its gradient to A
// is zero but A's moment is not, relative to the step that the same state gives with B in place.
func zeroFactorMoves(t *testing.T, name string, exact bool) (movedA, movedB float64) {
	t.Helper()
	rng := random(12, 3)
	values := pair("l", gaussian(rng, 10, 3), gaussian(rng, 6, 3), 2)
	cfg := setting(t, name, noDecay, func(c *Config) { c.Exact = exact })
	store := newStore(t, values...)
	s := newStepper(t, store, mustNew(t, cfg), paths(values)...)
	s.step(t, gradients(values, 1, 1)...)
	s.step(t, gradients(values, 1, 2)...)
	before := get(t, store, values[0].path)
	zero := value{path: values[1].path, x: mat.NewDense(6, 3, nil)}
	if err := store.GetVariable(zero.path).SetValue(tensors.FromFlatDataAndDimensions(oracle.Float32(zero.x), 6, 3)); err != nil {
		t.Fatal(err)
	}
	grads := gradients(values, 1, 3)
	grads[0].Zero()
	s.step(t, grads...)
	return mat.Norm(sub(get(t, store, values[0].path), before), 2), mat.Norm(get(t, store, values[1].path), 2)
}

// TestZeroFactor: a factor that is zero holds the other one still, also with a moment from before, and moves itself.
func TestZeroFactor(t *testing.T) {
	for _, info := range Known() {
		if !info.Pairs || factorWise[info.Name] {
			continue
		}
		for _, exact := range []bool{false, true} {
			movedA, movedB := zeroFactorMoves(t, info.Name, exact)
			if movedA != 0 || !(movedB > 0) || math.IsInf(movedB, 0) {
				t.Errorf("%s, exact %v: A moves by %g beside B = 0, B by %g", info.Name, exact, movedA, movedB)
			}
		}
	}
	if movedA, _ := zeroFactorMoves(t, "factor-muon", false); !(movedA > 0) {
		t.Error("factor-muon does not move A beside B = 0: the test has no bite")
	}
}

// TestZeroStart: from zero factors, zero gradients or both every optimizer gives numbers.
func TestZeroStart(t *testing.T) {
	eachOptimizer(t, func(t *testing.T, name string) {
		for _, exact := range []bool{false, true} {
			for _, zero := range []string{"A", "B", "both", "gradients", "all"} {
				values := mixture(name)
				grads := gradients(values, 1)
				for i, v := range values {
					side := v.spec.Side
					if zero == "all" || zero == "both" && side != "" || side != "" && string(side) == zero {
						values[i].x.Zero()
					}
					if zero == "gradients" || zero == "all" {
						grads[i].Zero()
					}
				}
				for i, x := range after(t, setting(t, name, func(c *Config) { c.Exact = exact }), values, grads, grads) {
					if err := oracle.Finite(x); err != nil {
						t.Errorf("exact %v, %s zero: %s: %v", exact, zero, values[i].path, err)
					}
				}
			}
		}
	})
}
